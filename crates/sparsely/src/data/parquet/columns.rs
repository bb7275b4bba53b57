//! Finding the image and the label column of a file, and reading them.

use std::fs::File;
use std::path::Path;

use ::parquet::basic::{Compression, Type};
use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_typed_column_reader};
use ::parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};

use super::broken;
use crate::{Error, Result};

const LABEL_NAMES: [&str; 3] = ["label", "fine_label", "labels"];
/// Rows asked for at once, so that no claim of a header decides how much is reserved.
const ROWS_PER_READ: usize = 8_192;

/// The column of encoded images: `name` or its `bytes` child; without a name, the only column
/// that has a `bytes` child.
pub(super) fn image_leaf(path: &Path, schema: &SchemaDescriptor, name: &str) -> Result<usize> {
    let is_image = |column: &ColumnDescriptor| {
        let parts = column.path().parts();
        let has_name = name.is_empty() || parts[0] == name;
        let is_child = parts.len() == 2 && parts[1] == "bytes";
        let is_plain = parts.len() == 1 && !name.is_empty();
        has_name && (is_child || is_plain) && column.physical_type() == Type::BYTE_ARRAY
    };
    let found = leaves(schema, is_image);
    match found[..] {
        [only] => Ok(only),
        [] => {
            let expected = match name {
                "" => "a column of images (one with a `bytes` child)".into(),
                _ => format!("a column of images `{name}`"),
            };
            Err(Error::format(path, expected, all_columns(schema)))
        }
        _ => {
            let name = |&leaf: &usize| schema.column(leaf).path().parts()[0].clone();
            let names: Vec<String> = found.iter().map(name).collect();
            let got = format!("{}: set `image_column`", names.join(", "));
            Err(Error::format(path, "one column of images", got))
        }
    }
}

/// The integer column `name`; without a name, the first of `label`, `fine_label`, `labels`.
pub(super) fn label_leaf(path: &Path, schema: &SchemaDescriptor, name: &str) -> Result<usize> {
    let integers = leaves(schema, |column| {
        let is_integer = matches!(column.physical_type(), Type::INT32 | Type::INT64);
        is_integer && column.path().parts().len() == 1
    });
    let named =
        |wanted: &str| integers.iter().copied().find(|&leaf| schema.column(leaf).name() == wanted);
    let found = match name {
        "" => LABEL_NAMES.iter().find_map(|candidate| named(candidate)),
        _ => named(name),
    };
    found.ok_or_else(|| {
        let expected = match name {
            "" => "an integer column `label`, `fine_label` or `labels`".into(),
            _ => format!("an integer column `{name}`"),
        };
        let names: Vec<String> =
            integers.iter().map(|&leaf| schema.column(leaf).name().to_string()).collect();
        let got = match names.is_empty() {
            true => "no integer column".into(),
            false => format!("integer columns {}: name one as the label", names.join(", ")),
        };
        Error::format(path, expected, got)
    })
}

pub(super) fn leaves(
    schema: &SchemaDescriptor,
    is_wanted: impl Fn(&ColumnDescriptor) -> bool,
) -> Vec<usize> {
    let columns = schema.columns().iter().enumerate();
    let wanted = columns.filter(|(_, column)| column.max_rep_level() == 0 && is_wanted(column));
    wanted.map(|(leaf, _)| leaf).collect()
}

pub(super) fn all_columns(schema: &SchemaDescriptor) -> String {
    let fields = schema.root_schema().get_fields();
    let names: Vec<&str> = fields.iter().map(|field| field.name()).collect();
    format!("columns {}", names.join(", "))
}

/// The encoded images, row by row.
pub(super) fn read_images(
    path: &Path,
    reader: &SerializedFileReader<File>,
    leaf: usize,
) -> Result<Vec<ByteArray>> {
    let mut images = Vec::new();
    let whole_level = whole_level(reader, leaf);
    for group in 0..reader.num_row_groups() {
        let column = open_column(path, reader, group, leaf)?;
        let column = get_typed_column_reader::<ByteArrayType>(column);
        read_column(path, (column, whole_level), &mut images)?;
    }
    Ok(images)
}

/// The labels, row by row, as the file has them.
pub(super) fn read_labels(
    path: &Path,
    reader: &SerializedFileReader<File>,
    leaf: usize,
) -> Result<Vec<i64>> {
    let mut labels = Vec::new();
    let whole_level = whole_level(reader, leaf);
    for group in 0..reader.num_row_groups() {
        let column = open_column(path, reader, group, leaf)?;
        if let ColumnReader::Int32ColumnReader(column) = column {
            let mut narrow = Vec::new();
            read_column::<Int32Type>(path, (column, whole_level), &mut narrow)?;
            labels.extend(narrow.into_iter().map(i64::from));
        } else {
            let column = get_typed_column_reader::<Int64Type>(column);
            read_column(path, (column, whole_level), &mut labels)?;
        }
    }
    Ok(labels)
}

pub(super) fn whole_level(reader: &SerializedFileReader<File>, leaf: usize) -> i16 {
    reader.metadata().file_metadata().schema_descr().column(leaf).max_def_level()
}

pub(super) fn open_column(
    path: &Path,
    reader: &SerializedFileReader<File>,
    group: usize,
    leaf: usize,
) -> Result<ColumnReader> {
    let compression = reader.metadata().row_group(group).column(leaf).compression();
    if matches!(compression, Compression::ZSTD(_) | Compression::LZO) {
        let expected = "compression by snappy, gzip, brotli or lz4, or none";
        let got = if compression == Compression::LZO { "lzo" } else { "zstd" };
        return Err(Error::format(path, expected, got));
    }
    let group = reader.get_row_group(group).map_err(|error| broken(path, &error))?;
    group.get_column_reader(leaf).map_err(|error| broken(path, &error))
}

/// Appends a column's values, none of which may be missing: each has the definition level
/// `whole_level`.
fn read_column<T: DataType>(
    path: &Path,
    (mut column, whole_level): (ColumnReaderImpl<T>, i16),
    values: &mut Vec<T::T>,
) -> Result<()> {
    loop {
        let before = values.len();
        let mut levels = Vec::new();
        let (rows, present, _) = column
            .read_records(ROWS_PER_READ, Some(&mut levels), None, values)
            .map_err(|error| broken(path, &error))?;
        if present < rows {
            let row = before + levels.iter().take_while(|&&level| level == whole_level).count();
            return Err(Error::format(path, "a value in every row", format!("none in row {row}")));
        }
        if rows == 0 {
            return Ok(());
        }
    }
}
