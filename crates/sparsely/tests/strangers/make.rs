//! The broken files, each with one thing wrong.
//!
//! Every file is small; a checkpoint is `NAME.index` and `NAME.data-00000-of-00001`, of which the
//! one that is not broken is that of an array `w` of two ones.

use std::collections::BTreeMap;

use crate::msgpack::{
    Leaf, MAGIC, chunk, ext, index, index_of, leaf, list, map, number, ones, part, shard, slices,
    steps, text,
};

/// All files by their names.
pub(crate) fn files() -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let right_index = index(&leaf(&[2]));
    let right_shard = shard(&[ones(2, &[[0, 2]])]);
    let mut add = |name: &str, index: &[u8], shard: &[u8]| {
        files.insert(format!("{name}.index"), index.to_vec());
        files.insert(format!("{name}.data-00000-of-00001"), shard.to_vec());
    };
    add("right", &right_index, &right_shard);
    for (name, index) in broken_indices(&right_index) {
        add(name, &index, &right_shard);
    }
    for (name, shard) in broken_shards(&right_shard) {
        add(name, &right_index, &shard);
    }
    let halves = Leaf {
        slices: vec![slices(&[[0, 1]]), slices(&[[1, 2]])],
        shards: vec![0, 0],
        ..leaf(&[2])
    };
    add("chunk_missing", &index(&halves), &shard(&[ones(1, &[[0, 1]])]));
    add("chunk_twice", &index(&halves), &shard(&[ones(1, &[[0, 1]]), ones(1, &[[0, 1]])]));
    let empty = Leaf { slices: vec![], shards: vec![], ..leaf(&[0]) }.bytes();
    let twice = map(&[("a", map(&[("b", empty.clone())])), ("a/b", empty)]);
    add("index_of_one_path_twice", &index_of(&twice, 1), &map(&[(MAGIC, vec![0xc3])]));
    let overlap = Leaf {
        slices: vec![slices(&[[0, 2]]), slices(&[[1, 2]]), slices(&[[2, 2]])],
        shards: vec![0, 0, 0],
        ..leaf(&[3])
    };
    let overlapping = [ones(2, &[[0, 2]]), ones(1, &[[1, 2]]), ones(0, &[[2, 2]])];
    add("chunks_overlap", &index(&overlap), &shard(&overlapping));
    files.insert("no_shard.index".into(), right_index);
    files.extend(arrays().map(|(name, bytes)| (name.to_string(), bytes)));
    files
}

fn broken_indices(right: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let w = leaf(&[2]);
    let tree = map(&[("w", w.bytes())]);
    let nested = (0..17).fold(w.bytes(), |inner, _| map(&[("a", inner)]));
    let four_billion_keys = [&[0xdf, 0xff, 0xff, 0xff, 0xff][..], &text("index")].concat();
    vec![
        ("index_empty", vec![]),
        ("index_cut", right[..right.len() - 20].to_vec()),
        ("index_is_something_else", b"PK\x03\x04".to_vec()),
        ("index_goes_on", [right, &[0xc0]].concat()),
        ("index_claims_four_billion_keys", four_billion_keys),
        (
            "index_of_another_version",
            map(&[
                ("shard_count", number(1)),
                ("index", tree.clone()),
                ("version", text("20991231")),
            ]),
        ),
        ("index_without_tree", map(&[("shard_count", number(1))])),
        ("index_without_count", map(&[("index", tree.clone())])),
        ("index_with_another_key", map(&[("shards", number(1))])),
        ("index_too_deep", index_of(&nested, 1)),
        ("index_of_a_long_name", index_of(&map(&[(&*"n".repeat(257), w.bytes())]), 1)),
        ("index_of_one_name_twice", index_of(&map(&[("w", w.bytes()), ("w", w.bytes())]), 1)),
        ("leaf_is_a_number", index_of(&map(&[("w", number(7))]), 1)),
        ("leaf_of_another_type", index(&Leaf { code: 1, ..w.clone() })),
        ("leaf_cut", index_of(&map(&[("w", ext(8, &w.bytes()[3..20]))]), 1)),
        ("leaf_of_objects", index(&Leaf { dtype: "object", ..w.clone() })),
        ("leaf_of_complex_numbers", index(&Leaf { dtype: "complex64", ..w.clone() })),
        (
            "leaf_with_an_escape_code",
            index_of(&map(&[("\u{1b}[2J", Leaf { dtype: "?", ..w.clone() }.bytes())]), 1),
        ),
        ("leaf_of_a_terabyte", index(&leaf(&[1 << 19, 1 << 19]))),
        ("leaf_of_more_than_can_be_counted", index(&leaf(&[1 << 40, 1 << 40]))),
        ("leaf_of_too_many_axes", index(&leaf(&[1; 33]))),
        ("chunk_outside", index(&Leaf { slices: vec![slices(&[[1, 3]])], ..w.clone() })),
        (
            "chunk_of_other_axes",
            index(&Leaf { slices: vec![slices(&[[0, 2], [0, 1]])], ..w.clone() }),
        ),
        ("chunks_too_small", index(&Leaf { slices: vec![slices(&[[0, 1]])], ..w.clone() })),
        ("chunk_backwards", index(&Leaf { slices: vec![slices(&[[2, 0]])], ..w.clone() })),
        (
            "chunk_with_steps",
            index(&Leaf { slices: vec![steps(&[[Some(0), Some(2), Some(1)]])], ..w.clone() }),
        ),
        (
            "chunk_without_start",
            index(&Leaf { slices: vec![steps(&[[None, Some(2), None]])], ..w.clone() }),
        ),
        ("chunk_in_no_shard", index(&Leaf { shards: vec![9], ..w.clone() })),
        ("chunks_without_shards", index(&Leaf { shards: vec![], ..w })),
    ]
}

fn broken_shards(right: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let two = 1.0_f32.to_le_bytes().repeat(2);
    let of_part = |part: Vec<u8>| shard(&[chunk(&[part], &slices(&[[0, 2]]))]);
    let no_slices =
        [&[0x92][..], &list(&[part(&[2], "float32", &two)]), &ext(5, &slices(&[[0, 2]]))].concat();
    let long = [
        &[0x82][..],
        &text(MAGIC),
        &[0xc3],
        &text("0"),
        &[0x91, 0x92, 0x91, 0xc9, 0xff, 0xff, 0xff, 0xff, 1],
    ]
    .concat();
    vec![
        ("shard_empty", vec![]),
        ("shard_cut", right[..right.len() - 20].to_vec()),
        ("shard_goes_on", [right, &[0xc0]].concat()),
        ("shard_without_mark", map(&[("0", list(&[ones(2, &[[0, 2]])]))])),
        ("shard_with_another_key", map(&[(MAGIC, vec![0xc3]), ("w", list(&[]))])),
        ("shard_of_another_array", map(&[(MAGIC, vec![0xc3]), ("1", list(&[ones(2, &[[0, 2]])]))])),
        ("shard_without_array", map(&[(MAGIC, vec![0xc3])])),
        ("shard_claims_four_gigabytes", long),
        ("chunk_at_another_place", shard(&[ones(2, &[[1, 3]])])),
        ("chunk_without_slices", shard(&[no_slices])),
        ("chunk_without_parts", shard(&[chunk(&[], &slices(&[[0, 2]]))])),
        ("part_of_another_type", of_part(ext(4, &[0x90]))),
        ("part_of_other_numbers", of_part(part(&[2], "int32", &two))),
        ("part_too_short", of_part(part(&[2], "float32", &two[..7]))),
        ("part_too_small", of_part(part(&[1], "float32", &two[..4]))),
        ("part_of_more_than_can_be_counted", of_part(part(&[1 << 40, 1 << 40], "float32", &two))),
    ]
}

/// NumPy's and safetensors' files, and the model of a run.
fn arrays() -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    let npy = |shape: &str, bytes: usize| npy("<f4", shape, &vec![0; bytes]);
    let safetensors = |header: &str, bytes: usize| {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; bytes][..]].concat()
    };
    let whole = zip(&[("w.npy", &npy("(2,)", 8))]);
    let of_two = |offsets: &str| {
        format!(r#"{{"w":{{"dtype":"F32","shape":[2],"data_offsets":{offsets}}}}}"#)
    };
    let terabyte =
        r#"{"w":{"dtype":"F32","shape":[524288,524288],"data_offsets":[0,1099511627776]}}"#;
    [
        ("right.npy", npy("(2,)", 8)),
        ("array_empty.npy", vec![]),
        ("array_of_a_terabyte.npy", npy("(524288, 524288)", 8)),
        ("array_of_more_than_can_be_counted.npy", npy("(1099511627776, 1099511627776)", 8)),
        ("array_too_short.npy", npy("(3,)", 8)),
        ("array_of_objects.npy", self::npy("|O", "(1,)", b"cos\nsystem\n")),
        ("array_header_of_four_gigabytes.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff{".to_vec()),
        ("right.npz", whole.clone()),
        ("archive_empty.npz", vec![]),
        ("archive_cut.npz", whole[..whole.len() - 10].to_vec()),
        ("archive_of_text.npz", zip(&[("w.npy", b"not an array")])),
        ("right.safetensors", safetensors(&of_two("[0,8]"), 8)),
        ("tensors_empty.safetensors", vec![]),
        ("tensors_header_too_long.safetensors", vec![0xff; 16]),
        ("tensors_of_a_terabyte.safetensors", safetensors(terabyte, 8)),
        ("tensors_outside.safetensors", safetensors(&of_two("[0,16]"), 8)),
        ("tensors_of_no_json.safetensors", safetensors("{\"w\":[", 8)),
    ]
    .into_iter()
}

fn npy(descr: &str, shape: &str, bytes: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let length = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), bytes].concat()
}

fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    use std::io::Write;
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        let stored = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored);
        archive.start_file(*name, stored).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

#[test]
fn the_committed_files_are_those_of_this_program() {
    let read = |name: &String| std::fs::read(crate::corpus().join(name)).unwrap();
    for (name, bytes) in files() {
        assert!(read(&name) == bytes, "{name} is another file");
    }
}

#[test]
#[ignore = "writes the committed files"]
fn write_the_files() {
    std::fs::create_dir_all(crate::corpus()).unwrap();
    for (name, bytes) in files() {
        std::fs::write(crate::corpus().join(name), bytes).unwrap();
    }
}
