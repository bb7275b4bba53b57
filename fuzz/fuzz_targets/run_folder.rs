//! The model of a run's folder, as `eval` and `predict` load it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sparsely::checkpoint::RunFolder;
use sparsely::eval::SavedModel;

fuzz_target!(|bytes: &[u8]| {
    sparsely_fuzz::FOLDER.with(|folder| {
        sparsely_fuzz::write(folder, "config.toml", b"");
        sparsely_fuzz::write(folder, "model.safetensors", bytes);
        let run = RunFolder::open(folder.path()).expect("a folder with a configuration");
        // Its errors quote the file; the command takes control codes out of all that it prints.
        drop(SavedModel::load(&run));
    });
});
