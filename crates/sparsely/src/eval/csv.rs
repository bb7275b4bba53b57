//! Tables for other programs: CSV.

use crate::{Error, Result};
use serde::Serialize;

/// Lines with a header.
///
/// # Errors
/// If a line is no flat record.
pub(crate) fn csv(lines: impl Iterator<Item = impl Serialize>) -> Result<String> {
    let refused = |got: String| Error::Argument { op: "csv", expected: "a table".into(), got };
    let mut writer = csv::Writer::from_writer(Vec::new());
    for line in lines {
        writer.serialize(line).map_err(|error| refused(error.to_string()))?;
    }
    let bytes = writer.into_inner().map_err(|error| refused(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| refused(error.to_string()))
}
