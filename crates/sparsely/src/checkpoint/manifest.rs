//! The resume state: a file of arrays, and a manifest written last that says which and vouches for it.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::arrays::{ArrayRef, Arrays};
use super::atomic::{remove_stale, write_atomic};
use super::safetensors::{Encoder, Metadata, parse};
use crate::error::{Error, Result};

const MANIFEST: &str = "manifest.json";
const STEP_PREFIX: &str = "step-";
const STEP_SUFFIX: &str = ".safetensors";

/// What a run is continued from.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Optimiser steps done.
    pub step: u64,
    /// Parameters, moments and whatever else was saved.
    pub arrays: Arrays,
    /// What the caller saved beside the arrays. Finite numbers come back exactly.
    pub extra: serde_json::Value,
}

/// Which file holds the state, and what its bytes must be.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    file: String,
    step: u64,
    bytes: u64,
    crc32: u32,
    extra: serde_json::Value,
}

/// Saves the state into `folder`, which must exist. A process killed at any moment leaves the
/// old state or the new one: the manifest, which is replaced last, never names a file that is
/// not all there.
pub(super) fn save_state(
    folder: &Path,
    step: u64,
    arrays: &[ArrayRef],
    extra: serde_json::Value,
) -> Result<()> {
    let encoder = Encoder::new(arrays, &Metadata::new())?;
    let file = free_name(folder, step)?;
    let mut sum = Sum { hasher: crc32fast::Hasher::new(), bytes: 0 };
    write_atomic(&folder.join(&file), |target| encoder.write(&mut Tee { target, sum: &mut sum }))?;
    let manifest = Manifest { file, step, bytes: sum.bytes, crc32: sum.hasher.finalize(), extra };
    write_atomic(&folder.join(MANIFEST), |target| {
        serde_json::to_writer_pretty(&mut *target, &manifest)?;
        target.write_all(b"\n")
    })?;
    remove_stale(folder, |name| is_step_file(name) && name != manifest.file)
}

/// The state saved last; `None` if none was.
pub(super) fn load_state(folder: &Path) -> Result<Option<State>> {
    let path = folder.join(MANIFEST);
    let text = match fs::read(&path) {
        Err(refused) if refused.kind() == ErrorKind::NotFound => return Ok(None),
        read => read.map_err(Error::io("read", &path))?,
    };
    let manifest: Manifest = serde_json::from_slice(&text)
        .map_err(|error| Error::format(&path, "a manifest of a state", error.to_string()))?;
    if !is_step_file(&manifest.file) {
        let expected = format!("`file` to be like `{STEP_PREFIX}00000001{STEP_SUFFIX}`");
        return Err(Error::format(&path, expected, format!("{:?}", manifest.file)));
    }
    let path = folder.join(&manifest.file);
    let bytes = read_vouched(&path, &manifest)?;
    let (arrays, _) = parse(&path, &bytes)?;
    Ok(Some(State { step: manifest.step, arrays, extra: manifest.extra }))
}

fn read_vouched(path: &PathBuf, manifest: &Manifest) -> Result<Vec<u8>> {
    let size = fs::metadata(path).map_err(Error::io("read", path))?.len();
    if size != manifest.bytes {
        let expected = format!("{} bytes as in `{MANIFEST}`", manifest.bytes);
        return Err(Error::format(path, expected, format!("{size} bytes")));
    }
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    let crc32 = crc32fast::hash(&bytes);
    if crc32 != manifest.crc32 {
        let expected = format!("checksum {:08x} as in `{MANIFEST}`", manifest.crc32);
        return Err(Error::format(path, expected, format!("{crc32:08x}")));
    }
    Ok(bytes)
}

/// A name that no file has yet: the one the manifest names must stay as it is until the end,
/// also when the same step is saved again.
fn free_name(folder: &Path, step: u64) -> Result<String> {
    let mut name = format!("{STEP_PREFIX}{step:08}{STEP_SUFFIX}");
    let mut attempt = 1_u64;
    while folder.join(&name).try_exists().map_err(Error::io("read", folder))? {
        attempt += 1;
        name = format!("{STEP_PREFIX}{step:08}-{attempt}{STEP_SUFFIX}");
    }
    Ok(name)
}

/// Whether `name` is one that [`free_name`] makes; such a name cannot lead out of the folder.
fn is_step_file(name: &str) -> bool {
    let number = name.strip_prefix(STEP_PREFIX).and_then(|rest| rest.strip_suffix(STEP_SUFFIX));
    number.is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit() || b == b'-'))
}

struct Sum {
    hasher: crc32fast::Hasher,
    bytes: u64,
}

/// Writes on, and sums up what was written.
struct Tee<'a> {
    target: &'a mut dyn Write,
    sum: &'a mut Sum,
}

impl Write for Tee<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.target.write(bytes)?;
        self.sum.hasher.update(&bytes[..written]);
        self.sum.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.target.flush()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NAME: &str = "step-00000050.safetensors";

    fn save(folder: &Path, step: u64, value: f32) {
        let array = ArrayRef { name: "w", shape: &[2], values: &[value, 2.0] };
        save_state(folder, step, &[array], json!({ "lr": 0.1 + 0.2, "seed": u64::MAX })).unwrap();
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_state_comes_back_exactly_and_only_the_last_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        assert_eq!(load_state(folder).unwrap(), None);
        fs::write(folder.join(".step-00000040.safetensors.x1.tmp"), "half").unwrap();
        save(folder, 40, 1.0);
        save(folder, 50, 3.0);
        assert_eq!(names(folder), [MANIFEST, NAME]);
        let state = load_state(folder).unwrap().unwrap();
        assert_eq!(state.step, 50);
        assert_eq!(state.arrays["w"].values, [3.0, 2.0]);
        assert_eq!(state.extra, json!({ "lr": 0.30000000000000004, "seed": u64::MAX }));
    }

    #[test]
    fn a_kill_before_the_manifest_leaves_the_old_state() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        save(folder, 50, 3.0);
        let manifest = fs::read(folder.join(MANIFEST)).unwrap();
        let old = fs::read(folder.join(NAME)).unwrap();
        for step in [50, 60] {
            // The same step again, and a later one: the arrays are there, the manifest is not.
            save(folder, step, 4.0);
            fs::write(folder.join(NAME), &old).unwrap();
            fs::write(folder.join(MANIFEST), &manifest).unwrap();
            assert_eq!(load_state(folder).unwrap().unwrap().arrays["w"].values, [3.0, 2.0]);
        }
        save(folder, 50, 5.0);
        assert_eq!(names(folder), [MANIFEST, "step-00000050-2.safetensors"]);
        assert_eq!(load_state(folder).unwrap().unwrap().arrays["w"].values, [5.0, 2.0]);
    }

    #[test]
    fn a_truncated_or_changed_file_is_one_line() {
        let folder = tempfile::tempdir().unwrap();
        save(folder.path(), 50, 3.0);
        let path = folder.path().join(NAME);
        let shown = path.display();
        let mut bytes = fs::read(&path).unwrap();
        let crc32 = crc32fast::hash(&bytes);
        bytes.pop();
        fs::write(&path, &bytes).unwrap();
        assert_eq!(
            load_state(folder.path()).unwrap_err().to_string(),
            format!("`{shown}`: expected 72 bytes as in `manifest.json`, got 71 bytes")
        );
        bytes.push(1);
        fs::write(&path, &bytes).unwrap();
        let got = crc32fast::hash(&bytes);
        assert_eq!(
            load_state(folder.path()).unwrap_err().to_string(),
            format!(
                "`{shown}`: expected checksum {crc32:08x} as in `manifest.json`, got {got:08x}"
            )
        );
        fs::remove_file(&path).unwrap();
        assert_eq!(
            load_state(folder.path()).unwrap_err().to_string(),
            format!("cannot read `{shown}`")
        );
    }

    #[test]
    fn a_manifest_cannot_lead_out_of_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(MANIFEST);
        let manifest = json!({ "file": "../step-1.safetensors", "step": 1, "bytes": 0, "crc32": 0, "extra": null });
        fs::write(&path, manifest.to_string()).unwrap();
        assert_eq!(
            load_state(folder.path()).unwrap_err().to_string(),
            format!(
                "`{}`: expected `file` to be like `step-00000001.safetensors`, \
                 got \"../step-1.safetensors\"",
                path.display()
            )
        );
        fs::write(&path, "{").unwrap();
        assert_eq!(
            load_state(folder.path()).unwrap_err().to_string(),
            format!(
                "`{}`: expected a manifest of a state, \
                 got EOF while parsing an object at line 1 column 1",
                path.display()
            )
        );
    }
}
