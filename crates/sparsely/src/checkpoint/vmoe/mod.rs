//! Checkpoints in the reference's own format: `PREFIX.index` and `PREFIX.data-00000-of-00001`, ….
//!
//! The index is MessagePack: a tree of names whose leaves say shape, type and, for each chunk of
//! an array, its slices and its shard. A shard holds chunks by the number of their leaf, which is
//! the leaf's place when the tree is flattened with sorted keys. (google-research/vmoe,
//! `vmoe/checkpoints`.)

mod index;
mod msgpack;
mod read;
mod shard;
#[cfg(test)]
mod tests;
mod write;

pub use read::VmoeCheckpoint;
pub use write::write_vmoe;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// `PREFIX.index`.
fn index_path(prefix: &Path) -> PathBuf {
    with_suffix(prefix, ".index")
}

/// `PREFIX.data-00001-of-00002` for shard 1 of 2.
fn shard_path(prefix: &Path, shard: usize, count: usize) -> PathBuf {
    with_suffix(prefix, &format!(".data-{shard:05}-of-{count:05}"))
}

fn with_suffix(prefix: &Path, suffix: &str) -> PathBuf {
    let mut path = OsString::from(prefix);
    path.push(suffix);
    path.into()
}
