//! Which Parquet files of a folder belong to which split.

use std::path::{Path, PathBuf};

use crate::data::source::{entries, file_name};
use crate::{Error, Result};

/// The files of each split, in order; only `train` is never empty.
#[derive(Debug, Default)]
pub(crate) struct Shards {
    pub(crate) train: Vec<PathBuf>,
    pub(crate) validation: Vec<PathBuf>,
    pub(crate) test: Vec<PathBuf>,
}

/// The Parquet files of `root` (whose content is `root_entries`) or of its `data` folder;
/// `None` if there are none at all.
pub(crate) fn files(root: &Path, root_entries: &[PathBuf]) -> Result<Option<Shards>> {
    let mut files = root_entries.to_vec();
    let data = root.join("data");
    if data.is_dir() {
        files.extend(entries(&data)?);
    }
    files.retain(|path| path.extension().is_some_and(|extension| extension == "parquet"));
    if files.is_empty() {
        return Ok(None);
    }
    let shards = Shards {
        train: of_split(&files, &["train"])?,
        validation: of_split(&files, &["validation", "valid", "val"])?,
        test: of_split(&files, &["test"])?,
    };
    if shards.train.is_empty() {
        let got = format!("{} other Parquet files", files.len());
        return Err(Error::format(root, "training images in `train*.parquet`", got));
    }
    Ok(Some(shards))
}

/// The files called `<name>.parquet` or `<name>-….parquet`.
fn of_split(files: &[PathBuf], names: &[&str]) -> Result<Vec<PathBuf>> {
    let is_of_split = |path: &&PathBuf| {
        let file = file_name(path);
        let split = file.split(['-', '.']).next().unwrap_or_default();
        names.contains(&split)
    };
    let found: Vec<PathBuf> = files.iter().filter(is_of_split).cloned().collect();
    if let Some(first) = found.first()
        && let Some(whole) = shard_count(&file_name(first))
        && whole != found.len()
    {
        let got = format!("{} of them", found.len());
        return Err(Error::format(first, format!("one of {whole} files of its split"), got));
    }
    Ok(found)
}

/// 5 for `train-00000-of-00005.parquet`.
fn shard_count(name: &str) -> Option<usize> {
    let (_, count) = name.rsplit_once("-of-")?;
    count.split(['-', '.']).next()?.parse().ok()
}
