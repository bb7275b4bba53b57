//! Named arrays of numbers, and how the bytes of any number type become them.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use half::{bf16, f16};

use crate::error::{Error, Result};

/// Values that are turned into bytes together.
const WRITTEN_AT_ONCE: usize = 4096;

/// Arrays by name, in the order of the names.
///
/// `Arrays` are of `f32`; `Arrays<f64>` read references without losing precision.
pub type Arrays<T = f32> = BTreeMap<String, Array<T>>;

/// A dense array in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct Array<T = f32> {
    /// Length of each axis; empty for a scalar.
    pub shape: Vec<usize>,
    /// As many values as the shape has places.
    pub values: Vec<T>,
}

/// A borrowed array with its name: what the writers take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ArrayRef<'a> {
    /// The name in the file.
    pub name: &'a str,
    /// Length of each axis; empty for a scalar.
    pub shape: &'a [usize],
    /// As many values as the shape has places, row-major.
    pub values: &'a [f32],
}

/// The arrays as what the writers take.
pub fn array_refs(arrays: &Arrays) -> Vec<ArrayRef<'_>> {
    arrays
        .iter()
        .map(|(name, array)| ArrayRef { name, shape: &array.shape, values: &array.values })
        .collect()
}

/// Checks that `arrays`, read from `path`, are exactly the `expected` names and shapes.
///
/// # Errors
///
/// [`Error::Format`] telling the missing, unexpected and misshapen arrays at once.
pub fn check_shapes(path: &Path, arrays: &Arrays, expected: &[(&str, &[usize])]) -> Result<()> {
    check_named(path, arrays.iter().map(|(name, array)| (&**name, &*array.shape)), expected)
}

/// As [`check_shapes`], of names and shapes.
pub(super) fn check_named<'a>(
    path: &Path,
    arrays: impl Iterator<Item = (&'a str, &'a [usize])>,
    expected: &[(&str, &[usize])],
) -> Result<()> {
    let arrays: BTreeMap<&str, &[usize]> = arrays.collect();
    let mut mismatches = Vec::new();
    for &(name, shape) in expected {
        match arrays.get(name) {
            None => mismatches.push(format!("no `{name}`")),
            Some(found) if *found != shape => {
                mismatches.push(format!("`{name}` of shape {found:?} instead of {shape:?}"));
            }
            Some(_) => {}
        }
    }
    let known: BTreeMap<&str, &[usize]> = expected.iter().copied().collect();
    let unknown = arrays.keys().filter(|name| !known.contains_key(*name));
    // A name of a stranger's file may hold anything, control codes of the terminal too.
    mismatches.extend(unknown.map(|name| format!("an unexpected `{}`", name.escape_debug())));
    if mismatches.is_empty() {
        return Ok(());
    }
    let wanted = format!("the model's {} arrays", expected.len());
    Err(Error::format(path, wanted, mismatches.join(", ")))
}

/// A number type that arrays are read into: `f32` or `f64`.
pub trait Element: Copy + sealed::Sealed {
    /// From a single-precision value, exactly.
    fn from_f32(value: f32) -> Self;
    /// From a double-precision value, rounded if need be.
    fn from_f64(value: f64) -> Self;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

impl Element for f32 {
    fn from_f32(value: f32) -> f32 {
        value
    }

    fn from_f64(value: f64) -> f32 {
        value as f32
    }
}

impl Element for f64 {
    fn from_f32(value: f32) -> f64 {
        f64::from(value)
    }

    fn from_f64(value: f64) -> f64 {
        value
    }
}

/// Writes the values, little-endian.
pub(super) fn write_values(file: &mut dyn Write, values: &[f32]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(WRITTEN_AT_ONCE * size_of::<f32>());
    for values in values.chunks(WRITTEN_AT_ONCE) {
        bytes.clear();
        values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        file.write_all(&bytes)?;
    }
    Ok(())
}

/// The number types that files hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dtype {
    Bool,
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F16,
    Bf16,
    F32,
    F64,
}

impl Dtype {
    /// Size of one value in bytes.
    pub(super) fn size(self) -> usize {
        match self {
            Dtype::Bool | Dtype::U8 | Dtype::I8 => 1,
            Dtype::U16 | Dtype::I16 | Dtype::F16 | Dtype::Bf16 => 2,
            Dtype::U32 | Dtype::I32 | Dtype::F32 => 4,
            Dtype::U64 | Dtype::I64 | Dtype::F64 => 8,
        }
    }

    /// Bytes of an array of this shape; `None` where the number does not fit into `usize`.
    pub(super) fn bytes_of(self, shape: &[usize]) -> Option<usize> {
        shape.iter().try_fold(self.size(), |bytes, &length| bytes.checked_mul(length))
    }
}

/// Order of the bytes within one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ByteOrder {
    Little,
    Big,
}

/// The values in `bytes`; an incomplete last value is left out.
pub(super) fn decode<T: Element>(dtype: Dtype, order: ByteOrder, bytes: &[u8]) -> Vec<T> {
    let real = T::from_f64;
    match dtype {
        Dtype::Bool => each(order, bytes, |[b]: [u8; 1]| real(f64::from(u8::from(b != 0)))),
        Dtype::U8 => each(order, bytes, |b| real(u8::from_le_bytes(b).into())),
        Dtype::I8 => each(order, bytes, |b| real(i8::from_le_bytes(b).into())),
        Dtype::U16 => each(order, bytes, |b| real(u16::from_le_bytes(b).into())),
        Dtype::I16 => each(order, bytes, |b| real(i16::from_le_bytes(b).into())),
        Dtype::U32 => each(order, bytes, |b| real(u32::from_le_bytes(b).into())),
        Dtype::I32 => each(order, bytes, |b| real(i32::from_le_bytes(b).into())),
        Dtype::U64 => each(order, bytes, |b| real(u64::from_le_bytes(b) as f64)),
        Dtype::I64 => each(order, bytes, |b| real(i64::from_le_bytes(b) as f64)),
        Dtype::F16 => each(order, bytes, |b| T::from_f32(f16::from_le_bytes(b).to_f32())),
        Dtype::Bf16 => each(order, bytes, |b| T::from_f32(bf16::from_le_bytes(b).to_f32())),
        Dtype::F32 => each(order, bytes, |b| T::from_f32(f32::from_le_bytes(b))),
        Dtype::F64 => each(order, bytes, |b| real(f64::from_le_bytes(b))),
    }
}

fn each<T, const N: usize>(
    order: ByteOrder,
    bytes: &[u8],
    value_of: impl Fn([u8; N]) -> T,
) -> Vec<T> {
    let (chunks, _) = bytes.as_chunks::<N>();
    match order {
        ByteOrder::Little => chunks.iter().map(|&chunk| value_of(chunk)).collect(),
        ByteOrder::Big => chunks
            .iter()
            .map(|&(mut chunk)| {
                chunk.reverse();
                value_of(chunk)
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_type_becomes_its_value() {
        let cases: [(Dtype, &[u8], f64); 13] = [
            (Dtype::Bool, &[7], 1.0),
            (Dtype::U8, &[255], 255.0),
            (Dtype::I8, &[255], -1.0),
            (Dtype::U16, &[0, 1], 256.0),
            (Dtype::I16, &[254, 255], -2.0),
            (Dtype::U32, &[0, 0, 1, 0], 65536.0),
            (Dtype::I32, &[253, 255, 255, 255], -3.0),
            (Dtype::U64, &[0, 0, 0, 0, 1, 0, 0, 0], 4_294_967_296.0),
            (Dtype::I64, &[252, 255, 255, 255, 255, 255, 255, 255], -4.0),
            (Dtype::F16, &[0x00, 0x3e], 1.5),
            (Dtype::Bf16, &[0xc0, 0x3f], 1.5),
            (Dtype::F32, &[0, 0, 0xc0, 0x3f], 1.5),
            (Dtype::F64, &[0, 0, 0, 0, 0, 0, 0xf8, 0x3f], 1.5),
        ];
        for (dtype, little, value) in cases {
            let big: Vec<u8> = little.iter().rev().copied().collect();
            assert_eq!(decode::<f64>(dtype, ByteOrder::Little, little), [value], "{dtype:?}");
            assert_eq!(decode::<f32>(dtype, ByteOrder::Big, &big), [value as f32], "{dtype:?}");
        }
    }

    #[test]
    fn single_precision_keeps_every_bit_even_of_nan() {
        let bits = [0x7fc0_0001_u32, 0xff80_0000, 0x8000_0000, 1];
        let bytes: Vec<u8> = bits.iter().flat_map(|b| b.to_le_bytes()).collect();
        let values: Vec<f32> = decode(Dtype::F32, ByteOrder::Little, &bytes);
        assert_eq!(values.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), bits);
    }

    #[test]
    fn all_mismatches_are_told_at_once() {
        let array = |shape: &[usize]| Array { shape: shape.to_vec(), values: vec![0.0; 6] };
        let arrays = Arrays::from([
            ("bias".into(), array(&[6])),
            ("head".into(), array(&[2, 3])),
            ("spare".into(), array(&[6])),
        ]);
        let path = Path::new("model.safetensors");
        let expected: &[(&str, &[usize])] =
            &[("bias", &[6]), ("head", &[3, 2]), ("kernel", &[2, 2])];
        assert_eq!(
            check_shapes(path, &arrays, expected).unwrap_err().to_string(),
            "`model.safetensors`: expected the model's 3 arrays, got `head` of shape [2, 3] \
             instead of [3, 2], no `kernel`, an unexpected `spare`"
        );
        let fitting: &[(&str, &[usize])] = &[("bias", &[6]), ("head", &[2, 3]), ("spare", &[6])];
        check_shapes(path, &arrays, fitting).unwrap();
    }

    #[test]
    fn control_codes_in_a_name_are_not_printed() {
        let array = Array { shape: vec![], values: vec![0.0] };
        let arrays = Arrays::from([("\u{1b}[2J".into(), array)]);
        assert_eq!(
            check_shapes(Path::new("m"), &arrays, &[]).unwrap_err().to_string(),
            "`m`: expected the model's 0 arrays, got an unexpected `\\u{1b}[2J`"
        );
    }
}
