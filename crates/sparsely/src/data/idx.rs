//! IDX files, the format of MNIST and Fashion-MNIST, plain or gzipped.
//!
//! A big-endian header (magic number, then the length of each axis) and then one byte per value.
//! No length of a header is believed before the file has been seen to be large enough for it.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use crate::data::image::MAX_SIDE;
use crate::data::source::{Labelled, Published, StoredImage, data_set_name, file_name};
use crate::{Error, Result};

const FASHION_CLASSES: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];
/// Deflate never packs better than this; a header that claims more than the compressed size
/// times this cannot be true.
const MAX_DEFLATE_RATIO: u64 = 1_032;
const UNSIGNED_BYTES: u32 = 0x0800;

/// Reads the data set whose files are `entries` of the folder `root`.
pub(crate) fn read(root: &Path, entries: &[PathBuf]) -> Result<Published> {
    let (train_file, train) = read_part(root, entries, "train")?;
    let (test_file, test) = read_part(root, entries, "t10k")?;
    let class_names = class_names(root, entries, &train.labels);
    check_labels(&train_file, &train.labels, class_names.len())?;
    check_labels(&test_file, &test.labels, class_names.len())?;
    Ok(Published {
        name: data_set_name(root),
        class_names,
        train,
        validation: None,
        test: Some(test),
    })
}

/// The label file (for messages) and the content of `train-…` or `t10k-…`.
fn read_part(root: &Path, entries: &[PathBuf], part: &str) -> Result<(PathBuf, Labelled)> {
    let image_file = find(root, entries, &format!("{part}-images"), "idx3-ubyte")?;
    let label_file = find(root, entries, &format!("{part}-labels"), "idx1-ubyte")?;
    let images = read_images(&image_file)?;
    let ([count], labels) = read_idx(&label_file)?;
    if count != images.len() {
        let expected = format!("{} labels, one per image", images.len());
        return Err(Error::format(&label_file, expected, count.to_string()));
    }
    let labels = labels.into_iter().map(u32::from).collect();
    Ok((label_file, Labelled { images, labels }))
}

/// The only file called `…<role>?<kind>[.gz]`; the `?` is `-` or `.`, as both are in use.
fn find(root: &Path, entries: &[PathBuf], role: &str, kind: &str) -> Result<PathBuf> {
    let is_wanted = |path: &&PathBuf| {
        let name = file_name(path);
        let stem = name.strip_suffix(".gz").unwrap_or(&name);
        let stem = stem.strip_suffix(kind).and_then(|stem| stem.strip_suffix(['-', '.']));
        stem.is_some_and(|stem| stem.ends_with(role))
    };
    let found: Vec<&PathBuf> = entries.iter().filter(is_wanted).collect();
    match found[..] {
        [only] => Ok(only.clone()),
        _ => {
            let got = match found.len() {
                0 => "none".into(),
                count => format!("{count} of them"),
            };
            Err(Error::format(root, format!("one file `{role}-{kind}` or `{role}-{kind}.gz`"), got))
        }
    }
}

fn read_images(path: &Path) -> Result<Vec<StoredImage>> {
    let ([_, height, width], pixels) = read_idx(path)?;
    let sides = 1..=MAX_SIDE as usize;
    if !sides.contains(&height) || !sides.contains(&width) {
        let expected = format!("images of 1 to {MAX_SIDE} pixels a side");
        return Err(Error::format(path, expected, format!("{height}×{width}")));
    }
    let images = pixels.chunks_exact(height * width);
    Ok(images.map(|image| StoredImage::Grey { pixels: image.to_vec(), width, height }).collect())
}

/// The axes' lengths and the values of an IDX file of unsigned bytes with `AXES` axes.
fn read_idx<const AXES: usize>(path: &Path) -> Result<([usize; AXES], Vec<u8>)> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    let file_bytes = file.metadata().map_err(Error::io("read", path))?.len();
    let file = BufReader::new(file);
    if path.extension().is_some_and(|extension| extension == "gz") {
        let most = file_bytes.saturating_mul(MAX_DEFLATE_RATIO);
        read_values(path, MultiGzDecoder::new(file), most)
    } else {
        read_values(path, file, file_bytes)
    }
}

/// `most_bytes`: what the input can hold at the very most, header included.
fn read_values<const AXES: usize>(
    path: &Path,
    mut input: impl Read,
    most_bytes: u64,
) -> Result<([usize; AXES], Vec<u8>)> {
    let mut word = || -> Result<u32> {
        let mut bytes = [0; 4];
        input.read_exact(&mut bytes).map_err(|error| broken(path, &error))?;
        Ok(u32::from_be_bytes(bytes))
    };
    let (magic, wanted_magic) = (word()?, UNSIGNED_BYTES | AXES as u32);
    if magic != wanted_magic {
        let expected = format!("an IDX file that begins with {wanted_magic:#010x}");
        return Err(Error::format(path, expected, format!("{magic:#010x}")));
    }
    let mut lengths = [0_usize; AXES];
    for length in &mut lengths {
        *length = word()? as usize;
    }
    let claimed = lengths.iter().try_fold(1_u64, |bytes, &axis| bytes.checked_mul(axis as u64));
    let claimed = claimed.filter(|&bytes| bytes <= most_bytes).ok_or_else(|| {
        let got = format!("a file too small for {}", product(&lengths));
        Error::format(path, "as many values as the header claims", got)
    })?;
    let values = read_exactly(path, input, claimed, &lengths)?;
    Ok((lengths, values))
}

/// Reads `claimed` bytes and makes sure that there are no more; one byte more is ever unpacked.
fn read_exactly(path: &Path, input: impl Read, claimed: u64, axes: &[usize]) -> Result<Vec<u8>> {
    let mut values = Vec::new();
    input.take(claimed + 1).read_to_end(&mut values).map_err(|error| broken(path, &error))?;
    if claimed == 0 {
        return Err(Error::format(path, "at least one value", product(axes)));
    }
    if values.len() as u64 != claimed {
        let got = match values.len() as u64 {
            read if read > claimed => "more".into(),
            read => read.to_string(),
        };
        let expected = format!("{} = {claimed} values, as the header claims", product(axes));
        return Err(Error::format(path, expected, got));
    }
    Ok(values)
}

fn product(lengths: &[usize]) -> String {
    lengths.iter().map(usize::to_string).collect::<Vec<_>>().join("×")
}

fn broken(path: &Path, error: &std::io::Error) -> Error {
    Error::format(path, "a whole IDX file", error.to_string())
}

fn check_labels(path: &Path, labels: &[u32], class_count: usize) -> Result<()> {
    match labels.iter().position(|&label| label as usize >= class_count) {
        None => Ok(()),
        Some(at) => {
            let got = format!("{} at index {at}", labels[at]);
            Err(Error::format(path, format!("labels below {class_count}"), got))
        }
    }
}

fn class_names(root: &Path, entries: &[PathBuf], train_labels: &[u32]) -> Vec<String> {
    if is_fashion_mnist(root, entries) {
        return FASHION_CLASSES.map(String::from).to_vec();
    }
    let highest = train_labels.iter().max().copied().unwrap_or(0);
    (0..=highest).map(|class| class.to_string()).collect()
}

/// Whether the folder's name or a README in it says so.
fn is_fashion_mnist(root: &Path, entries: &[PathBuf]) -> bool {
    let says_so = |text: &str| text.to_lowercase().contains("fashion");
    let readme = entries.iter().find(|path| file_name(path).starts_with("README"));
    says_so(&data_set_name(root))
        || readme.and_then(|path| fs::read_to_string(path).ok()).is_some_and(|text| says_so(&text))
}

#[cfg(test)]
#[path = "idx_tests.rs"]
mod tests;
