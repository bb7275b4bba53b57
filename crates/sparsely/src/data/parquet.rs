//! Parquet files in the layout of the Hugging Face Hub: encoded images and integer labels.

mod columns;
mod shards;
mod texts;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::parquet::data_type::ByteArray;
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::schema::types::SchemaDescriptor;

use crate::data::config::DataConfig;
use crate::data::source::{Labelled, Published, StoredImage, data_set_name};
use crate::{Error, Result};

pub(crate) use shards::{Shards, files};
pub(crate) use texts::{read_texts, row_count};

/// More classes than any published data set has; more is taken for a wrong column.
const MAX_CLASSES: i64 = 100_000;

/// What one file holds, labels not yet checked.
struct Rows {
    file: Arc<Path>,
    images: Vec<ByteArray>,
    labels: Vec<i64>,
    class_names: Option<Vec<String>>,
}

/// Reads the data set whose files are `shards` of the folder `root`.
pub(crate) fn read(root: &Path, shards: &Shards, config: &DataConfig) -> Result<Published> {
    let read_all = |files: &[PathBuf]| -> Result<Vec<Rows>> {
        files.iter().map(|file| read_file(file, config)).collect()
    };
    let train = read_all(&shards.train)?;
    let class_names = match train.iter().find_map(|rows| rows.class_names.clone()) {
        Some(names) => names,
        None => numbered_classes(&train)?,
    };
    let read_other = |files: &[PathBuf]| -> Result<Option<Labelled>> {
        if files.is_empty() {
            return Ok(None);
        }
        labelled(read_all(files)?, class_names.len()).map(Some)
    };
    Ok(Published {
        name: data_set_name(root),
        train: labelled(train, class_names.len())?,
        validation: read_other(&shards.validation)?,
        test: read_other(&shards.test)?,
        class_names,
    })
}

/// The reader of the `parquet` crate panics at some kinds of damage; whoever opens the file
/// shall see an error like any other.
fn read_file(path: &Path, config: &DataConfig) -> Result<Rows> {
    std::panic::catch_unwind(|| read_columns(path, config)).unwrap_or_else(|_| {
        Err(Error::format(path, "a whole Parquet file", "damage that the reader stumbled over"))
    })
}

fn read_columns(path: &Path, config: &DataConfig) -> Result<Rows> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    let reader = SerializedFileReader::new(file).map_err(|error| broken(path, &error))?;
    let schema = reader.metadata().file_metadata().schema_descr();
    let image_leaf = columns::image_leaf(path, schema, &config.image_column)?;
    let label_leaf = columns::label_leaf(path, schema, &config.label_column)?;
    let images = columns::read_images(path, &reader, image_leaf)?;
    let labels = columns::read_labels(path, &reader, label_leaf)?;
    if images.len() != labels.len() {
        let expected = format!("{} labels, one per image", images.len());
        return Err(Error::format(path, expected, labels.len().to_string()));
    }
    let class_names = class_names(&reader, schema, label_leaf);
    Ok(Rows { file: Arc::from(path), images, labels, class_names })
}

/// The names that the Hub's metadata gives the values of the label column.
fn class_names(
    reader: &SerializedFileReader<File>,
    schema: &SchemaDescriptor,
    label_leaf: usize,
) -> Option<Vec<String>> {
    let metadata = reader.metadata().file_metadata().key_value_metadata()?;
    let entry = metadata.iter().find(|entry| entry.key == "huggingface")?;
    let hub: serde_json::Value = serde_json::from_str(entry.value.as_deref()?).ok()?;
    let names = hub["info"]["features"][schema.column(label_leaf).name()]["names"].as_array()?;
    names.iter().map(|name| name.as_str().map(String::from)).collect()
}

/// `0`, `1`, … up to the highest label of `train`.
fn numbered_classes(train: &[Rows]) -> Result<Vec<String>> {
    for rows in train {
        check_labels(rows, MAX_CLASSES)?;
    }
    let highest = train.iter().flat_map(|rows| &rows.labels).max().copied().unwrap_or(0);
    Ok((0..=highest).map(|class| class.to_string()).collect())
}

fn labelled(files: Vec<Rows>, class_count: usize) -> Result<Labelled> {
    let mut part = Labelled::default();
    for rows in files {
        check_labels(&rows, class_count as i64)?;
        part.labels.extend(rows.labels.iter().map(|&label| label as u32));
        let file = rows.file;
        part.images.extend(
            rows.images.into_iter().enumerate().map(|(row, bytes)| StoredImage::Row {
                file: Arc::clone(&file),
                row,
                bytes,
            }),
        );
    }
    Ok(part)
}

fn check_labels(rows: &Rows, class_count: i64) -> Result<()> {
    if rows.labels.is_empty() {
        return Err(Error::format(&rows.file, "at least one row", "none"));
    }
    match rows.labels.iter().position(|label| !(0..class_count).contains(label)) {
        None => Ok(()),
        Some(row) => {
            let got = format!("{} in row {row}", rows.labels[row]);
            Err(Error::format(&rows.file, format!("labels from 0 to {}", class_count - 1), got))
        }
    }
}

fn broken(path: &Path, error: &ParquetError) -> Error {
    Error::format(path, "a whole Parquet file", error.to_string().replace('\n', " "))
}

#[cfg(test)]
mod tests;
