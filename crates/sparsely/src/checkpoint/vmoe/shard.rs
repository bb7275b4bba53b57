//! A `.data-NNNNN-of-MMMMM`: the chunks of arrays that lie in one file.

use super::index::{Slices, misfit, parse_shape, parse_slices, quoted, volume};
use super::msgpack::{Cursor, Fit};

/// The first key, by which the reference knows such a file.
pub(super) const MAGIC: &str = "__msgpack_array_chunk_a87ca2__";
pub(super) const EXT_ARRAY: i8 = 1;
/// A single number, which is written as an array of it.
const EXT_SCALAR: i8 = 3;
pub(super) const EXT_SLICES: i8 = 6;

/// A chunk as it lies in the file: consecutive parts of its elements, row-major.
pub(super) struct StoredChunk<'a> {
    pub(super) slices: Slices,
    pub(super) parts: Vec<Part<'a>>,
}

/// Some elements of a chunk.
pub(super) struct Part<'a> {
    pub(super) dtype: &'a str,
    pub(super) elements: usize,
    /// Little-endian.
    pub(super) bytes: &'a [u8],
}

/// Calls `take` with each chunk and the number of the leaf that it is a part of, in the file's
/// order. No more than one chunk's table is held at a time, and no element is copied.
pub(super) fn visit<'a>(
    bytes: &'a [u8],
    mut take: impl FnMut(usize, StoredChunk<'a>) -> Fit<()>,
) -> Fit<()> {
    let mut cursor = Cursor::new(bytes);
    let mut is_marked = false;
    for _ in 0..cursor.map("the map of a shard")? {
        let key = cursor.text("the number of an array")?;
        if key == MAGIC {
            is_marked = cursor.boolean("a mark")?;
            continue;
        }
        let number = key.parse().map_err(|_| misfit("the number of an array", quoted(key)))?;
        for _ in 0..cursor.array("a list of chunks")? {
            take(number, parse_chunk(&mut cursor)?)?;
        }
    }
    cursor.end("the shard")?;
    if is_marked { Ok(()) } else { Err(misfit("the key of array chunks", "none".into())) }
}

/// `[[part …], slices]`.
fn parse_chunk<'a>(cursor: &mut Cursor<'a>) -> Fit<StoredChunk<'a>> {
    cursor.array_of(2, "parts and slices")?;
    let parts =
        (0..cursor.array("parts of a chunk")?).map(|_| parse_part(cursor)).collect::<Fit<_>>()?;
    let ext = cursor.ext("slices of a chunk")?;
    if ext.code != EXT_SLICES {
        return Err((format!("slices (type {EXT_SLICES})"), format!("type {}", ext.code)));
    }
    Ok(StoredChunk { slices: parse_slices(ext.bytes)?, parts })
}

/// `[shape, type, elements]`.
fn parse_part<'a>(cursor: &mut Cursor<'a>) -> Fit<Part<'a>> {
    let ext = cursor.ext("a part of a chunk")?;
    if !matches!(ext.code, EXT_ARRAY | EXT_SCALAR) {
        return Err((format!("an array (type {EXT_ARRAY})"), format!("type {}", ext.code)));
    }
    let mut cursor = Cursor::new(ext.bytes);
    cursor.array_of(3, "shape, type and elements")?;
    let elements = volume(parse_shape(&mut cursor)?)
        .ok_or_else(|| misfit("a number of elements", "more than can be counted".into()))?;
    let (dtype, bytes) = (cursor.text("a type")?, cursor.bytes("elements")?);
    cursor.end("the elements")?;
    Ok(Part { dtype, elements, bytes })
}
