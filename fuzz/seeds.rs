//! Packs the project's files, broken and whole, as the targets take them: `cargo run --bin seeds`.

use std::fs;
use std::path::{Path, PathBuf};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/sparsely/tests/fixtures");
/// Larger files only slow the search down.
const MAX_BYTES: usize = 20_000;

fn main() -> std::io::Result<()> {
    for folder in ["strangers", "native"] {
        for entry in fs::read_dir(Path::new(FIXTURES).join(folder))? {
            pack(&entry?.path())?;
        }
    }
    Ok(())
}

fn pack(path: &Path) -> std::io::Result<()> {
    let bytes = fs::read(path)?;
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("index") => {
            let shard = path.with_extension("data-00000-of-00001");
            let Ok(shard) = fs::read(shard) else { return Ok(()) };
            let length = (bytes.len() as u16).to_le_bytes();
            save("checkpoint", path, &[&length, &*bytes, &shard].concat())
        }
        Some("npy") => save("arrays", path, &[&[0], &*bytes].concat()),
        Some("npz") => save("arrays", path, &[&[1], &*bytes].concat()),
        Some("safetensors") => {
            save("arrays", path, &[&[2], &*bytes].concat())?;
            save("run_folder", path, &bytes)
        }
        _ => Ok(()),
    }
}

fn save(target: &str, from: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder)?;
    match bytes.len() {
        0..=MAX_BYTES => fs::write(folder.join(from.file_name().unwrap_or_default()), bytes),
        _ => Ok(()),
    }
}
