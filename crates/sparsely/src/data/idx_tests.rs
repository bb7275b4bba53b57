use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use tempfile::TempDir;

use super::*;
use crate::data::source::entries;

fn idx(axes: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = (UNSIGNED_BYTES | axes.len() as u32).to_be_bytes().to_vec();
    axes.iter().for_each(|axis| bytes.extend(axis.to_be_bytes()));
    bytes.extend(values);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Two training images of 2×2 and one test image, with labels 0, 2 and 1.
fn folder() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    put(&root, "train-images-idx3-ubyte", &idx(&[2, 2, 2], &[1, 2, 3, 4, 5, 6, 7, 8]));
    put(&root, "train-labels-idx1-ubyte.gz", &gzip(&idx(&[2], &[0, 2])));
    put(&root, "t10k-images.idx3-ubyte.gz", &gzip(&idx(&[1, 2, 2], &[9, 9, 9, 9])));
    put(&root, "t10k-labels-idx1-ubyte", &idx(&[1], &[1]));
    root
}

fn put(root: &TempDir, name: &str, bytes: &[u8]) {
    fs::write(root.path().join(name), bytes).unwrap();
}

fn open(root: &TempDir) -> Result<Published> {
    read(root.path(), &entries(root.path()).unwrap())
}

/// The message without the folder in front of the file's name.
fn message(root: &TempDir) -> String {
    let message = open(root).unwrap_err().to_string();
    message.replace(&format!("{}/", root.path().display()), "")
}

#[test]
fn plain_and_gzipped_files_are_read() {
    let data = open(&folder()).unwrap();
    assert_eq!(data.class_names, ["0", "1", "2"]);
    assert_eq!(data.train.labels, [0, 2]);
    assert_eq!(data.test.unwrap().labels, [1]);
    let StoredImage::Grey { pixels, width: 2, height: 2 } = &data.train.images[1] else {
        panic!("{:?}", data.train.images[1]);
    };
    assert_eq!(pixels, &[5, 6, 7, 8]);
}

#[test]
fn readme_names_the_classes() {
    let root = folder();
    put(&root, "README.md", b"# Fashion-MNIST");
    assert_eq!(open(&root).unwrap().class_names[9], "Ankle boot");
}

#[test]
fn header_that_claims_more_than_the_file_is_refused() {
    let root = folder();
    put(&root, "train-images-idx3-ubyte", &idx(&[1 << 31, 1 << 31, 2], &[1]));
    assert_eq!(
        message(&root),
        "`train-images-idx3-ubyte`: expected as many values as the header claims, \
         got a file too small for 2147483648×2147483648×2"
    );
    put(&root, "train-images-idx3-ubyte", &idx(&[3, 2, 2], &[0; 11]));
    assert_eq!(
        message(&root),
        "`train-images-idx3-ubyte`: expected 3×2×2 = 12 values, as the header claims, got 11"
    );
}

#[test]
fn gzip_bomb_is_unpacked_no_further_than_its_header() {
    let root = folder();
    put(&root, "t10k-labels-idx1-ubyte", &[]);
    fs::remove_file(root.path().join("t10k-labels-idx1-ubyte")).unwrap();
    put(&root, "t10k-labels-idx1-ubyte.gz", &gzip(&idx(&[1], &vec![0; 10 << 20])));
    assert_eq!(
        message(&root),
        "`t10k-labels-idx1-ubyte.gz`: expected 1 = 1 values, as the header claims, got more"
    );
}

#[test]
fn different_counts_of_images_and_labels_are_refused() {
    let root = folder();
    put(&root, "t10k-labels-idx1-ubyte", &idx(&[2], &[1, 1]));
    assert_eq!(message(&root), "`t10k-labels-idx1-ubyte`: expected 1 labels, one per image, got 2");
}

#[test]
fn label_out_of_range_is_refused() {
    let root = folder();
    put(&root, "t10k-labels-idx1-ubyte", &idx(&[1], &[7]));
    assert_eq!(
        message(&root),
        "`t10k-labels-idx1-ubyte`: expected labels below 3, got 7 at index 0"
    );
}

#[test]
fn wrong_magic_and_missing_file_are_refused() {
    let root = folder();
    put(&root, "t10k-labels-idx1-ubyte", &idx(&[1, 1, 1], &[1]));
    assert_eq!(
        message(&root),
        "`t10k-labels-idx1-ubyte`: expected an IDX file that begins with 0x00000801, \
         got 0x00000803"
    );
    fs::remove_file(root.path().join("t10k-labels-idx1-ubyte")).unwrap();
    let name = root.path().display();
    let expected = format!(
        "`{name}`: expected one file `t10k-labels-idx1-ubyte` or `t10k-labels-idx1-ubyte.gz`, \
         got none"
    );
    assert_eq!(open(&root).unwrap_err().to_string(), expected);
}

#[test]
fn images_without_pixels_are_refused() {
    let root = folder();
    put(&root, "train-images-idx3-ubyte", &idx(&[2, 0, 2], &[]));
    assert_eq!(message(&root), "`train-images-idx3-ubyte`: expected at least one value, got 2×0×2");
}
