//! `metrics.jsonl`: one JSON object per line, only ever appended to, but for a resume.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::atomic::write_atomic;
use crate::error::{Error, Result};

/// Appends lines to a run's metrics; each is with the operating system when `append` returns.
#[derive(Debug)]
pub struct MetricsWriter {
    path: PathBuf,
    file: File,
}

impl MetricsWriter {
    pub(super) fn open(path: &Path) -> Result<MetricsWriter> {
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).open(path).map_err(Error::io("open", path))?;
        Ok(MetricsWriter { path: path.to_path_buf(), file })
    }

    /// Appends `record`, which should have a whole number `step`, as one line.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] naming the file.
    pub fn append(&mut self, record: &impl Serialize) -> Result<()> {
        let write_line = |file: &mut File| {
            let mut line = serde_json::to_vec(record)?;
            line.push(b'\n');
            file.write_all(&line) // one call, so that readers see whole lines
        };
        write_line(&mut self.file).map_err(Error::io("write", &self.path))
    }
}

/// Drops the lines whose `step` is greater than `last_step`, and a last line that a killed
/// process left half written.
pub(super) fn truncate_after(path: &Path, last_step: u64) -> Result<()> {
    let bytes = match fs::read(path) {
        Err(refused) if refused.kind() == ErrorKind::NotFound => return Ok(()),
        read => read.map_err(Error::io("read", path))?,
    };
    let lines: Vec<&[u8]> = bytes.split_inclusive(|&b| b == b'\n').collect();
    let mut kept = Vec::with_capacity(bytes.len());
    for (index, line) in lines.iter().enumerate() {
        let record: Value = match serde_json::from_slice(line) {
            Ok(record) => record,
            Err(_) if index + 1 == lines.len() => break,
            Err(_) => {
                let got = format!("something else in line {}", index + 1);
                return Err(Error::format(path, "one JSON object per line", got));
            }
        };
        if record.get("step").and_then(Value::as_u64).is_none_or(|step| step <= last_step) {
            kept.extend_from_slice(line.trim_ascii_end());
            kept.push(b'\n');
        }
    }
    if kept == bytes {
        return Ok(());
    }
    write_atomic(path, |file| file.write_all(&kept))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn truncated(text: &str, last_step: u64) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        fs::write(&path, text).unwrap();
        truncate_after(&path, last_step).unwrap();
        fs::read_to_string(&path).unwrap()
    }

    #[test]
    fn records_are_appended_one_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        for step in [1, 2] {
            let mut metrics = MetricsWriter::open(&path).unwrap();
            metrics.append(&json!({ "step": step, "note": "a\nb" })).unwrap();
        }
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "{\"note\":\"a\\nb\",\"step\":1}\n{\"note\":\"a\\nb\",\"step\":2}\n"
        );
    }

    #[test]
    fn later_steps_and_a_torn_line_are_dropped() {
        let whole = "{\"run\":1}\n{\"step\":50}\n";
        assert_eq!(truncated(&format!("{whole}{{\"step\":51}}\n{{\"st"), 50), whole);
        assert_eq!(truncated(&format!("{whole}\0\0\0"), 50), whole);
        assert_eq!(truncated(whole.trim_end(), 50), whole);
        assert_eq!(truncated("", 50), "");
    }

    #[test]
    fn no_metrics_yet_is_nothing_to_truncate() {
        let folder = tempfile::tempdir().unwrap();
        truncate_after(&folder.path().join("metrics.jsonl"), 1).unwrap();
    }

    #[test]
    fn damage_in_the_middle_is_told_and_nothing_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        fs::write(&path, "{}\noops\n{}\n").unwrap();
        assert_eq!(
            truncate_after(&path, 1).unwrap_err().to_string(),
            format!(
                "`{}`: expected one JSON object per line, got something else in line 2",
                path.display()
            )
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "{}\noops\n{}\n");
    }
}
