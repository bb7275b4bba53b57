//! What one can check without the reference: its own files are among the golden tests, broken ones
//! in `tests/strangers.rs`.

use std::path::Path;

use super::VmoeCheckpoint;
use super::write::{write_in_parts, write_vmoe};
use crate::checkpoint::arrays::{Array, Arrays, array_refs};

/// A scalar, an empty array, names that sort otherwise than their parts, and bits of all kinds.
fn arrays() -> Arrays {
    let array = |shape: &[usize]| {
        let values = (0..shape.iter().product()).map(|i| i as f32 - 2.5).collect();
        Array { shape: shape.to_vec(), values }
    };
    let odd = vec![f32::NAN, -0.0, f32::INFINITY, 1e-45];
    Arrays::from([
        ("a/x".into(), array(&[2, 3, 4])),
        ("a-b/x".into(), array(&[5])),
        ("empty".into(), array(&[0, 3])),
        ("odd".into(), Array { shape: vec![2, 2], values: odd }),
        ("scale".into(), array(&[])),
    ])
}

fn assert_same_bits(one: &Arrays, other: &Arrays) {
    assert!(one.keys().eq(other.keys()));
    for (name, array) in one {
        let bits = |array: &Array| array.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!((&array.shape, bits(array)), (&other[name].shape, bits(&other[name])), "{name}");
    }
}

#[test]
fn arrays_come_back_bit_for_bit_from_any_number_of_shards_and_parts() {
    let folder = tempfile::tempdir().unwrap();
    for shards in 1..=7 {
        for part_elements in [1, 5, 1 << 20] {
            let prefix = folder.path().join(format!("{shards}-{part_elements}"));
            let refs = arrays();
            let files = write_in_parts(&prefix, &array_refs(&refs), shards, part_elements).unwrap();
            assert_eq!(files.len(), shards.min(5) + 1);
            let checkpoint = VmoeCheckpoint::open(&prefix).unwrap();
            assert_same_bits(&checkpoint.read(|_| true).unwrap(), &arrays());
        }
    }
}

#[test]
fn the_index_tells_names_and_shapes_by_the_parts_of_names() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path().join("c");
    write_vmoe(&prefix, &array_refs(&arrays()), 1).unwrap();
    let checkpoint = VmoeCheckpoint::open(&folder.path().join("c.index")).unwrap();
    let names: Vec<_> = checkpoint.shapes().map(|(name, _)| name).collect();
    assert_eq!(names, ["a/x", "a-b/x", "empty", "odd", "scale"]);
    assert_eq!(checkpoint.shapes().next(), Some(("a/x", &[2, 3, 4][..])));
    let some: Arrays = checkpoint.read(|name| name == "scale").unwrap();
    assert_eq!(some.len(), 1);
}

#[test]
fn files_that_are_there_are_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path().join("c");
    write_vmoe(&prefix, &array_refs(&arrays()), 1).unwrap();
    let refused = write_vmoe(&prefix, &array_refs(&arrays()), 2).unwrap_err();
    let index = folder.path().join("c.index");
    assert_eq!(
        refused.to_string(),
        format!("`{}`: expected no file of that name yet, got one", index.display())
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn what_no_tree_of_names_can_hold_is_refused() {
    let refusal = |names: &[&str], shards| {
        let array = |name: &&str| (name.to_string(), Array { shape: vec![], values: vec![0.0] });
        let arrays: Arrays = names.iter().map(array).collect();
        let written = write_vmoe(Path::new("nowhere/c"), &array_refs(&arrays), shards);
        written.unwrap_err().to_string()
    };
    let start = "write_vmoe: expected arrays of different names, none the beginning of another, and \
                 a shard, got ";
    assert_eq!(refusal(&["a", "a/b"], 1), format!("{start}the name `a/b`, which is taken"));
    assert_eq!(refusal(&["a/b", "a/b/c"], 1), format!("{start}the name `a/b/c`, which is taken"));
    assert_eq!(refusal(&[], 1), format!("{start}no arrays or no shards"));
    assert_eq!(refusal(&["a"], 0), format!("{start}no arrays or no shards"));
}

#[test]
fn a_write_that_fails_takes_its_files_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path().join("c");
    // What comes last, the index, has no folder to be written into.
    let arrays = arrays();
    let refs = array_refs(&arrays);
    let tree = super::write::Tree::new(&refs).unwrap();
    let shard = super::shard_path(&prefix, 0, 1);
    let index = folder.path().join("nowhere/c.index");
    let refused = super::write::write_all_or_none(&tree, &[shard], &index, 1 << 20);
    assert_eq!(refused.unwrap_err().to_string(), format!("cannot write `{}`", index.display()));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
