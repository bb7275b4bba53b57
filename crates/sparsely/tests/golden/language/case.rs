//! A case: a folder with its configuration, parameters, inputs, outputs and gradients.

use crate::case::{fixtures, json, named, root};
use serde_json::Value;
use sparsely::checkpoint::{Array, Arrays, read_npy};
use std::fs;
use std::path::PathBuf;

/// One folder.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) config: Value,
    pub(crate) params: Arrays,
    pub(crate) grads: Arrays,
    folder: PathBuf,
}

impl Case {
    /// `NAME.npy`, if it is there.
    pub(crate) fn array(&self, name: &str) -> Option<Array> {
        let path = self.folder.join(format!("{name}.npy"));
        path.is_file().then(|| read_npy(&path).unwrap())
    }

    /// `NAME.npy`.
    pub(crate) fn needed(&self, name: &str) -> Result<Array, String> {
        self.array(name).ok_or_else(|| format!("no {name}.npy"))
    }

    /// A size of the configuration.
    pub(crate) fn size(&self, key: &str) -> Option<usize> {
        self.config.get(key)?.as_u64().map(|size| size as usize)
    }

    /// A text of the configuration, or nothing.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.config.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn flag(&self, key: &str) -> bool {
        self.config.get(key).and_then(Value::as_bool).unwrap_or_default()
    }
}

/// The folder of the language cases: of `SPARSELY_GOLDEN` or committed.
pub(crate) fn folder() -> PathBuf {
    let inside = root().join("language");
    if inside.is_dir() { inside } else { root() }
}

/// Whether the cases are those that are committed.
pub(crate) fn are_committed() -> bool {
    root() == fixtures()
}

/// All cases, by name.
pub(crate) fn load_cases() -> Vec<Case> {
    let folder = folder();
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders.into_iter().filter_map(load).collect()
}

fn load(folder: PathBuf) -> Option<Case> {
    let config = json(&folder.join("config.json"))?;
    // The vision cases name no repository.
    config.get("repo")?;
    Some(Case {
        name: folder.file_name().unwrap().to_string_lossy().into_owned(),
        config,
        params: named(&folder, "params")?,
        grads: named(&folder, "grads")?,
        folder,
    })
}
