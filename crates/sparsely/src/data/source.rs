//! What a source of images hands over, and which kind of source a folder is.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::parquet::data_type::ByteArray;
use image::GrayImage;

use crate::data::config::DataConfig;
use crate::data::holdout::Division;
use crate::data::image::{Fault, Header, ImageShape, decode_bytes, decode_file, file_header};
use crate::data::{digits, folder, idx, image::fit, image::read_header, parquet};
use crate::{Error, Result};

/// One image as its source keeps it.
#[derive(Clone, Debug)]
pub(crate) enum StoredImage {
    /// Grey pixels, row by row.
    Grey { pixels: Vec<u8>, width: usize, height: usize },
    /// An encoded image in a row of a Parquet file, counted from 0.
    Row { file: Arc<Path>, row: usize, bytes: ByteArray },
    /// An image file.
    File(PathBuf),
}

/// Images and their labels, in the source's order; both have the same length.
#[derive(Clone, Debug, Default)]
pub(crate) struct Labelled {
    pub(crate) images: Vec<StoredImage>,
    pub(crate) labels: Vec<u32>,
}

/// A data set as its makers published it. Labels are below the number of class names.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) name: String,
    pub(crate) class_names: Vec<String>,
    pub(crate) train: Labelled,
    pub(crate) validation: Option<Labelled>,
    pub(crate) test: Option<Labelled>,
}

impl StoredImage {
    pub(crate) fn header(&self) -> Result<Header> {
        match self {
            StoredImage::Grey { width, height, .. } => {
                Ok(Header { width: *width, height: *height, is_grey: true })
            }
            StoredImage::Row { file, row, bytes } => {
                read_header(Cursor::new(bytes.data())).map_err(|fault| fault.of_row(file, *row))
            }
            StoredImage::File(path) => file_header(path),
        }
    }

    /// Pixels `[size, size, channels]` of the image brought to `shape`.
    pub(crate) fn decode(&self, shape: ImageShape) -> Result<Vec<u8>> {
        match self {
            StoredImage::Grey { pixels, width, height } => {
                let grey = GrayImage::from_raw(*width as u32, *height as u32, pixels.clone())
                    .expect("sources check that pixels are width × height");
                Ok(fit(grey.into(), shape))
            }
            StoredImage::Row { file, row, bytes } => {
                decode_bytes(bytes.data(), shape).map_err(|fault| fault.of_row(file, *row))
            }
            StoredImage::File(path) => decode_file(path, shape),
        }
    }
}

impl Fault {
    fn of_row(self, file: &Path, row: usize) -> Error {
        Error::format(file, format!("{} in row {row}", self.expected), self.got)
    }
}

/// Reads the source that `config` names.
pub(crate) fn read(config: &DataConfig) -> Result<Published> {
    if config.source == "digits" {
        return Ok(digits::read());
    }
    let root = Path::new(&config.source);
    let entries = entries(root)?;
    if entries.iter().any(|path| file_name(path).contains("idx3-ubyte")) {
        idx::read(root, &entries)
    } else if let Some(files) = parquet::files(root, &entries)? {
        parquet::read(root, &files, config)
    } else if entries.iter().any(|path| path.is_dir()) {
        folder::read(root, &entries)
    } else {
        let expected = "IDX files (*idx3-ubyte*), Parquet files (*.parquet) or class folders";
        let got = match entries.len() {
            0 => "an empty folder".into(),
            count => format!("{count} other files"),
        };
        Err(Error::format(root, expected, got))
    }
}

/// One name per class of the source that `config` names, in order of the labels. No image is read.
///
/// # Errors
/// As of [`Dataset::open`](crate::data::Dataset::open), for what is wrong with the folder.
pub fn class_names(config: &DataConfig) -> Result<Vec<String>> {
    Ok(read(config)?.class_names)
}

/// Images that are held out for validation: published ones, or a share of the training images.
///
/// # Errors
/// As of [`class_names`].
pub fn validation_images(config: &DataConfig) -> Result<usize> {
    Ok(Division::of(read(config)?, config.validation_fraction, 0).validation.labels.len())
}

/// The name of a value of another label, and of the classes that share it.
pub type LabelGroup = (String, Vec<String>);

/// The classes that share a value of another label, for each value in their order.
///
/// # Errors
/// If the source has no other labels, or images of one class have different ones.
pub fn label_groups(config: &DataConfig, column: &str) -> Result<Vec<LabelGroup>> {
    let refuse = |got: String| {
        Err(Error::Argument {
            op: "super-classes of labels",
            expected: format!("a label `{column}` that is the same for all images of a class"),
            got,
        })
    };
    let root = Path::new(&config.source);
    let is_parquet = config.source != "digits" && parquet::files(root, &entries(root)?)?.is_some();
    if !is_parquet {
        return refuse(format!("`{}`, whose images have one label", config.source));
    }
    let classes = read(config)?;
    let others = read(&DataConfig { label_column: column.into(), ..config.clone() })?;
    let mut group_of = vec![None; classes.class_names.len()];
    for (class, other) in classes.train.labels.iter().zip(&others.train.labels) {
        let name = &classes.class_names[*class as usize];
        match group_of[*class as usize].replace(*other) {
            Some(first) if first != *other => {
                return refuse(format!("{first} and {other} for images of `{name}`"));
            }
            _ => {}
        }
    }
    let mut groups: Vec<LabelGroup> =
        others.class_names.into_iter().map(|name| (name, Vec::new())).collect();
    for (group, name) in group_of.into_iter().zip(classes.class_names) {
        match group {
            Some(group) => groups[group as usize].1.push(name),
            None => return refuse(format!("no training image of `{name}`")),
        }
    }
    groups.retain(|(_, classes)| !classes.is_empty());
    Ok(groups)
}

/// What `folder` holds, hidden entries left out, sorted by name so that a data set is the same
/// on every machine.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        if !file_name(&path).starts_with('.') {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The last part of `path`, for people; empty for a path without one.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What a data set in `root` is called: the folder's name.
pub(crate) fn data_set_name(root: &Path) -> String {
    let absolute = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
    file_name(&absolute)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(root: &Path) -> String {
        let source = root.to_str().unwrap().to_string();
        read(&DataConfig { source, ..DataConfig::default() }).unwrap_err().to_string()
    }

    #[test]
    fn missing_folder_is_named() {
        assert_eq!(message(Path::new("no/such/folder")), "cannot read `no/such/folder`");
    }

    #[test]
    fn folder_of_nothing_known_says_what_was_looked_for() {
        let root = tempfile::tempdir().unwrap();
        let name = root.path().display();
        let looked_for =
            "expected IDX files (*idx3-ubyte*), Parquet files (*.parquet) or class folders";
        assert_eq!(message(root.path()), format!("`{name}`: {looked_for}, got an empty folder"));
        fs::write(root.path().join("notes.txt"), "x").unwrap();
        fs::write(root.path().join(".hidden"), "x").unwrap();
        assert_eq!(message(root.path()), format!("`{name}`: {looked_for}, got 1 other files"));
    }
}
