//! Columns of texts, read row after row.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use ::parquet::basic::Type;
use ::parquet::column::reader::get_typed_column_reader;
use ::parquet::data_type::{ByteArray, ByteArrayType};
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::schema::types::SchemaDescriptor;

use super::broken;
use super::columns::{all_columns, leaves, open_column, whole_level};
use crate::{Error, Result};

/// Where texts are expected if nobody says where.
const TEXT_NAMES: [&str; 2] = ["text", "content"];
/// Rows that are in memory at once.
const ROWS_PER_READ: usize = 256;

/// Number of rows.
pub(crate) fn row_count(path: &Path) -> Result<usize> {
    guarded(path, || {
        let rows = open(path)?.metadata().file_metadata().num_rows();
        usize::try_from(rows).map_err(|_| Error::format(path, "a number of rows", rows.to_string()))
    })
}

/// Calls `each` with the index and the bytes of every text of the column `name`; without a name, of
/// `text`, `content` or the only column of strings.
pub(crate) fn read_texts(
    path: &Path,
    name: &str,
    each: &mut dyn FnMut(usize, &[u8]) -> Result<()>,
) -> Result<()> {
    guarded(path, || {
        let reader = open(path)?;
        let leaf = text_leaf(path, reader.metadata().file_metadata().schema_descr(), name)?;
        let level = whole_level(&reader, leaf);
        let mut first = 0;
        for group in 0..reader.num_row_groups() {
            let column = open_column(path, &reader, group, leaf)?;
            let mut column = get_typed_column_reader::<ByteArrayType>(column);
            loop {
                let (mut texts, mut levels) = (Vec::<ByteArray>::new(), Vec::new());
                let (rows, present, _) = column
                    .read_records(ROWS_PER_READ, Some(&mut levels), None, &mut texts)
                    .map_err(|error| broken(path, &error))?;
                if present < rows {
                    let row = first + levels.iter().take_while(|own| **own == level).count();
                    let got = format!("none in row {row}");
                    return Err(Error::format(path, "a text in every row", got));
                }
                if rows == 0 {
                    break;
                }
                for (row, text) in texts.iter().enumerate() {
                    each(first + row, text.data())?;
                }
                first += rows;
            }
        }
        Ok(())
    })
}

fn open(path: &Path) -> Result<SerializedFileReader<File>> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    SerializedFileReader::new(file).map_err(|error| broken(path, &error))
}

/// The reader of the `parquet` crate panics at some kinds of damage.
fn guarded<R>(path: &Path, read: impl FnOnce() -> Result<R>) -> Result<R> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
        Err(Error::format(path, "a whole Parquet file", "damage that the reader stumbled over"))
    })
}

fn text_leaf(path: &Path, schema: &SchemaDescriptor, name: &str) -> Result<usize> {
    let strings = leaves(schema, |column| {
        column.path().parts().len() == 1 && column.physical_type() == Type::BYTE_ARRAY
    });
    let named =
        |wanted: &str| strings.iter().copied().find(|&leaf| schema.column(leaf).name() == wanted);
    let found = match (name, &strings[..]) {
        ("", [only]) => Some(*only),
        ("", _) => TEXT_NAMES.iter().find_map(|usual| named(usual)),
        _ => named(name),
    };
    found.ok_or_else(|| {
        let expected = match name {
            "" => "a column of strings called `text` or `content` (or set data.text_column)".into(),
            _ => format!("a column of strings `{name}`"),
        };
        Error::format(path, expected, all_columns(schema))
    })
}

#[cfg(test)]
#[path = "texts_tests.rs"]
mod tests;
