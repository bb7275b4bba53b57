//! Files with bytes changed at random, always the same ones.

use std::path::Path;

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use sparsely::checkpoint::{Array, Metadata};
use sparsely::checkpoint::{ArrayRef, write_npy, write_npz, write_safetensors, write_vmoe};

/// Of each kind of file; 105,000 in all.
const MUTATIONS: u64 = 21_000;
/// What a claim of four bytes can ask for; the address space of a reader stays far below it.
const MOST_BYTES: u64 = 1 << 30;

const NAMES: [&str; 5] = ["c.index", "c.data-00001-of-00002", "c.npy", "c.npz", "c.safetensors"];

/// Whole files of each kind in `folder`.
fn write_whole_files(folder: &Path) {
    let values: Vec<f32> = (0..24).map(|i| i as f32).collect();
    let arrays = [
        ArrayRef { name: "b/kernel", shape: &[2, 3, 4], values: &values },
        ArrayRef { name: "b/bias", shape: &[4], values: &values[..4] },
        ArrayRef { name: "scale", shape: &[], values: &values[..1] },
    ];
    let texts = Metadata::from([("a".into(), "b".into())]);
    write_vmoe(&folder.join("c"), &arrays, 2).unwrap();
    write_npy(&folder.join("c.npy"), &Array { shape: vec![2, 3, 4], values: values.clone() })
        .unwrap();
    write_npz(&folder.join("c.npz"), &arrays).unwrap();
    write_safetensors(&folder.join("c.safetensors"), &arrays, &texts).unwrap();
}

#[test]
fn no_change_of_bytes_makes_a_reader_panic_or_take_memory() {
    let before = peak_bytes();
    (0..NAMES.len() as u64 * 4).into_par_iter().for_each(|part| {
        let folder = folder();
        write_whole_files(folder.path());
        let path = folder.path().join(NAMES[part as usize % NAMES.len()]);
        // A shard is read by way of its index.
        let read_at = if path.to_str().unwrap().contains(".data-") {
            folder.path().join("c.index")
        } else {
            path.clone()
        };
        let whole = std::fs::read(&path).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(part);
        for _ in 0..MUTATIONS / 4 {
            let mut bytes = whole.clone();
            (0..rng.random_range(1..4)).for_each(|_| mutate(&mut bytes, &mut rng));
            // Some file systems wait for the disk when a file is written over.
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, &bytes).unwrap();
            if let Err(error) = crate::read(&read_at) {
                let line = error.to_string();
                let is_line = line.len() < 2000 && !line.chars().any(char::is_control);
                assert!(is_line, "{line:?} of {bytes:02x?}");
            }
        }
    });
    if let (Some(before), Some(after)) = (before, peak_bytes()) {
        assert!(after < before + MOST_BYTES, "the address space grew from {before} to {after}");
    }
}

/// In memory where the system has such a folder.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// Lengths and markers that readers of these formats stumble over.
const BAD: [&[u8]; 9] = [
    &[0xff; 4],
    &[0xff; 8],
    &[0; 4],
    &[0x7f, 0xff, 0xff, 0xff],
    &[0xdd, 0xff, 0xff, 0xff, 0xff],
    &[0xdf, 0xff, 0xff, 0xff, 0xff],
    &[0xc6, 0xff, 0xff, 0xff, 0xff],
    &[0x91, 0x91, 0x91, 0x91],
    b"99999999999999999999",
];

fn mutate(bytes: &mut Vec<u8>, rng: &mut ChaCha8Rng) {
    if bytes.is_empty() {
        return;
    }
    let at = rng.random_range(0..bytes.len());
    let to = rng.random_range(at..=bytes.len().min(at + 40));
    match rng.random_range(0..7) {
        0 => bytes[at] = rng.random(),
        1 => bytes[at] ^= 1 << rng.random_range(0..8),
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..to)),
        4 => {
            let copy = bytes[at..to].to_vec();
            let place = rng.random_range(0..bytes.len());
            drop(bytes.splice(place..place, copy));
        }
        5 => drop(bytes.splice(at..at, BAD.choose(rng).unwrap().iter().copied())),
        _ => {
            let bad = BAD.choose(rng).unwrap();
            let end = bytes.len().min(at + bad.len());
            bytes[at..end].copy_from_slice(&bad[..end - at]);
        }
    }
}

/// The largest address space of this process so far, where the system tells it.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}
