//! The folder of a run, and what lies in it.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::arrays::{ArrayRef, Arrays, check_named, check_shapes};
use super::atomic::{create_folder, is_temporary, write_atomic, write_json};
use super::manifest::{self, State};
use super::metrics::{self, MetricsWriter};
use super::safetensors::{Metadata, Stored, read_safetensors, stored, write_safetensors};
use crate::error::{Error, Result};
use sparsely_tensor::{Layout, Mapping, PackedSlab};

const CONFIG: &str = "config.toml";
const MODEL: &str = "model.safetensors";
const MODEL_JSON: &str = "model.json";
const STATE: &str = "state";
const METRICS: &str = "metrics.jsonl";

/// A folder with all that a run leaves behind:
///
/// ```text
/// config.toml        the configuration, resolved
/// model.safetensors  the parameters, for inference
/// model.json         what they are parameters of, for people and other programs
/// state/             what the run is resumed from
/// metrics.jsonl      one line per record
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFolder {
    path: PathBuf,
}

/// Parameters for inference, and what they are parameters of.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// The file they come from.
    pub path: PathBuf,
    /// The parameters by name.
    pub arrays: Arrays,
    /// What the caller saved with them.
    pub json: serde_json::Value,
}

/// Parameters that are left in their file until they are used, and what they are parameters of.
pub struct MappedModel {
    mapping: Mapping,
    arrays: BTreeMap<String, Stored>,
    /// What the caller saved with them.
    pub json: serde_json::Value,
}

impl MappedModel {
    /// The file.
    pub fn path(&self) -> &Path {
        self.mapping.path()
    }

    /// The parameters of `layout`, which must be exactly those of the file.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] telling all mismatches at once; values that are not those of their checksum,
    /// but for the kernels of stacks, which are held against theirs at their first use.
    pub fn params(self, layout: Arc<Layout>) -> Result<PackedSlab> {
        let shapes: Vec<_> =
            layout.views().iter().map(|view| (&*view.name, view.param.shape())).collect();
        let expected: Vec<(&str, &[usize])> = shapes.iter().map(|(n, s)| (*n, s.axes())).collect();
        let named = self.arrays.iter().map(|(name, array)| (&**name, &*array.shape));
        check_named(self.mapping.path(), named, &expected)?;
        let places = layout.views().iter().map(|view| self.arrays[&view.name].place.clone());
        let places = places.collect();
        Ok(PackedSlab::map(layout, self.mapping, places)?)
    }
}

impl Model {
    /// Checks that the arrays are exactly the `expected` names and shapes; see [`check_shapes`].
    ///
    /// # Errors
    ///
    /// [`Error::Format`] telling all mismatches at once.
    pub fn check_shapes(&self, expected: &[(&str, &[usize])]) -> Result<()> {
        check_shapes(&self.path, &self.arrays, expected)
    }
}

impl RunFolder {
    /// Makes the folder `path`, or else the next numbered one in `root`: `0001`, `0002`, …
    /// Two processes that ask at the same time get two folders.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], or [`Error::Format`] if `path` is there and is not an empty folder.
    pub fn create(path: Option<&Path>, root: &Path) -> Result<RunFolder> {
        match path {
            Some(path) => RunFolder::create_at(path),
            None => RunFolder::create_next(root),
        }
    }

    /// Makes the folder `path` of a run that is whole from the beginning: it appears with all that
    /// `fill` writes into it, or not at all.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] if there is something at `path`; [`Error::Io`]; those of `fill`.
    pub fn create_whole(
        path: &Path,
        fill: impl FnOnce(&RunFolder) -> Result<()>,
    ) -> Result<RunFolder> {
        create_folder(path, |temporary| fill(&RunFolder { path: temporary.to_path_buf() }))?;
        Ok(RunFolder { path: path.to_path_buf() })
    }

    fn create_at(path: &Path) -> Result<RunFolder> {
        let taken = |got: &str| Err(Error::format(path, "no run folder yet", got));
        if path.exists() && !path.is_dir() {
            return taken("a file");
        }
        fs::create_dir_all(path).map_err(Error::io("create", path))?;
        for entry in fs::read_dir(path).map_err(Error::io("list", path))? {
            let name = entry.map_err(Error::io("list", path))?.file_name();
            // A run that was killed as it began is no reason to refuse its folder.
            if !name.to_str().is_some_and(is_temporary) {
                return taken("a run folder that exists and is not empty");
            }
        }
        Ok(RunFolder { path: path.to_path_buf() })
    }

    fn create_next(root: &Path) -> Result<RunFolder> {
        fs::create_dir_all(root).map_err(Error::io("create", root))?;
        let mut last_number = 0_u64;
        for entry in fs::read_dir(root).map_err(Error::io("list", root))? {
            let name = entry.map_err(Error::io("list", root))?.file_name();
            let number = name.to_str().and_then(|name| name.parse().ok());
            last_number = last_number.max(number.unwrap_or(0));
        }
        loop {
            last_number = last_number.saturating_add(1);
            let path = root.join(format!("{last_number:04}"));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(RunFolder { path }),
                // Somebody was quicker; but the greatest number of all has no next one.
                Err(refused)
                    if refused.kind() == ErrorKind::AlreadyExists && last_number < u64::MAX => {}
                Err(refused) => return Err(Error::io("create", &path)(refused)),
            }
        }
    }

    /// Opens the folder of a run that was there before.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] if it holds no configuration.
    pub fn open(path: &Path) -> Result<RunFolder> {
        if path.join(CONFIG).is_file() {
            return Ok(RunFolder { path: path.to_path_buf() });
        }
        let got =
            if path.is_dir() { format!("a folder without `{CONFIG}`") } else { "none".into() };
        Err(Error::format(path, "the folder of a run", got))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the configuration of the run.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] naming the file.
    pub fn save_config(&self, text: &str) -> Result<()> {
        write_atomic(&self.path.join(CONFIG), |file| file.write_all(text.as_bytes()))
    }

    /// The configuration of the run, as it was written.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] naming the file.
    pub fn config(&self) -> Result<String> {
        let path = self.path.join(CONFIG);
        fs::read_to_string(&path).map_err(Error::io("read", &path))
    }

    /// Where the parameters for inference lie.
    pub fn model_path(&self) -> PathBuf {
        self.path.join(MODEL)
    }

    /// Where the configuration lies, for messages.
    pub fn config_path(&self) -> PathBuf {
        self.path.join(CONFIG)
    }

    /// Saves parameters for inference and what they are parameters of.
    ///
    /// `json` goes into the parameters' own file, so that the two always belong together, and
    /// into `model.json`, which only others read.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], or [`Error::Argument`] as of [`write_safetensors`].
    pub fn save_model(&self, arrays: &[ArrayRef], json: &serde_json::Value) -> Result<()> {
        let metadata = Metadata::from([(MODEL_JSON.to_string(), json.to_string())]);
        write_safetensors(&self.path.join(MODEL), arrays, &metadata)?;
        write_json(&self.path.join(MODEL_JSON), json)
    }

    /// The parameters saved last. A file of another program, which holds no description of its
    /// model, needs `model.json` beside it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], or [`Error::Format`] for a damaged file.
    pub fn load_model(&self) -> Result<Model> {
        let path = self.path.join(MODEL);
        let (arrays, metadata) = read_safetensors(&path)?;
        let json = self.description(&path, &metadata)?;
        Ok(Model { path, arrays, json })
    }

    /// The parameters saved last, left in their file; nothing where the file is not one that can be used as
    /// it lies, which [`RunFolder::load_model`] reads.
    ///
    /// # Errors
    ///
    /// As of [`RunFolder::load_model`].
    pub fn map_model(&self) -> Result<Option<MappedModel>> {
        let path = self.path.join(MODEL);
        let mapping = Mapping::open(&path).map_err(Error::io("read", &path))?;
        let Some((arrays, metadata)) = stored(&path, mapping.bytes())? else { return Ok(None) };
        let json = self.description(&path, &metadata)?;
        Ok(Some(MappedModel { mapping, arrays, json }))
    }

    fn description(&self, path: &Path, metadata: &Metadata) -> Result<serde_json::Value> {
        let (described_in, text) = match metadata.get(MODEL_JSON) {
            Some(text) => (path.to_path_buf(), text.clone()),
            None => {
                let beside = self.path.join(MODEL_JSON);
                let text = fs::read_to_string(&beside).map_err(Error::io("read", &beside))?;
                (beside, text)
            }
        };
        serde_json::from_str(&text).map_err(|error| {
            Error::format(&described_in, "a description of the model", error.to_string())
        })
    }

    /// What the parameters are parameters of, from `model.json` alone; `None` before there are any.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], or [`Error::Format`] if it is not JSON.
    pub fn model_json(&self) -> Result<Option<serde_json::Value>> {
        let path = self.path.join(MODEL_JSON);
        match fs::read(&path) {
            Err(refused) if refused.kind() == ErrorKind::NotFound => Ok(None),
            read => serde_json::from_slice(&read.map_err(Error::io("read", &path))?)
                .map(Some)
                .map_err(|e| Error::format(&path, "a description of the model", e.to_string())),
        }
    }

    /// Saves what the run is resumed from, and drops the state before it. A process killed at
    /// any moment leaves one of the two. Numbers in `extra` come back exactly if finite; JSON
    /// has no others.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], or [`Error::Argument`] as of [`write_safetensors`].
    pub fn save_state(
        &self,
        step: u64,
        arrays: &[ArrayRef],
        extra: serde_json::Value,
    ) -> Result<()> {
        let folder = self.path.join(STATE);
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        manifest::save_state(&folder, step, arrays, extra)
    }

    /// What the run is resumed from; `None` if it never came to a [`RunFolder::save_state`].
    ///
    /// # Errors
    ///
    /// [`Error::Io`], or [`Error::Format`] if a file's length or checksum is not what was saved.
    pub fn load_state(&self) -> Result<Option<State>> {
        manifest::load_state(&self.path.join(STATE))
    }

    /// Opens the metrics for appending. A run that is resumed calls
    /// [`RunFolder::truncate_metrics_after`] first.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] naming the file.
    pub fn metrics(&self) -> Result<MetricsWriter> {
        MetricsWriter::open(&self.path.join(METRICS))
    }

    /// Drops, all at once, the metrics of later steps than `step`, which the resumed run will
    /// write again, and a last line that was only half written. Lines without a `step` stay.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], or [`Error::Format`] if a line before the last is not JSON.
    pub fn truncate_metrics_after(&self, step: u64) -> Result<()> {
        metrics::truncate_after(&self.path.join(METRICS), step)
    }
}

#[cfg(test)]
mod tests;
