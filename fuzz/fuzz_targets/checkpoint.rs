//! A checkpoint of one shard: two bytes with the length of the index, the index, the shard.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sparsely::checkpoint::{Arrays, VmoeCheckpoint};

fuzz_target!(|bytes: &[u8]| {
    let Some((length, rest)) = bytes.split_first_chunk::<2>() else { return };
    let (index, shard) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
    sparsely_fuzz::FOLDER.with(|folder| {
        let prefix = folder.path().join("c");
        sparsely_fuzz::write(folder, "c.index", index);
        sparsely_fuzz::write(folder, "c.data-00000-of-00001", shard);
        let read = VmoeCheckpoint::open(&prefix).and_then(|c| c.read(|_| true));
        sparsely_fuzz::check(read.map(|arrays: Arrays| arrays));
    });
});
