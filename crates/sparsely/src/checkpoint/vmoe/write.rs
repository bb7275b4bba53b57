//! From named arrays to the files, as the reference writes them from one device.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rmp::encode::{
    write_array_len, write_bin, write_bin_len, write_bool, write_ext_meta, write_map_len,
    write_nil, write_str, write_uint,
};

use super::index::{EXT_LEAF, VERSION};
use super::shard::{EXT_ARRAY, EXT_SLICES, MAGIC};
use super::{index_path, shard_path};
use crate::checkpoint::arrays::{ArrayRef, write_values};
use crate::checkpoint::atomic::write_atomic;
use crate::error::{Error, Result};

/// Elements of one part of a chunk: 2³⁰ bytes, since MessagePack counts bytes in 32 bits.
const PART_ELEMENTS: usize = 1 << 28;
const DTYPE: &str = "float32";

/// Writes the arrays as one checkpoint of up to `shards` data files (never more than there are
/// arrays) and returns the files. The index comes last, so that a reader finds a whole checkpoint
/// or none.
///
/// # Errors
///
/// [`Error::Format`] if a checkpoint of that prefix is there; [`Error::Argument`] for no arrays, no
/// shards, a name twice, or a name that is also the beginning of another; [`Error::Io`] naming the
/// file, after which none of them is left.
pub fn write_vmoe(prefix: &Path, arrays: &[ArrayRef], shards: usize) -> Result<Vec<PathBuf>> {
    write_in_parts(prefix, arrays, shards, PART_ELEMENTS)
}

pub(super) fn write_in_parts(
    prefix: &Path,
    arrays: &[ArrayRef],
    shards: usize,
    part_elements: usize,
) -> Result<Vec<PathBuf>> {
    let tree = Tree::new(arrays)?;
    let shards = shards.min(tree.leaves.len());
    if shards == 0 {
        return Err(unfit("no arrays or no shards".into()));
    }
    let paths: Vec<PathBuf> = (0..shards).map(|shard| shard_path(prefix, shard, shards)).collect();
    let index = index_path(prefix);
    if let Some(taken) = paths.iter().chain([&index]).find(|path| path.exists()) {
        return Err(Error::format(taken, "no file of that name yet", "one"));
    }
    write_all_or_none(&tree, &paths, &index, part_elements)
}

pub(super) fn write_all_or_none(
    tree: &Tree,
    shards: &[PathBuf],
    index: &Path,
    part_elements: usize,
) -> Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    let mut write = |path: &Path, bytes: &dyn Fn(&mut dyn Write) -> io::Result<()>| {
        write_atomic(path, bytes)?;
        written.push(path.to_path_buf());
        Ok(())
    };
    // The reference gives each array to the shard with the fewest: one after the other.
    let leaves_of = |shard| tree.leaves.iter().enumerate().skip(shard).step_by(shards.len());
    let result = shards
        .iter()
        .enumerate()
        .try_for_each(|(shard, path)| {
            write(path, &|file| write_shard(file, leaves_of(shard), part_elements))
        })
        .and_then(|()| write(index, &|file| file.write_all(&tree.index(shards.len())?)));
    if let Err(error) = result {
        // What cannot be removed any more is not worth hiding the error.
        written.iter().for_each(|path| drop(fs::remove_file(path)));
        return Err(error);
    }
    Ok(written)
}

fn unfit(got: String) -> Error {
    let expected = "arrays of different names, none the beginning of another, and a shard".into();
    Error::Argument { op: "write_vmoe", expected, got }
}

/// The arrays in the order of their numbers, and the tree of their names.
pub(super) struct Tree<'a> {
    leaves: Vec<&'a ArrayRef<'a>>,
    root: BTreeMap<&'a str, Node<'a>>,
}

enum Node<'a> {
    Map(BTreeMap<&'a str, Node<'a>>),
    Leaf(&'a ArrayRef<'a>),
}

impl<'a> Tree<'a> {
    pub(super) fn new(arrays: &'a [ArrayRef<'a>]) -> Result<Tree<'a>> {
        let mut root = BTreeMap::new();
        for array in arrays {
            let taken = || unfit(format!("the name `{}`, which is taken", array.name));
            let mut map = &mut root;
            let mut parts = array.name.split('/');
            let last = parts.next_back().unwrap_or_default();
            for part in parts {
                let node = map.entry(part).or_insert_with(|| Node::Map(BTreeMap::new()));
                let Node::Map(inner) = node else { return Err(taken()) };
                map = inner;
            }
            if map.insert(last, Node::Leaf(array)).is_some() {
                return Err(taken());
            }
        }
        let mut leaves = Vec::new();
        collect(&root, &mut leaves);
        Ok(Tree { leaves, root })
    }

    fn index(&self, shards: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let out = &mut bytes;
        write_map_len(out, 3)?;
        write_str(out, "shard_count")?;
        write_uint(out, shards as u64)?;
        write_str(out, "index")?;
        write_map(out, &self.root, &mut (0..shards).cycle())?;
        write_str(out, "version")?;
        write_str(out, VERSION)?;
        Ok(bytes)
    }
}

/// Depth first with sorted keys: the order that numbers leaves.
fn collect<'a>(map: &BTreeMap<&'a str, Node<'a>>, leaves: &mut Vec<&'a ArrayRef<'a>>) {
    for node in map.values() {
        match node {
            Node::Map(inner) => collect(inner, leaves),
            Node::Leaf(array) => leaves.push(array),
        }
    }
}

/// `shard_of` yields the shards of the leaves in their order.
fn write_map(
    out: &mut Vec<u8>,
    map: &BTreeMap<&str, Node>,
    shard_of: &mut impl Iterator<Item = usize>,
) -> io::Result<()> {
    write_map_len(out, length(map.len())?)?;
    for (key, node) in map {
        write_str(out, key)?;
        match node {
            Node::Map(inner) => write_map(out, inner, shard_of)?,
            Node::Leaf(array) => {
                let shard = shard_of.next().unwrap_or(0);
                write_ext(out, EXT_LEAF, &info(array.shape, shard)?)?;
            }
        }
    }
    Ok(())
}

/// `[array, [slices], [shard]]`, the array in one chunk.
fn info(shape: &[usize], shard: usize) -> io::Result<Vec<u8>> {
    let (mut array, mut info) = (Vec::new(), Vec::new());
    write_array_len(&mut array, 4)?;
    write_shape(&mut array, shape)?;
    write_str(&mut array, DTYPE)?;
    write_bool(&mut array, false)?;
    write_map_len(&mut array, 0)?;

    write_array_len(&mut info, 3)?;
    write_bin(&mut info, &array)?;
    write_array_len(&mut info, 1)?;
    write_bin(&mut info, &slices(shape)?)?;
    write_array_len(&mut info, 1)?;
    write_uint(&mut info, shard as u64)?;
    Ok(info)
}

fn write_shape(out: &mut Vec<u8>, shape: &[usize]) -> io::Result<()> {
    write_array_len(out, length(shape.len())?)?;
    shape.iter().try_for_each(|axis| write_uint(out, *axis as u64).map(drop).map_err(Into::into))
}

/// All of an array.
fn slices(shape: &[usize]) -> io::Result<Vec<u8>> {
    let mut slices = Vec::new();
    write_array_len(&mut slices, length(shape.len())?)?;
    for axis in shape {
        let mut slice = Vec::new();
        write_array_len(&mut slice, 3)?;
        write_uint(&mut slice, 0)?;
        write_uint(&mut slice, *axis as u64)?;
        write_nil(&mut slice)?;
        write_bin(&mut slices, &slice)?;
    }
    Ok(slices)
}

fn write_ext(out: &mut Vec<u8>, code: i8, content: &[u8]) -> io::Result<()> {
    write_ext_meta(out, length(content.len())?, code)?;
    out.write_all(content)
}

fn write_shard<'a>(
    file: &mut dyn Write,
    leaves: impl ExactSizeIterator<Item = (usize, &'a &'a ArrayRef<'a>)>,
    part_elements: usize,
) -> io::Result<()> {
    let mut head = Vec::new();
    write_map_len(&mut head, length(leaves.len() + 1)?)?;
    write_str(&mut head, MAGIC)?;
    write_bool(&mut head, true)?;
    for (number, array) in leaves {
        write_str(&mut head, &number.to_string())?;
        write_array_len(&mut head, 1)?;
        write_array_len(&mut head, 2)?;
        write_array_len(&mut head, length(array.values.len().div_ceil(part_elements))?)?;
        for part in array.values.chunks(part_elements) {
            let bytes = length(size_of_val(part))?;
            let mut content = Vec::new();
            write_array_len(&mut content, 3)?;
            write_shape(&mut content, &[part.len()])?;
            write_str(&mut content, DTYPE)?;
            write_bin_len(&mut content, bytes)?;
            write_ext_meta(&mut head, length(content.len())? + bytes, EXT_ARRAY)?;
            head.extend(content);
            file.write_all(&std::mem::take(&mut head))?;
            write_values(file, part)?;
        }
        write_ext(&mut head, EXT_SLICES, &slices(array.shape)?)?;
    }
    file.write_all(&head)
}

fn length(length: usize) -> io::Result<u32> {
    u32::try_from(length).map_err(|_| io::Error::other("more entries than MessagePack can count"))
}
