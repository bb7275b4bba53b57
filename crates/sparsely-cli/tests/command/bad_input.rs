//! Bad input gets one clear line, exit code 2, and loses nothing.

use crate::{run, sparsely, stderr, train_tiny};
use sparsely::checkpoint::{Array, write_npy};
use std::fs;
use std::path::Path;

/// The command must refuse with exactly this line.
fn refuses(args: &[&str], line: &str) {
    let output = run(args);
    assert_eq!(stderr(&output), format!("sparsely: {line}\n"));
    assert_eq!(output.status.code(), Some(2));
}

/// A folder of two classes with four 8×8 images each; its path.
pub(crate) fn class_folders(folder: &Path) -> std::path::PathBuf {
    let data = folder.join("data");
    for class in ["cat", "dog"] {
        fs::create_dir_all(data.join(class)).unwrap();
        for i in 0..10 {
            crate::write_image(&data.join(class).join(format!("{i}.png")), i % 7);
        }
    }
    data
}

fn train_on(data: &Path, folder: &Path) -> std::process::Output {
    let out = folder.join("run");
    let output =
        train_tiny(&out, &["--data", data.to_str().unwrap(), "--set", "train.batch_size=8"]);
    if !output.status.success() {
        assert!(!out.exists(), "a refused run must not leave a folder");
    }
    output
}

#[test]
fn a_folder_of_classes_trains() {
    let folder = tempfile::tempdir().unwrap();
    let output = train_on(&class_folders(folder.path()), folder.path());
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn a_missing_folder_is_refused() {
    refuses(
        &["train", "--data", "/no/such/folder"],
        "cannot read `/no/such/folder`: No such file or directory (os error 2)",
    );
}

#[test]
fn wrong_settings_are_refused_with_the_nearest_names() {
    refuses(
        &["train", "--set", "model.moe.num_expert=3"],
        "invalid configuration: unknown setting `model.moe.num_expert`; did you mean `num_experts`?",
    );
    refuses(
        &["train", "--set", "model.moe.num_experts=many"],
        "invalid configuration: `model.moe.num_experts`: expected usize, got string \"many\"",
    );
    refuses(
        &["train", "--set", "model.moe.group.n=7"],
        "invalid configuration: model.moe.group of 7 images does not divide a batch of 32 images \
         of 16 tokens",
    );
    refuses(
        &["train", "--set", "model.moe.router.capacity={ kind = \"exact\", seats = 0 }"],
        "invalid configuration: capacity: expected at least one seat for each expert, got 0 seats \
         for 256 choices among 8 experts",
    );
    refuses(
        &["train", "--set", "eval.dial.num_selected=20"],
        "invalid configuration: eval.dial.num_selected 20 is not in 1..=8, the number of experts",
    );
    refuses(
        &["train", "--set", "model.image_size=32"],
        "model.image_size cannot be set: it is the data's (set data.image_size)",
    );
}

#[test]
fn an_unknown_preset_is_refused() {
    let output = run(&["train", "--preset", "resnet"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).ends_with("got `resnet`\n"), "{}", stderr(&output));
}

#[test]
fn an_empty_class_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = class_folders(folder.path());
    fs::create_dir(data.join("empty")).unwrap();
    let output = train_on(&data, folder.path());
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stderr(&output).lines().count(), 1);
    assert!(
        stderr(&output).contains(&format!("{}", data.join("empty").display())),
        "{}",
        stderr(&output)
    );
}

#[test]
fn broken_images_are_found_before_training() {
    let truncated = {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.png");
        crate::write_image(&path, 3);
        let bytes = fs::read(path).unwrap();
        bytes[..bytes.len() / 2].to_vec()
    };
    for bytes in [b"this is text".to_vec(), truncated, huge_png()] {
        let folder = tempfile::tempdir().unwrap();
        let data = class_folders(folder.path());
        let broken = data.join("cat").join("broken.png");
        fs::write(&broken, bytes).unwrap();
        let output = train_on(&data, folder.path());
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
        assert!(
            stderr(&output).starts_with(&format!("sparsely: `{}`: ", broken.display())),
            "{}",
            stderr(&output)
        );
    }
}

/// A PNG whose header claims 30,000×30,000 pixels.
fn huge_png() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.png");
    crate::write_image(&path, 3);
    let mut bytes = fs::read(path).unwrap();
    // Signature (8), length and type of IHDR (8), then width and height, each 4 bytes.
    for at in [16, 20] {
        bytes[at..at + 4].copy_from_slice(&30_000_u32.to_be_bytes());
    }
    let crc = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c: u32, _| {
            (c >> 1) ^ (0xedb8_8320 & (c & 1).wrapping_neg())
        })
    })
}

#[test]
fn an_existing_run_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    assert!(train_tiny(&out, &[]).status.success());
    let model = fs::read(out.join("model.safetensors")).unwrap();
    let output = train_tiny(&out, &[]);
    assert_eq!(output.status.code(), Some(2));
    let expected = "expected no run folder yet, got a run folder that exists and is not empty";
    assert_eq!(stderr(&output), format!("sparsely: `{}`: {expected}\n", out.display()));
    assert_eq!(fs::read(out.join("model.safetensors")).unwrap(), model);
}

#[test]
fn a_damaged_model_or_state_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    assert!(train_tiny(&out, &[]).status.success());
    let damage = |file: &Path| {
        let bytes = fs::read(file).unwrap();
        fs::write(file, &bytes[..bytes.len() - 10]).unwrap();
    };
    let model = out.join("model.safetensors");
    let mut flipped = fs::read(&model).unwrap();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x40;
    fs::write(&model, &flipped).unwrap();
    let output = sparsely().arg("eval").arg(&out).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stderr(&output).lines().count(), 1);
    assert!(stderr(&output).contains("expected checksum "), "{}", stderr(&output));

    damage(&model);
    let output = sparsely().arg("eval").arg(&out).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stderr(&output).lines().count(), 1);
    assert!(
        stderr(&output).starts_with(&format!("sparsely: `{}`: ", model.display())),
        "{}",
        stderr(&output)
    );

    let state = out.join("state/step-00000020.safetensors");
    damage(&state);
    let output = sparsely().args(["train", "--resume"]).arg(&out).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stderr(&output).lines().count(), 1);
    assert!(
        stderr(&output).starts_with(&format!("sparsely: `{}`: ", state.display())),
        "{}",
        stderr(&output)
    );
}

#[test]
fn routing_asked_of_a_dense_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let dense = ["--preset", "vit-ti4", "--data", "digits", "--set", "model.depth=2"];
    let trained = train_tiny(&out, &dense);
    assert!(trained.status.success(), "{}", stderr(&trained));
    let output = sparsely().arg("eval").arg(&out).args(["--k", "1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let line = "sparsely: routing was asked of a dense model: it has no experts\n";
    assert_eq!(stderr(&output), line);
}

#[test]
fn what_a_router_does_not_have_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let trained = train_tiny(&out, &["--set", "model.moe.router.kind=expert_choice"]);
    assert!(trained.status.success(), "{}", stderr(&trained));
    let out = out.to_str().unwrap();
    refuses(
        &["eval", out, "--k", "1"],
        "expert choice has no K: each expert takes its tokens, as many as its capacity says",
    );
    refuses(
        &["eval", out, "--priority", "bpr"],
        "expert choice has no priority: tokens do not queue for seats",
    );
    refuses(
        &["train", "--set", "model.moe.router.kind=soft"],
        "invalid configuration: model.moe.group of 8 images: slots of Soft MoE would mix the \
         tokens of several images; set model.moe.group.n=1",
    );
    refuses(
        &[
            "train",
            "--set",
            "model.moe.router.kind=soft",
            "--set",
            "model.moe.group.n=1",
            "--set",
            "model.moe.router.slots.factor=0.2",
        ],
        "invalid configuration: slots: expected at least one for each expert, got a factor of 0.2 \
         for 16 tokens among 8 experts",
    );
    refuses(
        &["train", "--set", "model.moe.router.kind=expert_choise"],
        "invalid configuration: `model.moe.router.kind`: unknown variant `expert_choise`, expected \
         one of `token_choice`, `sinkhorn_token_choice`, `sparse_token_choice`, `expert_choice`, \
         `sinkhorn_expert_choice`, `sparse_expert_choice`, `soft`, `loss_free`, `relu`, `random`",
    );
    refuses(
        &[
            "train",
            "--set",
            "model.moe.router.kind=expert_choice",
            "--set",
            "model.moe.router.num_selected=2",
        ],
        "invalid configuration: unknown setting `model.moe.router.num_selected`; there are `gate`, \
         `noise_std`, `capacity`",
    );
}

#[test]
fn pixels_that_are_no_numbers_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    assert!(train_tiny(&run, &[]).status.success());
    let input = folder.path().join("x.npy");
    let mut values = vec![0.0; 64];
    values[5] = f32::NAN;
    write_npy(&input, &Array { shape: vec![1, 8, 8, 1], values }).unwrap();
    let (run, input) = (run.to_str().unwrap(), input.to_str().unwrap());
    let line = format!("`{input}`: expected finite pixels, got NaN at 5");
    refuses(&["logits", run, "--input", input, "--output", "/dev/null"], &line);
}

#[test]
fn a_batch_that_does_not_fill_groups_is_not_measured() {
    let line = "--batch: expected a multiple of 8, the images of a group, got 3";
    refuses(&["bench", "train", "--batch", "3"], line);
}

/// At once, and not when everything is measured.
#[test]
fn a_benchmark_that_could_not_be_kept_is_not_measured() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let out = file.join("out");
    let line = format!("cannot create `{}`: Not a directory (os error 20)", out.display());
    for what in ["growth", "infer"] {
        refuses(&["bench", what, "--out", out.to_str().unwrap()], &line);
    }
}

#[test]
fn a_wrong_flag_is_one_line() {
    let capacity =
        "for '--capacity <CAPACITY>': expected a factor above 0, exact:SEATS or unlimited";
    for factor in ["0", "-1", "nan"] {
        let line = format!("invalid value '{factor}' {capacity}");
        refuses(&["eval", "runs/1", "--capacity", factor], &line);
    }
    let line =
        "unexpected argument '--capasity' found; tip: a similar argument exists: '--capacity'";
    refuses(&["eval", "runs/1", "--capasity", "1"], line);
    refuses(&["eval"], "the following required arguments were not provided: <RUN>");
}

#[test]
fn sizes_that_nothing_can_hold_are_refused() {
    let refusal = |setting: &str| stderr(&run(&["train", "--set", setting]));
    // 1e11 blocks of 4·64² and, with 8 experts, 8 · 2·64·128.
    let depth = refusal("model.depth=99999999999");
    assert_eq!(
        depth,
        "sparsely: invalid configuration: model.depth 99999999999 is more than 1024; the model has \
         about 1e16 parameters\n"
    );
    let shared = refusal("model.moe.num_shared=99999999999");
    assert!(
        shared.starts_with("sparsely: invalid configuration: the model has about "),
        "{shared}"
    );
    assert_eq!(shared.lines().count(), 1);
    // More than any machine of today has: where there is no /proc, nothing tells.
    if cfg!(target_os = "linux") {
        let wide = refusal("model.mlp_width=45000000");
        assert!(wide.starts_with("sparsely: train: expected what "), "{wide}");
        assert_eq!(wide.lines().count(), 1);
    }
}
