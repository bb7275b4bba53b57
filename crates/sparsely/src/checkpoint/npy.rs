//! NumPy's `.npy` and `.npz` files, without its pickles.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufReader, Read, Write};
use std::path::Path;

use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::arrays::{Array, ArrayRef, Arrays, ByteOrder, Dtype, Element, decode, write_values};
use super::atomic::write_atomic;
use crate::error::{Error, Result};

const MAGIC: &[u8] = b"\x93NUMPY";
/// NumPy pads headers so that the values begin at a multiple of this.
const ALIGNMENT: usize = 64;
/// Deflate cannot do better than this; an archive that claims more lies about a size.
const DEFLATE_BEST_RATIO: u64 = 1032;

/// What all entries may hold together for each byte of the archive, and beside it. Parameters hardly
/// shrink, but some of them may be zeros; without a limit a small file could fill any memory.
const MOST_PER_BYTE: u64 = 32;
const MOST_BESIDE: u64 = 64 << 20;

/// What does not fit in an array: `(expected, got)`.
type Misfit = (String, String);

/// Reads one array; integers, booleans and other precisions become `T`.
///
/// # Errors
///
/// [`Error::Io`], or [`Error::Format`] for what is not a plain array of numbers.
pub fn read_npy<T: Element>(path: &Path) -> Result<Array<T>> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    parse(&bytes).map_err(|(expected, got)| Error::format(path, expected, got))
}

/// Reads all arrays of an archive, stored or deflated; names lose their `.npy`.
///
/// # Errors
///
/// [`Error::Io`], or [`Error::Format`] naming the array that does not fit.
pub fn read_npz<T: Element>(path: &Path) -> Result<Arrays<T>> {
    let broken = |refused: ZipError| match refused {
        ZipError::Io(source) if source.raw_os_error().is_some() => Error::io("read", path)(source),
        other => Error::format(path, "a zip archive of arrays", one_line(&other.to_string())),
    };
    let file = File::open(path).map_err(Error::io("read", path))?;
    let file_bytes = file.metadata().map_err(Error::io("read", path))?.len();
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(broken)?;
    let mut arrays = Arrays::new();
    let mut unclaimed = file_bytes;
    let mut allowed = file_bytes.saturating_mul(MOST_PER_BYTE).saturating_add(MOST_BESIDE);
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(broken)?;
        let name = entry.name().map_err(broken)?.into_owned();
        let misfit = |(expected, got): Misfit| {
            Error::format(path, format!("`{}` to hold {expected}", name.escape_debug()), got)
        };
        // Entries may not overlap, or a small file could hold any number of large arrays.
        let left = unclaimed.checked_sub(entry.compressed_size());
        let most = entry.compressed_size().saturating_mul(DEFLATE_BEST_RATIO);
        let (Some(left), true) = (left, entry.size() <= most) else {
            let got = format!("a claim of {} bytes in {unclaimed}", entry.size());
            return Err(misfit(("no more than the file can".into(), got)));
        };
        unclaimed = left;
        allowed = allowed.checked_sub(entry.size()).ok_or_else(|| {
            let most = format!("at most {allowed} bytes more, for an archive of {file_bytes}");
            misfit((most, entry.size().to_string()))
        })?;
        let mut bytes = Vec::new();
        let limit = entry.size().saturating_add(1); // one more, so that the checksum is looked at
        (&mut entry).take(limit).read_to_end(&mut bytes).map_err(|e| broken(e.into()))?;
        let array = parse(&bytes).map_err(misfit)?;
        let short_name = name.strip_suffix(".npy").unwrap_or(&name).to_string();
        if arrays.insert(short_name, array).is_some() {
            return Err(misfit(("one array".into(), "two".into())));
        }
    }
    Ok(arrays)
}

/// Writes one array: version 1.0, little-endian `f32`, row-major, atomically.
///
/// # Errors
///
/// [`Error::Io`] naming `path`; [`Error::Argument`] if shape and values do not fit.
pub fn write_npy(path: &Path, array: &Array) -> Result<()> {
    let head = head("write_npy", &array.shape, &array.values)?;
    write_atomic(path, |file| {
        file.write_all(&head)?;
        write_values(file, &array.values)
    })
}

/// Writes an archive of arrays, each as of [`write_npy`] and not compressed, atomically.
///
/// # Errors
///
/// [`Error::Io`] naming `path`; [`Error::Argument`] if a shape and its values do not fit or a name
/// occurs twice.
pub fn write_npz(path: &Path, arrays: &[ArrayRef]) -> Result<()> {
    let mut names = BTreeSet::new();
    if let Some(array) = arrays.iter().find(|array| !names.insert(array.name)) {
        let got = format!("`{}` twice", array.name);
        return Err(Error::Argument { op: "write_npz", expected: "different names".into(), got });
    }
    let heads = arrays.iter().map(|array| head("write_npz", array.shape, array.values));
    let heads = heads.collect::<Result<Vec<_>>>()?;
    write_atomic(path, |file| {
        let mut archive = ZipWriter::new_stream(file);
        for (array, head) in arrays.iter().zip(&heads) {
            let bytes = head.len() + size_of_val(array.values);
            let options = SimpleFileOptions::default()
                .compression_method(CompressionMethod::Stored)
                .large_file(u32::try_from(bytes).is_err());
            archive.start_file(format!("{}.npy", array.name), options)?;
            archive.write_all(head)?;
            write_values(&mut archive, array.values)?;
        }
        archive.finish().map(drop).map_err(Into::into)
    })
}

/// What comes before the values.
fn head(op: &'static str, shape: &[usize], values: &[f32]) -> Result<Vec<u8>> {
    let misfit = |got: String| Error::Argument {
        op,
        expected: "as many values as the shape has places".into(),
        got,
    };
    if Dtype::F32.bytes_of(shape) != Some(size_of_val(values)) {
        return Err(misfit(format!("{} values for {shape:?}", values.len())));
    }
    let lengths: String = shape.iter().map(|length| format!("{length}, ")).collect();
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({lengths}), }}");
    let unpadded = MAGIC.len() + 4 + header.len() + 1;
    header.extend(std::iter::repeat_n(' ', unpadded.next_multiple_of(ALIGNMENT) - unpadded));
    header.push('\n');
    let header_bytes = u16::try_from(header.len())
        .map_err(|_| misfit(format!("a shape of {} axes", shape.len())))?;
    Ok([MAGIC, &[1, 0], &header_bytes.to_le_bytes(), header.as_bytes()].concat())
}

fn parse<T: Element>(bytes: &[u8]) -> std::result::Result<Array<T>, Misfit> {
    let (header, data) = split_header(bytes).ok_or_else(|| {
        misfit("a NumPy array", format!("{} bytes of something else", bytes.len()))
    })?;
    let unreadable = || misfit("a NumPy header", format!("`{}`", one_line(&shorten(header))));
    let descr = value_of(header, "descr").ok_or_else(unreadable)?;
    let is_fortran = match value_of(header, "fortran_order").ok_or_else(unreadable)? {
        order if order.starts_with("False") => false,
        order if order.starts_with("True") => true,
        _ => return Err(unreadable()),
    };
    let shape = value_of(header, "shape").and_then(parse_shape).ok_or_else(unreadable)?;
    let (order, dtype) = parse_descr(descr)
        .ok_or_else(|| misfit("numbers", format!("type {}", one_line(&shorten(descr)))))?;
    if dtype.bytes_of(&shape) != Some(data.len()) {
        let expected = format!("values of {} bytes for shape {shape:?}", dtype.size());
        return Err(misfit(&expected, format!("{} bytes", data.len())));
    }
    let values = decode(dtype, order, data);
    let values = if is_fortran { row_major(&shape, &values) } else { values };
    Ok(Array { shape, values })
}

fn misfit(expected: &str, got: String) -> Misfit {
    (expected.to_string(), got)
}

/// The header's text and the bytes after it.
fn split_header(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let after_magic = bytes.strip_prefix(MAGIC)?;
    let (version, rest) = after_magic.split_first_chunk::<2>()?;
    let (length, rest) = match version {
        [1, 0] => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (u32::from(u16::from_le_bytes(*length)), rest)
        }
        [2 | 3, 0] => {
            let (length, rest) = rest.split_first_chunk::<4>()?;
            (u32::from_le_bytes(*length), rest)
        }
        _ => return None,
    };
    let (header, data) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    Some((std::str::from_utf8(header).ok()?, data))
}

/// What follows `'key':` in the Python dictionary that is the header.
fn value_of<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = header.split_once(&format!("'{key}':"))?;
    Some(rest.trim_start())
}

fn parse_shape(text: &str) -> Option<Vec<usize>> {
    let (lengths, _) = text.strip_prefix('(')?.split_once(')')?;
    let lengths = lengths.trim().trim_end_matches(',');
    if lengths.is_empty() {
        return Some(vec![]);
    }
    lengths.split(',').map(|length| length.trim().parse().ok()).collect()
}

fn parse_descr(text: &str) -> Option<(ByteOrder, Dtype)> {
    let (descr, _) = text.strip_prefix('\'')?.split_once('\'')?;
    let order = match descr.chars().next()? {
        '<' | '|' => ByteOrder::Little,
        '>' => ByteOrder::Big,
        _ => return None,
    };
    let dtype = match &descr[1..] {
        "b1" => Dtype::Bool,
        "u1" => Dtype::U8,
        "i1" => Dtype::I8,
        "u2" => Dtype::U16,
        "i2" => Dtype::I16,
        "u4" => Dtype::U32,
        "i4" => Dtype::I32,
        "u8" => Dtype::U64,
        "i8" => Dtype::I64,
        "f2" => Dtype::F16,
        "f4" => Dtype::F32,
        "f8" => Dtype::F64,
        _ => return None,
    };
    Some((order, dtype))
}

/// Column-major values, the first axis running fastest, in the order of the last one doing so.
fn row_major<T: Copy>(shape: &[usize], values: &[T]) -> Vec<T> {
    let places = (0..values.len()).map(|place| {
        let (mut rest, mut stride_left, mut source) = (place, values.len(), 0);
        for &length in shape.iter().rev() {
            stride_left /= length; // not zero: there would be no place
            source += (rest % length) * stride_left;
            rest /= length;
        }
        source
    });
    places.map(|source| values[source]).collect()
}

/// The beginning, without the control codes that a stranger's file may hold.
fn shorten(text: &str) -> String {
    let printable = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    printable.take(ALIGNMENT).collect()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
