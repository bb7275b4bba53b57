//! The `.index`: which arrays there are, and in which file each chunk of them lies.

use std::collections::BTreeSet;

use super::msgpack::{Cursor, Fit, Misfit};

/// The only version that is written into files; those before it name none.
pub(super) const VERSION: &str = "20220622";
pub(super) const EXT_LEAF: i8 = 8;
/// Maps within maps.
const MAX_DEPTH: usize = 16;
/// Bytes of a name with the slashes between its parts, so that an index of many leaves below one
/// long key does not grow when names are written out.
const MAX_NAME: usize = 256;
/// Axes of an array; NumPy had no more when the format was made.
const MAX_AXES: usize = 32;

/// `[start, stop]` of each axis; none for a scalar.
pub(super) type Slices = Vec<[usize; 2]>;

/// What a checkpoint says of itself.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) shard_count: usize,
    /// In the order of their numbers.
    pub(super) leaves: Vec<Leaf>,
}

/// An array: what it is, and where its chunks lie.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) dtype: String,
    /// Sorted; their volumes add up to the shape's.
    pub(super) chunks: Vec<Chunk>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Chunk {
    pub(super) shard: usize,
    pub(super) slices: Slices,
}

/// Elements of an array of these extents; `None` where the number does not fit into `usize`.
pub(super) fn volume(extents: impl IntoIterator<Item = usize>) -> Option<usize> {
    extents.into_iter().try_fold(1_usize, usize::checked_mul)
}

/// Extents of a chunk.
pub(super) fn extents(slices: &[[usize; 2]]) -> impl Iterator<Item = usize> {
    slices.iter().map(|[start, stop]| stop - start)
}

/// Reads the content of an index file.
pub(super) fn parse(bytes: &[u8]) -> Fit<Index> {
    let mut cursor = Cursor::new(bytes);
    let (mut shard_count, mut tree) = (None, None);
    for _ in 0..cursor.map("the map of an index")? {
        match cursor.text("a key of the index")? {
            "shard_count" => shard_count = Some(cursor.number("the number of shards")?),
            "index" => tree = Some(parse_tree(&mut cursor)?),
            "version" => check_version(&mut cursor)?,
            other => return Err(misfit("shard_count, index or version", quoted(other))),
        }
    }
    cursor.end("the index")?;
    let shard_count = shard_count.ok_or_else(|| misfit("`shard_count`", "none".into()))?;
    let leaves = tree.ok_or_else(|| misfit("`index`", "none".into()))?;
    let index = Index { shard_count, leaves };
    index.leaves.iter().try_for_each(|leaf| leaf.check(shard_count))?;
    Ok(index)
}

/// A key or type of the file, safe to print.
pub(super) fn quoted(text: &str) -> String {
    format!("`{}`", text.escape_debug())
}

pub(super) fn misfit(expected: &str, got: String) -> Misfit {
    (expected.into(), got)
}

fn check_version(cursor: &mut Cursor) -> Fit<()> {
    if cursor.skip_nil() {
        return Ok(());
    }
    match cursor.text("a version")? {
        VERSION => Ok(()),
        other => Err((format!("version `{VERSION}` or none"), quoted(other))),
    }
}

/// All leaves, sorted by the keys on the way to them, level by level.
fn parse_tree(cursor: &mut Cursor) -> Fit<Vec<Leaf>> {
    let mut leaves = Vec::new();
    parse_node(cursor, &mut Vec::new(), &mut leaves)?;
    // Not by the whole name: `a/x` comes before `a-b/x`, though `-` comes before `/`.
    leaves.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(leaves.into_iter().map(|(_, leaf)| leaf).collect())
}

fn parse_node<'a>(
    cursor: &mut Cursor<'a>,
    path: &mut Vec<&'a str>,
    leaves: &mut Vec<(Vec<&'a str>, Leaf)>,
) -> Fit<()> {
    if cursor.skip_nil() {
        return Ok(());
    }
    if !cursor.is_map() {
        let leaf = parse_leaf(cursor, path.join("/"))?;
        leaves.push((path.clone(), leaf));
        return Ok(());
    }
    let mut keys = BTreeSet::new();
    for _ in 0..cursor.map("a map of names")? {
        let key = cursor.text("a name")?;
        let is_long = path.iter().map(|part| part.len() + 1).sum::<usize>() + key.len() > MAX_NAME;
        if path.len() == MAX_DEPTH || is_long {
            let most = format!("names of at most {MAX_NAME} bytes in {MAX_DEPTH} maps");
            return Err((most, "a longer one".into()));
        }
        if !keys.insert(key) {
            return Err(misfit("different names in a map", format!("{} twice", quoted(key))));
        }
        path.push(key);
        parse_node(cursor, path, leaves)?;
        path.pop();
    }
    Ok(())
}

fn parse_leaf(cursor: &mut Cursor, name: String) -> Fit<Leaf> {
    let ext = cursor.ext("an array or a map of arrays")?;
    if ext.code != EXT_LEAF {
        return Err((format!("type {EXT_LEAF} of {}", quoted(&name)), format!("{}", ext.code)));
    }
    let of_leaf = |(expected, got): Misfit| (format!("{expected} of {}", quoted(&name)), got);
    let (shape, dtype, chunks) = parse_info(ext.bytes).map_err(of_leaf)?;
    Ok(Leaf { shape, dtype, chunks, name })
}

/// `[array, [slices of a chunk …], [shard of a chunk …]]`.
fn parse_info(bytes: &[u8]) -> Fit<(Vec<usize>, String, Vec<Chunk>)> {
    let mut cursor = Cursor::new(bytes);
    cursor.array_of(3, "shape, slices and shards")?;
    let (shape, dtype) = parse_array(cursor.bytes("an array")?)?;
    let slices = (0..cursor.array("a list of slices")?)
        .map(|_| parse_slices(cursor.bytes("slices")?))
        .collect::<Fit<Vec<_>>>()?;
    cursor.array_of(slices.len(), "a shard for each chunk")?;
    let chunks = slices
        .into_iter()
        .map(|slices| Ok(Chunk { slices, shard: cursor.number("a shard")? }))
        .collect::<Fit<_>>()?;
    cursor.end("the entry")?;
    Ok((shape, dtype, chunks))
}

/// `[shape, type, weak, {}]`.
fn parse_array(bytes: &[u8]) -> Fit<(Vec<usize>, String)> {
    let mut cursor = Cursor::new(bytes);
    cursor.array_of(4, "shape, type, weakness and names of axes")?;
    let shape = parse_shape(&mut cursor)?;
    let dtype = cursor.text("a type")?.to_string();
    cursor.boolean("a weakness of the type")?;
    match cursor.map("names of axes")? {
        0 => cursor.end("the array")?,
        count => return Err(misfit("no names of axes", count.to_string())),
    }
    Ok((shape, dtype))
}

pub(super) fn parse_shape(cursor: &mut Cursor) -> Fit<Vec<usize>> {
    match cursor.array("a shape")? {
        axes if axes > MAX_AXES => Err((format!("at most {MAX_AXES} axes"), axes.to_string())),
        axes => (0..axes).map(|_| cursor.number("a length of an axis")).collect(),
    }
}

/// A list of byte strings, each of them `[start, stop, nil]`.
pub(super) fn parse_slices(bytes: &[u8]) -> Fit<Slices> {
    let mut cursor = Cursor::new(bytes);
    let slices = (0..cursor.array("slices")?)
        .map(|_| parse_slice(cursor.bytes("a slice")?))
        .collect::<Fit<_>>()?;
    cursor.end("the slices")?;
    Ok(slices)
}

fn parse_slice(bytes: &[u8]) -> Fit<[usize; 2]> {
    let mut cursor = Cursor::new(bytes);
    cursor.array_of(3, "start, stop and step")?;
    let (start, stop) = (cursor.number("a start")?, cursor.number("a stop")?);
    if !cursor.skip_nil() {
        return Err(misfit("a slice without steps", "one with".into()));
    }
    cursor.end("the slice")?;
    if start > stop {
        return Err(misfit("a start before the stop", format!("{start} to {stop}")));
    }
    Ok([start, stop])
}

impl Leaf {
    /// Chunks lie within the shape and the shards, differ, and are as many elements as the shape.
    /// (That they do not overlap is seen when they are filled in.)
    fn check(&self, shard_count: usize) -> Fit<()> {
        let refuse = |expected: &str, got: String| {
            Err((format!("{expected} of {} {:?}", quoted(&self.name), self.shape), got))
        };
        let mut elements = Some(0_usize);
        for chunk in &self.chunks {
            if chunk.shard >= shard_count {
                return refuse(
                    &format!("chunks in {shard_count} shards"),
                    format!("shard {}", chunk.shard),
                );
            }
            let is_inside = chunk.slices.len() == self.shape.len()
                && chunk.slices.iter().zip(&self.shape).all(|([_, stop], length)| stop <= length);
            if !is_inside {
                return refuse("chunks inside", format!("{:?}", chunk.slices));
            }
            let more = volume(extents(&chunk.slices));
            elements = elements.zip(more).and_then(|(sum, more)| sum.checked_add(more));
        }
        match (volume(self.shape.iter().copied()), elements) {
            (Some(all), Some(sum)) if all == sum => Ok(()),
            (Some(all), Some(sum)) => {
                refuse(&format!("{all} elements in the chunks"), sum.to_string())
            }
            _ => refuse("a number of elements", "more than can be counted".into()),
        }
    }
}
