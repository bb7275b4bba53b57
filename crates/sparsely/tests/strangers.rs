//! Files from strangers: whatever the bytes, an error of one line or arrays, never a panic, and no
//! more memory than a small multiple of the file.
//!
//! The broken files are committed, since fuzzing starts from them. To write them anew, and the seeds
//! of `fuzz/` from them: `cargo test --release -p sparsely --test strangers -- --ignored`.

#[path = "strangers/broken.rs"]
mod broken;
#[path = "strangers/make.rs"]
mod make;
#[path = "strangers/msgpack.rs"]
mod msgpack;
#[path = "strangers/mutated.rs"]
mod mutated;
#[path = "strangers/seeds.rs"]
mod seeds;

use std::path::{Path, PathBuf};

use sparsely::Result;
use sparsely::checkpoint::{
    Array, Arrays, RunFolder, VmoeCheckpoint, read_npy, read_npz, read_safetensors,
};

/// The folder of the committed files.
fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/strangers")
}

/// Reads a file by its ending, `.data-…` with the index beside it, as the library's users do.
fn read(path: &Path) -> Result<Arrays> {
    let name = path.file_name().unwrap().to_str().unwrap();
    let (stem, ending) = name.rsplit_once('.').unwrap();
    match ending {
        "npy" => {
            let array: Array = read_npy(path)?;
            Ok(Arrays::from([(String::new(), array)]))
        }
        "npz" => read_npz(path),
        "safetensors" => Ok(read_safetensors(path)?.0),
        "toml" => Ok(RunFolder::open(path.parent().unwrap())?.load_model()?.arrays),
        _ => VmoeCheckpoint::open(&path.with_file_name(stem))?.read(|_| true),
    }
}
