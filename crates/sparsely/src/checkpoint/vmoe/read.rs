//! From the files to named arrays.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::index::{self, Chunk, Leaf, extents, misfit, quoted, volume};
use super::msgpack::{Fit, Misfit};
use super::shard::{self, Part, StoredChunk};
use super::{index_path, shard_path};
use crate::checkpoint::arrays::{Array, Arrays, ByteOrder, Dtype, Element, decode};
use crate::error::{Error, Result};

/// A checkpoint whose index has been read.
#[derive(Debug)]
pub struct VmoeCheckpoint {
    prefix: PathBuf,
    shard_count: usize,
    leaves: Vec<Leaf>,
}

impl VmoeCheckpoint {
    /// Reads `PREFIX.index`. `prefix` may also be that file itself.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], or [`Error::Format`] for what is not an index.
    pub fn open(prefix: &Path) -> Result<VmoeCheckpoint> {
        let prefix = match prefix.extension() {
            Some(extension) if extension == "index" => prefix.with_extension(""),
            _ => prefix.to_path_buf(),
        };
        let path = index_path(&prefix);
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        let index = index::parse(&bytes).map_err(format_error(&path))?;
        Ok(VmoeCheckpoint { prefix, shard_count: index.shard_count, leaves: index.leaves })
    }

    /// The names of all arrays, `/` between their parts, and their shapes.
    pub fn shapes(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.leaves.iter().map(|leaf| (&*leaf.name, &*leaf.shape))
    }

    /// Reads the arrays whose names `is_wanted` accepts, converted to `T`. One shard is in memory
    /// at a time.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], or [`Error::Format`] if the shards do not hold what the index says, or an
    /// array is not of real numbers.
    pub fn read<T: Element>(&self, is_wanted: impl Fn(&str) -> bool) -> Result<Arrays<T>> {
        let index = index_path(&self.prefix);
        let leaves = self.leaves.iter();
        let targets = leaves
            .map(|leaf| is_wanted(&leaf.name).then(|| Target::new(leaf)).transpose())
            .collect::<Fit<Vec<_>>>();
        let mut targets = targets.map_err(format_error(&index))?;
        self.check_size(&targets)?;
        for shard in self.shards_of(&targets) {
            self.fill_from(shard, &mut targets)?;
        }
        let mut arrays = Arrays::new();
        for target in targets.into_iter().flatten() {
            let name = target.leaf.name.clone();
            let array = target.finish().map_err(|(missing, shard)| {
                Error::format(&self.shard_path(shard), missing, "none")
            })?;
            if arrays.insert(name.clone(), array).is_some() {
                let got = format!("{} twice", quoted(&name));
                return Err(Error::format(&index, "different names", got));
            }
        }
        Ok(arrays)
    }

    /// Takes what is wanted out of one file.
    fn fill_from<T: Element>(
        &self,
        shard: usize,
        targets: &mut [Option<Target<'_, T>>],
    ) -> Result<()> {
        let path = self.shard_path(shard);
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        let count = targets.len();
        let fill = |number: usize, chunk| match targets.get_mut(number) {
            Some(Some(target)) => target.fill(shard, &chunk),
            Some(None) => Ok(()),
            None => Err((format!("the {count} arrays of the index"), format!("array {number}"))),
        };
        shard::visit(&bytes, fill).map_err(format_error(&path))
    }

    fn shard_path(&self, shard: usize) -> PathBuf {
        shard_path(&self.prefix, shard, self.shard_count)
    }

    /// An index may claim any shape: what it claims has to fit into the files before any memory is
    /// asked for.
    fn check_size<T>(&self, targets: &[Option<Target<'_, T>>]) -> Result<()> {
        let mut there = 0_u64;
        for shard in self.shards_of(targets) {
            let path = self.shard_path(shard);
            let metadata = fs::metadata(&path).map_err(Error::io("read", &path))?;
            there = there.saturating_add(metadata.len());
        }
        let claims = targets.iter().flatten().map(|target| {
            target.dtype.bytes_of(&target.leaf.shape).map_or(u64::MAX, |bytes| bytes as u64)
        });
        let claimed = claims.fold(0, u64::saturating_add);
        if claimed > there {
            let expected = format!("no more than the {there} bytes of the data files can hold");
            let got = format!("arrays of {claimed} bytes");
            return Err(Error::format(&index_path(&self.prefix), expected, got));
        }
        Ok(())
    }

    fn shards_of<T>(&self, targets: &[Option<Target<'_, T>>]) -> BTreeSet<usize> {
        let chunks = targets.iter().flatten().flat_map(|target| &target.leaf.chunks);
        chunks.map(|chunk| chunk.shard).collect()
    }
}

fn format_error(path: &Path) -> impl FnOnce(Misfit) -> Error {
    let path = path.to_path_buf();
    move |(expected, got)| Error::format(&path, expected, got)
}

/// An array that is being put together.
struct Target<'a, T> {
    leaf: &'a Leaf,
    dtype: Dtype,
    /// The chunks by shard and slices, and whether each has come.
    chunks: Vec<(&'a Chunk, bool)>,
    /// Empty until the first chunk comes.
    values: Vec<T>,
    /// Which elements have been filled in; empty where one chunk is all.
    is_filled: Vec<bool>,
}

impl<'a, T: Element> Target<'a, T> {
    fn new(leaf: &'a Leaf) -> Fit<Target<'a, T>> {
        let dtype = dtype_of(&leaf.dtype).ok_or_else(|| {
            (format!("real numbers of 8 to 64 bits in {}", quoted(&leaf.name)), quoted(&leaf.dtype))
        })?;
        let mut chunks: Vec<_> = leaf.chunks.iter().map(|chunk| (chunk, false)).collect();
        chunks.sort_unstable();
        Ok(Target { leaf, dtype, chunks, values: Vec::new(), is_filled: Vec::new() })
    }

    /// Takes a chunk from its shard.
    fn fill(&mut self, shard: usize, stored: &StoredChunk) -> Fit<()> {
        let name = quoted(&self.leaf.name);
        let place = (shard, &stored.slices);
        let found =
            self.chunks.binary_search_by(|(chunk, _)| (chunk.shard, &chunk.slices).cmp(&place));
        let at = found.map_err(|_| {
            misfit(&format!("the chunks of {name} in the index"), format!("{:?}", stored.slices))
        })?;
        if std::mem::replace(&mut self.chunks[at].1, true) {
            return Err(misfit(
                &format!("each chunk of {name} once"),
                format!("{:?} twice", stored.slices),
            ));
        }
        let values = self.values_of(stored)?;
        if self.chunks.len() == 1 {
            self.values = values; // as many as the shape has places: the index was checked
            return Ok(());
        }
        if self.values.is_empty() {
            let places = self.leaf.shape.iter().product();
            self.values = vec![T::from_f32(0.0); places];
            self.is_filled = vec![false; places];
        }
        self.place(&stored.slices, &values)
    }

    /// The elements of a chunk, from its parts.
    fn values_of(&self, stored: &StoredChunk) -> Fit<Vec<T>> {
        let name = quoted(&self.leaf.name);
        for Part { dtype, elements, bytes } in &stored.parts {
            if *dtype != self.leaf.dtype {
                return Err((
                    format!("elements of {name} of type `{}`", self.leaf.dtype),
                    quoted(dtype),
                ));
            }
            if elements.checked_mul(self.dtype.size()) != Some(bytes.len()) {
                return Err((
                    format!("{elements} elements of {name}"),
                    format!("{} bytes", bytes.len()),
                ));
            }
        }
        let elements: usize = stored.parts.iter().map(|part| part.elements).sum();
        let wanted = volume(extents(&stored.slices));
        if wanted != Some(elements) {
            let slices = &stored.slices;
            return Err((
                format!("as many elements of {name} as {slices:?} has"),
                elements.to_string(),
            ));
        }
        let part_to_values = |part: &Part| decode(self.dtype, ByteOrder::Little, part.bytes);
        Ok(match &*stored.parts {
            [only] => part_to_values(only),
            parts => {
                let mut values = Vec::with_capacity(elements);
                parts.iter().for_each(|part| values.extend(part_to_values(part)));
                values
            }
        })
    }

    /// Copies a chunk to its place, row by row.
    fn place(&mut self, slices: &[[usize; 2]], values: &[T]) -> Fit<()> {
        let width = slices.last().map_or(1, |[start, stop]| stop - start);
        if values.is_empty() {
            return Ok(());
        }
        for (row, row_values) in values.chunks(width).enumerate() {
            let start = offset(&self.leaf.shape, slices, row * width);
            let range = start..start + width;
            if self.is_filled[range.clone()].iter().any(|is_filled| *is_filled) {
                let expected = format!("chunks of {} that do not overlap", quoted(&self.leaf.name));
                return Err((expected, format!("{slices:?}")));
            }
            self.is_filled[range.clone()].fill(true);
            self.values[range].copy_from_slice(row_values);
        }
        Ok(())
    }

    /// The array, or what is missing and in which shard.
    fn finish(self) -> Result<Array<T>, (String, usize)> {
        if let Some((chunk, _)) = self.chunks.iter().find(|(_, is_there)| !is_there) {
            let missing = format!("the chunk {:?} of {}", chunk.slices, quoted(&self.leaf.name));
            return Err((missing, chunk.shard));
        }
        Ok(Array { shape: self.leaf.shape.clone(), values: self.values })
    }
}

/// Where in the array an element of the chunk lies.
fn offset(shape: &[usize], slices: &[[usize; 2]], element: usize) -> usize {
    let (mut rest, mut stride, mut offset) = (element, 1, 0);
    for (&length, [start, stop]) in shape.iter().zip(slices).rev() {
        let extent = stop - start; // not zero: there would be no element
        offset += (start + rest % extent) * stride;
        rest /= extent;
        stride *= length;
    }
    offset
}

/// The type of that name in NumPy.
fn dtype_of(name: &str) -> Option<Dtype> {
    Some(match name {
        "bool" => Dtype::Bool,
        "uint8" => Dtype::U8,
        "int8" => Dtype::I8,
        "uint16" => Dtype::U16,
        "int16" => Dtype::I16,
        "uint32" => Dtype::U32,
        "int32" => Dtype::I32,
        "uint64" => Dtype::U64,
        "int64" => Dtype::I64,
        "float16" => Dtype::F16,
        "bfloat16" => Dtype::Bf16,
        "float32" => Dtype::F32,
        "float64" => Dtype::F64,
        _ => return None,
    })
}
