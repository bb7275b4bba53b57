//! A folder of class folders, or `train`, `val` and `test` folders of class folders.

use std::path::{Path, PathBuf};

use crate::data::source::{Labelled, Published, StoredImage, data_set_name, entries, file_name};
use crate::{Error, Result};

const EXTENSIONS: [&str; 6] = ["png", "jpg", "jpeg", "bmp", "gif", "webp"];
const VALIDATION_NAMES: [&str; 3] = ["val", "valid", "validation"];

/// Reads the names of the image files below `root`, whose content is `root_entries`.
pub(crate) fn read(root: &Path, root_entries: &[PathBuf]) -> Result<Published> {
    let train_root = match named(root_entries, &["train"]) {
        // A class may be called `train`; it holds images then, not folders.
        Some(path) if !class_folders(&path)?.is_empty() => path,
        _ => return read_undivided(root),
    };
    let classes = class_folders(&train_root)?;
    let class_names: Vec<String> = classes.iter().map(|path| file_name(path)).collect();
    let read_other = |names: &[&str]| match named(root_entries, names) {
        Some(path) => read_classes(&path, &class_names).map(Some),
        None => Ok(None),
    };
    Ok(Published {
        name: data_set_name(root),
        train: read_classes(&train_root, &class_names)?,
        validation: read_other(&VALIDATION_NAMES)?,
        test: read_other(&["test"])?,
        class_names,
    })
}

fn read_undivided(root: &Path) -> Result<Published> {
    let classes = class_folders(root)?;
    let class_names: Vec<String> = classes.iter().map(|path| file_name(path)).collect();
    Ok(Published {
        name: data_set_name(root),
        train: read_classes(root, &class_names)?,
        validation: None,
        test: None,
        class_names,
    })
}

fn named(folders: &[PathBuf], names: &[&str]) -> Option<PathBuf> {
    let is_named = |path: &&PathBuf| path.is_dir() && names.contains(&file_name(path).as_str());
    folders.iter().find(is_named).cloned()
}

fn class_folders(root: &Path) -> Result<Vec<PathBuf>> {
    Ok(entries(root)?.into_iter().filter(|path| path.is_dir()).collect())
}

/// The images of each class folder of `root`; the label is the place in `class_names`.
fn read_classes(root: &Path, class_names: &[String]) -> Result<Labelled> {
    let mut part = Labelled::default();
    for folder in class_folders(root)? {
        let name = file_name(&folder);
        let label = class_names.iter().position(|class| *class == name).ok_or_else(|| {
            Error::format(&folder, "one of the classes of the training images", "another class")
        })?;
        let before = part.images.len();
        let files = entries(&folder)?.into_iter().filter(|path| is_image(path));
        part.images.extend(files.map(StoredImage::File));
        if part.images.len() == before {
            let expected = format!("image files ({})", EXTENSIONS.join(", "));
            return Err(Error::format(&folder, expected, "none"));
        }
        part.labels.resize(part.images.len(), label as u32);
    }
    if part.images.is_empty() {
        return Err(Error::format(root, "class folders", "none"));
    }
    Ok(part)
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    EXTENSIONS.contains(&extension.as_str()) && path.is_file()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn tree(files: &[&str]) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        root
    }

    fn open(root: &TempDir) -> Result<Published> {
        read(root.path(), &entries(root.path()).unwrap())
    }

    #[test]
    fn class_folders_are_labelled_in_order_of_their_names() {
        let data =
            open(&tree(&["dog/b.PNG", "cat/z.jpeg", "cat/a.webp", "cat/notes.txt"])).unwrap();
        assert_eq!(data.class_names, ["cat", "dog"]);
        assert_eq!(data.train.labels, [0, 0, 1]);
        assert!(data.validation.is_none() && data.test.is_none());
    }

    #[test]
    fn published_folders_share_the_classes_of_train() {
        let files = ["train/a/1.png", "train/b/1.png", "val/b/2.png", "test/a/3.png"];
        let data = open(&tree(&files)).unwrap();
        assert_eq!(data.class_names, ["a", "b"]);
        assert_eq!(data.validation.unwrap().labels, [1]);
        assert_eq!(data.test.unwrap().labels, [0]);
    }

    #[test]
    fn class_may_be_called_train() {
        let data = open(&tree(&["train/1.png", "plane/1.png"])).unwrap();
        assert_eq!(data.class_names, ["plane", "train"]);
    }

    #[test]
    fn empty_class_folder_is_refused() {
        let root = tree(&["a/1.png", "b/readme.txt"]);
        let name = root.path().join("b");
        let expected = format!(
            "`{}`: expected image files (png, jpg, jpeg, bmp, gif, webp), got none",
            name.display()
        );
        assert_eq!(open(&root).unwrap_err().to_string(), expected);
    }

    #[test]
    fn class_that_training_does_not_know_is_refused() {
        let root = tree(&["train/a/1.png", "test/b/1.png"]);
        let name = root.path().join("test/b");
        let expected = format!(
            "`{}`: expected one of the classes of the training images, got another class",
            name.display()
        );
        assert_eq!(open(&root).unwrap_err().to_string(), expected);
    }
}
