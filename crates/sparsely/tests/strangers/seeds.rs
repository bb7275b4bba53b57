//! The project's files, broken and whole, packed as the targets of `fuzz/` take them.

use std::fs;
use std::path::Path;

use sparsely::checkpoint::RunFolder;
use sparsely::eval::{SavedModel, numbered_classes};
use sparsely::model::{ModelConfig, Vit};
use sparsely::moe::{MoeConfig, Placement};

/// Larger files only slow a search down.
const MAX_BYTES: usize = 20_000;

#[test]
#[ignore = "writes the seeds of the fuzzer"]
fn write_the_seeds() {
    for folder in [crate::corpus(), crate::corpus().with_file_name("native")] {
        fs::read_dir(folder).unwrap().for_each(|entry| pack(&entry.unwrap().path()));
    }
    let run = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(Some(run.path()), run.path()).unwrap();
    write_tiny_model(&folder);
    pack(&run.path().join("model.safetensors"));
}

/// A model of a few hundred parameters, with what it is written beside them.
fn write_tiny_model(folder: &RunFolder) {
    let moe =
        MoeConfig { num_experts: 2, placement: Placement::Every { n: 1 }, ..MoeConfig::default() };
    let model = ModelConfig {
        image_size: 2,
        patch_size: 1,
        depth: 1,
        width: 4,
        heads: 2,
        mlp_width: 4,
        num_classes: Some(2),
        moe: Some(moe),
        ..ModelConfig::default()
    };
    let (_, params) = Vit::init(&model, 0).unwrap();
    let saved =
        SavedModel { model, class_names: numbered_classes(2), step: 1, imported_from: None };
    saved.save(folder, &params).unwrap();
}

fn pack(path: &Path) {
    let bytes = fs::read(path).unwrap();
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("index") => {
            let Ok(shard) = fs::read(path.with_extension("data-00000-of-00001")) else { return };
            let length = (bytes.len() as u16).to_le_bytes();
            save("checkpoint", path, &[&length, &*bytes, &shard].concat());
        }
        Some("npy") => save("arrays", path, &[&[0], &*bytes].concat()),
        Some("npz") => save("arrays", path, &[&[1], &*bytes].concat()),
        Some("safetensors") => {
            save("arrays", path, &[&[2], &*bytes].concat());
            save("run_folder", path, &bytes);
        }
        _ => {}
    }
}

fn save(target: &str, from: &Path, bytes: &[u8]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    fs::create_dir_all(&root).unwrap();
    if bytes.len() <= MAX_BYTES {
        fs::write(root.join(from.file_name().unwrap()), bytes).unwrap();
    }
}
