//! The safetensors format: a JSON header and the values after it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use safetensors::tensor::{Dtype as FileDtype, Metadata as FileMetadata, TensorInfo};
use safetensors::{SafeTensorError, SafeTensors};

use super::arrays::{Array, ArrayRef, Arrays, ByteOrder, Dtype, Element, decode, write_values};
use super::atomic::write_atomic;
use crate::error::{Error, Result};
use sparsely_tensor::Place;

/// Texts by name that a file carries beside its arrays.
pub type Metadata = BTreeMap<String, String>;

/// The header's key for the texts, which no array may be called.
const METADATA_KEY: &str = "__metadata__";
/// The text that holds the checksum of all values, as eight hexadecimal digits: the format has none
/// of its own.
const CHECKSUM_KEY: &str = "crc32";
/// The text that holds the checksums of each array's parts: `{"name": "eight digits for each part"}`.
const PARTS_KEY: &str = "crc32_of_parts";
/// The format asks that the values begin at a multiple of this.
const ALIGNMENT: usize = 8;
/// Bytes of a page, of which a part of its own has at least one.
const PAGE: usize = 4096;

/// Reads all arrays, converted to `T`, and the texts beside them.
///
/// # Errors
///
/// [`Error::Io`], or [`Error::Format`] for a file whose header and length do not agree, whose
/// values are not those of its checksum (where it has one), or that holds other things than
/// numbers.
pub fn read_safetensors<T: Element>(path: &Path) -> Result<(Arrays<T>, Metadata)> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    parse(path, &bytes)
}

/// Writes arrays as `f32`, texts, and checksums of the values, atomically. Equal content is equal bytes.
///
/// Stacks of large kernels come first, from the beginning of a page, so that a kernel whose size is whole pages
/// has pages of its own; others share their first and last one. Within the format's rules there is no other
/// padding than the header's. Then the order is that of the names.
///
/// # Errors
///
/// [`Error::Io`] naming `path`; [`Error::Argument`] if a shape and its values do not fit or a
/// name occurs twice.
pub fn write_safetensors(path: &Path, arrays: &[ArrayRef], metadata: &Metadata) -> Result<()> {
    let mut metadata = metadata.clone();
    let (whole, parts) = checksums(arrays);
    metadata.insert(CHECKSUM_KEY.into(), told(whole));
    let parts = parts.into_iter().map(|(name, sums)| (name, sums.into_iter().map(told).collect()));
    let parts: BTreeMap<&str, String> = parts.collect();
    metadata.insert(PARTS_KEY.into(), serde_json::json!(parts).to_string());
    let encoder = Encoder::new(arrays, &metadata)?;
    write_atomic(path, |file| encoder.write(file))
}

fn told(checksum: u32) -> String {
    format!("{checksum:08x}")
}

/// An array that is left where it lies.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored {
    pub(super) shape: Vec<usize>,
    /// The first byte in the file, and the checksums of its parts.
    pub(super) place: Place,
}

/// The arrays of a file whose values are not read yet, and the texts beside them; nothing for a file of other
/// numbers than `f32`, or without checksums of parts: a stranger's, or one of before there were any.
pub(super) fn stored(
    path: &Path,
    bytes: &[u8],
) -> Result<Option<(BTreeMap<String, Stored>, Metadata)>> {
    if cfg!(target_endian = "big") {
        return Ok(None);
    }
    let (header_len, header, mut metadata) = header(path, bytes)?;
    metadata.remove(CHECKSUM_KEY);
    let Some(parts) = metadata.remove(PARTS_KEY) else { return Ok(None) };
    let parts: BTreeMap<String, String> = serde_json::from_str(&parts)
        .map_err(|error| Error::format(path, "checksums of parts", error.to_string()))?;
    let mut arrays = BTreeMap::new();
    for (name, info) in header.tensors() {
        let sums = parts.get(&name).and_then(|text| checksums_told(text));
        let Some(checksums) = sums.filter(|sums| [1, parts_of(&info.shape)].contains(&sums.len()))
        else {
            let got = format!("none of `{}`", name.escape_debug());
            return Err(Error::format(path, "checksums of the parts of each array", got));
        };
        let offset = size_of::<u64>() + header_len + info.data_offsets.0;
        if info.dtype != FileDtype::F32 || !offset.is_multiple_of(size_of::<f32>()) {
            return Ok(None);
        }
        arrays
            .insert(name, Stored { shape: info.shape.clone(), place: Place { offset, checksums } });
    }
    Ok(Some((arrays, metadata)))
}

fn checksums_told(text: &str) -> Option<Vec<u32>> {
    let digits = text.as_bytes().chunks(8).map(|digits| std::str::from_utf8(digits).ok());
    digits.map(|digits| u32::from_str_radix(digits?, 16).ok()).collect()
}

/// How many parts of an array have a checksum of their own: the kernels of a stack that fill pages.
fn parts_of(shape: &[usize]) -> usize {
    match *shape {
        [count, i, o] if i.saturating_mul(o).saturating_mul(size_of::<f32>()) >= PAGE => count,
        _ => 1,
    }
}

/// The error of bytes that are no safetensors file. What it quotes of them is made printable.
fn refused(path: &Path, bytes: &[u8]) -> impl Fn(SafeTensorError) -> Error {
    move |error| {
        let told = error.to_string().replace(char::is_control, "\u{fffd}");
        Error::format(path, "a safetensors file", format!("{} bytes: {told}", bytes.len()))
    }
}

/// Header's length, header and texts of a file that is as long as its header says.
fn header(path: &Path, bytes: &[u8]) -> Result<(usize, FileMetadata, Metadata)> {
    let refused = refused(path, bytes);
    let (header_len, header) = SafeTensors::read_metadata(bytes).map_err(&refused)?;
    SafeTensors::deserialize(bytes).map_err(refused)?;
    let metadata = header.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone()));
    let metadata = metadata.collect();
    Ok((header_len, header, metadata))
}

pub(super) fn parse<T: Element>(path: &Path, bytes: &[u8]) -> Result<(Arrays<T>, Metadata)> {
    let (header_len, _, mut metadata) = header(path, bytes)?;
    let tensors = SafeTensors::deserialize(bytes).map_err(refused(path, bytes))?;
    metadata.remove(PARTS_KEY);
    if let Some(expected) = metadata.remove(CHECKSUM_KEY) {
        let values = &bytes[size_of::<u64>() + header_len..];
        let got = format!("{:08x}", crc32fast::hash(values));
        if got != expected {
            let expected = format!("checksum {expected} of its values, as its header says");
            return Err(Error::format(path, expected, got));
        }
    }
    let mut arrays = Arrays::new();
    for (name, view) in tensors.tensors() {
        let dtype = known_dtype(view.dtype()).ok_or_else(|| {
            let got = format!("type {:?} of `{}`", view.dtype(), name.escape_debug());
            Error::format(path, "real numbers of 8 to 64 bits", got)
        })?;
        let values = decode(dtype, ByteOrder::Little, view.data());
        arrays.insert(name, Array { shape: view.shape().to_vec(), values });
    }
    Ok((arrays, metadata))
}

fn known_dtype(dtype: FileDtype) -> Option<Dtype> {
    Some(match dtype {
        FileDtype::BOOL => Dtype::Bool,
        FileDtype::U8 => Dtype::U8,
        FileDtype::I8 => Dtype::I8,
        FileDtype::U16 => Dtype::U16,
        FileDtype::I16 => Dtype::I16,
        FileDtype::U32 => Dtype::U32,
        FileDtype::I32 => Dtype::I32,
        FileDtype::U64 => Dtype::U64,
        FileDtype::I64 => Dtype::I64,
        FileDtype::F16 => Dtype::F16,
        FileDtype::BF16 => Dtype::Bf16,
        FileDtype::F32 => Dtype::F32,
        FileDtype::F64 => Dtype::F64,
        _ => return None,
    })
}

/// A file that is ready to be written: nothing can be wrong with it any more but the disk.
///
/// The header is put together here rather than by the `safetensors` crate, whose map of texts
/// has no order and which holds the whole file in memory once more.
pub(super) struct Encoder<'a> {
    header: Vec<u8>,
    arrays: Vec<ArrayRef<'a>>,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(arrays: &[ArrayRef<'a>], metadata: &Metadata) -> Result<Encoder<'a>> {
        let arrays = in_order(arrays);
        let mut header = serde_json::Map::new();
        if !metadata.is_empty() {
            header.insert(METADATA_KEY.into(), serde_json::json!(metadata));
        }
        let mut offset = 0;
        for array in &arrays {
            let bytes = size_of_val(array.values);
            if Dtype::F32.bytes_of(array.shape) != Some(bytes) {
                return Err(unfit(format!(
                    "{} values for `{}` of shape {:?}",
                    array.values.len(),
                    array.name,
                    array.shape
                )));
            }
            let info = TensorInfo {
                dtype: FileDtype::F32,
                shape: array.shape.to_vec(),
                data_offsets: (offset, offset + bytes),
            };
            let is_taken = header.insert(array.name.into(), serde_json::json!(info)).is_some();
            if is_taken || array.name == METADATA_KEY {
                return Err(unfit(format!("the name `{}`, which is taken", array.name)));
            }
            offset += bytes;
        }
        let mut header = serde_json::Value::Object(header).to_string().into_bytes();
        let has_parts = arrays.first().is_some_and(|array| parts_of(array.shape) > 1);
        let alignment = if has_parts { PAGE } else { ALIGNMENT };
        let start = (size_of::<u64>() + header.len()).next_multiple_of(alignment);
        header.resize(start - size_of::<u64>(), b' ');
        Ok(Encoder { header, arrays })
    }

    pub(super) fn write(&self, file: &mut dyn Write) -> io::Result<()> {
        file.write_all(&(self.header.len() as u64).to_le_bytes())?;
        file.write_all(&self.header)?;
        for array in &self.arrays {
            write_values(file, array.values)?;
        }
        Ok(())
    }
}

/// Stacks of kernels that fill pages, whole pages before others; then all else. Each by name.
fn in_order<'a>(arrays: &[ArrayRef<'a>]) -> Vec<ArrayRef<'a>> {
    let rank = |array: &ArrayRef| match parts_of(array.shape) {
        1 => 2,
        parts => usize::from(!(size_of_val(array.values) / parts).is_multiple_of(PAGE)),
    };
    let mut arrays = arrays.to_vec();
    arrays.sort_by_key(|array| (rank(array), array.name));
    arrays
}

/// Of all values in the order in which they are written, and of each array's parts.
fn checksums<'a>(arrays: &[ArrayRef<'a>]) -> (u32, Vec<(&'a str, Vec<u32>)>) {
    let mut whole = crc32fast::Hasher::new();
    let mut of_parts = Vec::new();
    for array in in_order(arrays) {
        let len = array.values.len().div_ceil(parts_of(array.shape)).max(1);
        let parts = array.values.chunks(len).map(|part| {
            let mut hasher = Checksum(crc32fast::Hasher::new());
            // A hasher refuses nothing.
            let _ = write_values(&mut hasher, part);
            whole.combine(&hasher.0);
            hasher.0.finalize()
        });
        let mut parts: Vec<u32> = parts.collect();
        if parts.is_empty() {
            parts.push(crc32fast::hash(&[]));
        }
        of_parts.push((array.name, parts));
    }
    (whole.finalize(), of_parts)
}

struct Checksum(crc32fast::Hasher);

impl Write for Checksum {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn unfit(got: String) -> Error {
    let expected = "arrays of different names, with as many values as the shape has places".into();
    Error::Argument { op: "write_safetensors", expected, got }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::arrays::array_refs;

    #[test]
    fn arrays_and_texts_come_back_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let arrays = Arrays::from([
            ("z".into(), Array { shape: vec![2, 2], values: vec![1.5, f32::NAN, -0.0, 1e-45] }),
            ("empty".into(), Array { shape: vec![0, 3], values: vec![] }),
            ("scalar".into(), Array { shape: vec![], values: vec![7.0] }),
        ]);
        let texts = Metadata::from([("b".into(), "2".into()), ("a".into(), "ü\"1\n".into())]);
        write_safetensors(&path, &array_refs(&arrays), &texts).unwrap();
        let (back, texts_back): (Arrays, _) = read_safetensors(&path).unwrap();
        assert_eq!(texts_back, texts);
        assert_eq!(back.keys().collect::<Vec<_>>(), ["empty", "scalar", "z"]);
        let bits = |arrays: &Arrays| arrays["z"].values.iter().map(|v| v.to_bits()).collect();
        let (got, wanted): (Vec<u32>, Vec<u32>) = (bits(&back), bits(&arrays));
        assert_eq!(got, wanted);
        assert_eq!(back["empty"], arrays["empty"]);
        assert_eq!(back["scalar"], arrays["scalar"]);

        let first = fs::read(&path).unwrap();
        let mut shuffled = array_refs(&arrays);
        shuffled.reverse();
        write_safetensors(&path, &shuffled, &texts).unwrap();
        assert_eq!(fs::read(&path).unwrap(), first);
    }

    #[test]
    fn a_cut_file_and_a_lying_header_are_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let arrays = [ArrayRef { name: "a", shape: &[2], values: &[1.0, 2.0] }];
        write_safetensors(&path, &arrays, &Metadata::new()).unwrap();
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            let cut = parse::<f32>(Path::new("a"), &whole[..length]).unwrap_err().to_string();
            let start = format!("`a`: expected a safetensors file, got {length} bytes: ");
            assert!(cut.starts_with(&start) && !cut.contains('\n'), "{cut}");
        }
        let mut lying = whole.clone();
        lying[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(
            parse::<f32>(Path::new("a"), &lying).unwrap_err().to_string(),
            "`a`: expected a safetensors file, got 152 bytes: header too large"
        );
    }

    #[test]
    fn what_cannot_be_written_is_refused_before_the_disk_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let array = |name, shape| ArrayRef { name, shape, values: &[1.0, 2.0] };
        let refusal = |arrays: &[ArrayRef]| {
            let texts = Metadata::new();
            write_safetensors(&path, arrays, &texts).unwrap_err().to_string()
        };
        let start = "write_safetensors: expected arrays of different names, with as many values \
                     as the shape has places, got ";
        assert_eq!(refusal(&[array("a", &[3])]), format!("{start}2 values for `a` of shape [3]"));
        assert_eq!(
            refusal(&[array("a", &[2]), array("a", &[2])]),
            format!("{start}the name `a`, which is taken")
        );
        assert_eq!(
            refusal(&[array("__metadata__", &[2])]),
            format!("{start}the name `__metadata__`, which is taken")
        );
        assert!(!path.exists());
    }

    #[test]
    fn a_flipped_bit_is_told_and_a_file_without_checksum_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let array = ArrayRef { name: "a", shape: &[2], values: &[1.0, 2.0] };
        write_safetensors(&path, &[array], &Metadata::new()).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        let refused = parse::<f32>(Path::new("a"), &bytes).unwrap_err().to_string();
        assert!(refused.starts_with("`a`: expected checksum "), "{refused}");
        assert!(refused.contains(" of its values, as its header says, got "), "{refused}");
        let header = br#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}  "#;
        let values = 7.0_f32.to_le_bytes();
        let file = [&(header.len() as u64).to_le_bytes(), &header[..], &values].concat();
        assert_eq!(parse::<f32>(Path::new("a"), &file).unwrap().0["a"].values, [7.0]);
    }

    #[test]
    fn other_number_types_are_converted_and_odd_ones_refused() {
        let file = |dtype: &str, bytes: &[u8]| {
            let end = bytes.len();
            let header =
                format!(r#"{{"x":{{"dtype":"{dtype}","shape":[1],"data_offsets":[0,{end}]}}}}"#);
            [&(header.len() as u64).to_le_bytes(), header.as_bytes(), bytes].concat()
        };
        let read = |dtype, bytes: &[u8]| parse::<f64>(Path::new("x"), &file(dtype, bytes));
        assert_eq!(read("BF16", &[0xc0, 0x3f]).unwrap().0["x"].values, [1.5]);
        assert_eq!(read("F64", &0.1_f64.to_le_bytes()).unwrap().0["x"].values, [0.1]);
        assert_eq!(read("BOOL", &[1]).unwrap().0["x"].values, [1.0]);
        assert_eq!(
            read("F8_E4M3", &[1]).unwrap_err().to_string(),
            "`x`: expected real numbers of 8 to 64 bits, got type F8_E4M3 of `x`"
        );
    }
}
