use std::fs;
use std::path::Path;

use image::{GrayImage, Luma, Rgb, RgbImage};
use tempfile::TempDir;

use super::*;

fn config(root: &Path) -> DataConfig {
    DataConfig { source: root.to_str().unwrap().into(), ..DataConfig::default() }
}

/// Ten grey 4×4 images of each of two classes; image `n` of a class has pixels of value `n`.
fn class_folders() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for class in ["cat", "dog"] {
        let folder = root.path().join(class);
        fs::create_dir(&folder).unwrap();
        for n in 0..10 {
            let path = folder.join(format!("{n}.png"));
            GrayImage::from_pixel(4, 4, Luma([n])).save(path).unwrap();
        }
    }
    root
}

#[test]
fn digits_are_there_without_a_file() {
    let digits = Dataset::open(&DataConfig::default(), None, 0).unwrap();
    assert_eq!(
        digits.to_string(),
        "digits: 1257 training, 180 validation, 360 test images of 8×8×1, 10 classes \
         (split as published)"
    );
    assert_eq!(digits.native_size, Some(8));
}

#[test]
fn class_folders_are_divided_by_class() {
    let root = class_folders();
    let data = Dataset::open(&config(root.path()), None, 0).unwrap();
    let name = &data.name;
    assert_eq!(
        data.to_string(),
        format!(
            "{name}: 16 training, 2 validation, 2 test images of 4×4×1, 2 classes \
             (test and validation held out by class)"
        )
    );
    assert_eq!(data.class_names, ["cat", "dog"]);
    for part in [&data.test, &data.validation] {
        let mut labels = part.labels().to_vec();
        labels.sort_unstable();
        assert_eq!(labels, [0, 1]);
    }
}

#[test]
fn decoding_at_each_access_gives_the_same_pixels() {
    let root = class_folders();
    let shape = ImageShape::new(4, 3).unwrap();
    let published = source::read(&config(root.path())).unwrap();
    let decoded = Split::decoded(published.train.clone(), shape, 2).unwrap();
    let encoded = Split::encoded(published.train, shape, 2);
    for index in 0..decoded.len() {
        assert_eq!(decoded.pixels(index).unwrap(), encoded.pixels(index).unwrap());
    }
}

#[test]
fn mixed_sizes_need_a_size() {
    let root = class_folders();
    GrayImage::new(6, 5).save(root.path().join("cat/wide.png")).unwrap();
    let source = root.path().display();
    assert_eq!(
        Dataset::open(&config(root.path()), None, 0).unwrap_err().to_string(),
        format!(
            "invalid configuration: an image size is needed: the images in `{source}` do not \
             share one square size"
        )
    );
    let data = Dataset::open(&config(root.path()), Some(5), 0).unwrap();
    assert_eq!((data.native_size, data.image_size), (None, 5));
}

#[test]
fn one_coloured_image_makes_all_coloured() {
    let root = class_folders();
    RgbImage::from_pixel(4, 4, Rgb([1, 2, 3])).save(root.path().join("dog/red.png")).unwrap();
    let data = Dataset::open(&config(root.path()), None, 0).unwrap();
    assert_eq!(data.channels, 3);
    assert_eq!(data.train.pixels(0).unwrap().len(), 4 * 4 * 3);
}

#[test]
fn broken_image_is_found_at_opening() {
    let root = class_folders();
    let path = root.path().join("dog/3.png");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 20]).unwrap();
    let name = path.display();
    assert_eq!(
        Dataset::open(&config(root.path()), None, 0).unwrap_err().to_string(),
        format!("`{name}`: expected a whole image, got unexpected end of file")
    );
}

/// `SPARSELY_DATA` names a folder that holds data sets too large for the repository.
#[test]
fn cifar100_opens_where_it_is_at_hand() {
    let Some(root) = std::env::var_os("SPARSELY_DATA") else { return };
    let data = Dataset::open(&config(&Path::new(&root).join("cifar100")), None, 0).unwrap();
    assert_eq!(
        data.to_string(),
        "cifar100: 45000 training, 5000 validation, 10000 test images of 32×32×3, 100 classes \
         (validation held out of training)"
    );
    assert_eq!(data.class_names[0], "apple");
}

#[test]
fn fashion_mnist_opens_where_it_is_installed() {
    // Where the Debian package `dataset-fashion-mnist` puts it.
    let root = Path::new("/usr/share/datasets/fashion-mnist");
    if !root.exists() {
        return;
    }
    let data = Dataset::open(&config(root), None, 0).unwrap();
    assert_eq!(
        data.to_string(),
        "fashion-mnist: 54000 training, 6000 validation, 10000 test images of 28×28×1, \
         10 classes (validation held out of training)"
    );
    // The first test image is published as an ankle boot, and the test images of each class are
    // 1,000.
    let published = source::read(&config(root)).unwrap();
    assert_eq!(data.class_names[published.test.unwrap().labels[0] as usize], "Ankle boot");
    let boots = data.test.labels().iter().filter(|label| **label == 9).count();
    assert_eq!((boots, data.class_names[9].as_str()), (1_000, "Ankle boot"));
}
