//! A file of arrays: one byte with its kind, the file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sparsely::checkpoint::{Array, Arrays, read_npy, read_npz, read_safetensors};

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, file)) = bytes.split_first() else { return };
    sparsely_fuzz::FOLDER.with(|folder| {
        sparsely_fuzz::write(folder, "a", file);
        let path = folder.path().join("a");
        sparsely_fuzz::check(match kind % 3 {
            0 => read_npy(&path).map(|array: Array| Arrays::from([(String::new(), array)])),
            1 => read_npz(&path),
            _ => read_safetensors(&path).map(|(arrays, _)| arrays),
        });
    });
});
