//! Indices and shards put together by hand, right ones and wrong ones.

use rmp::encode::{
    write_array_len, write_bin, write_bool, write_ext_meta, write_map_len, write_nil, write_str,
    write_uint,
};

pub(crate) const MAGIC: &str = "__msgpack_array_chunk_a87ca2__";

/// An entry of an index: `[array, slices of each chunk, shard of each chunk]`.
#[derive(Clone)]
pub(crate) struct Leaf {
    pub(crate) code: i8,
    pub(crate) shape: Vec<u64>,
    pub(crate) dtype: &'static str,
    pub(crate) slices: Vec<Vec<u8>>,
    pub(crate) shards: Vec<u64>,
}

/// A float32 array in one chunk.
pub(crate) fn leaf(shape: &[u64]) -> Leaf {
    let all: Vec<_> = shape.iter().map(|length| [0, *length]).collect();
    Leaf {
        code: 8,
        shape: shape.to_vec(),
        dtype: "float32",
        slices: vec![slices(&all)],
        shards: vec![0],
    }
}

pub(crate) fn slices(slices: &[[u64; 2]]) -> Vec<u8> {
    steps(&slices.iter().map(|[start, stop]| [Some(*start), Some(*stop), None]).collect::<Vec<_>>())
}

/// Slices as lists of numbers and nothings.
pub(crate) fn steps(slices: &[[Option<u64>; 3]]) -> Vec<u8> {
    let mut out = Vec::new();
    write_array_len(&mut out, slices.len() as u32).unwrap();
    for slice in slices {
        let mut bytes = Vec::new();
        write_array_len(&mut bytes, 3).unwrap();
        for number in slice {
            match number {
                Some(number) => {
                    write_uint(&mut bytes, *number).unwrap();
                }
                None => write_nil(&mut bytes).unwrap(),
            }
        }
        write_bin(&mut out, &bytes).unwrap();
    }
    out
}

impl Leaf {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut array = Vec::new();
        write_array_len(&mut array, 4).unwrap();
        shape(&mut array, &self.shape);
        write_str(&mut array, self.dtype).unwrap();
        write_bool(&mut array, false).unwrap();
        write_map_len(&mut array, 0).unwrap();
        let mut info = Vec::new();
        write_array_len(&mut info, 3).unwrap();
        write_bin(&mut info, &array).unwrap();
        write_array_len(&mut info, self.slices.len() as u32).unwrap();
        self.slices.iter().for_each(|slices| write_bin(&mut info, slices).unwrap());
        write_array_len(&mut info, self.shards.len() as u32).unwrap();
        for shard in &self.shards {
            write_uint(&mut info, *shard).unwrap();
        }
        ext(self.code, &info)
    }
}

fn shape(out: &mut Vec<u8>, shape: &[u64]) {
    write_array_len(out, shape.len() as u32).unwrap();
    for length in shape {
        write_uint(out, *length).unwrap();
    }
}

pub(crate) fn ext(code: i8, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_ext_meta(&mut out, content.len() as u32, code).unwrap();
    [out, content.to_vec()].concat()
}

/// A map of names to what has been encoded.
pub(crate) fn map(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    write_map_len(&mut out, entries.len() as u32).unwrap();
    for (key, value) in entries {
        write_str(&mut out, key).unwrap();
        out.extend(value);
    }
    out
}

pub(crate) fn number(number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    write_uint(&mut out, number).unwrap();
    out
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    write_str(&mut out, text).unwrap();
    out
}

/// An index of one shard with one array `w`.
pub(crate) fn index(leaf: &Leaf) -> Vec<u8> {
    index_of(&map(&[("w", leaf.bytes())]), 1)
}

pub(crate) fn index_of(tree: &[u8], shards: u64) -> Vec<u8> {
    map(&[("shard_count", number(shards)), ("index", tree.to_vec()), ("version", text("20220622"))])
}

/// Elements of a chunk: `[shape, type, bytes]`.
pub(crate) fn part(lengths: &[u64], dtype: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_array_len(&mut out, 3).unwrap();
    shape(&mut out, lengths);
    write_str(&mut out, dtype).unwrap();
    write_bin(&mut out, bytes).unwrap();
    ext(1, &out)
}

/// `[[part …], slices]`.
pub(crate) fn chunk(parts: &[Vec<u8>], slices: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_array_len(&mut out, 2).unwrap();
    write_array_len(&mut out, parts.len() as u32).unwrap();
    [out, parts.concat(), ext(6, slices)].concat()
}

pub(crate) fn list(items: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    write_array_len(&mut out, items.len() as u32).unwrap();
    [out, items.concat()].concat()
}

/// A shard with the chunks of array 0.
pub(crate) fn shard(chunks: &[Vec<u8>]) -> Vec<u8> {
    map(&[(MAGIC, vec![0xc3]), ("0", list(chunks))])
}

/// A chunk of so many ones.
pub(crate) fn ones(count: usize, place: &[[u64; 2]]) -> Vec<u8> {
    let bytes = 1.0_f32.to_le_bytes().repeat(count);
    chunk(&[part(&[count as u64], "float32", &bytes)], &slices(place))
}
