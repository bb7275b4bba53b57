//! Kills, signals, full disks.

use crate::{run, sparsely, stderr, stdout};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A run in which everything that draws takes part: order, crops, mixup, noise, dropout.
const DRAWING: [&str; 22] = [
    "--set",
    "model.width=16",
    "--set",
    "model.heads=2",
    "--set",
    "model.mlp_width=32",
    "--set",
    "model.dropout=0.1",
    "--set",
    "model.moe.expert_dropout=0.1",
    "--set",
    "data.augment.mixup_alpha=0.5",
    "--set",
    "data.augment.flip=true",
    "--set",
    "data.augment.crop_padding=1",
    "--set",
    "train.length={ kind = \"steps\", n = 100 }",
    "--set",
    "train.checkpoint_every={ kind = \"steps\", n = 7 }",
    "--set",
    "train.log_steps=1",
];

fn start(out: &Path) -> Child {
    start_with(out, &[])
}

fn start_with(out: &Path, settings: &[&str]) -> Child {
    let mut command = sparsely();
    command
        .args(["train", "--out"])
        .arg(out)
        .args(DRAWING)
        .args(settings)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Waits until the run has done `steps`.
fn wait_for(out: &Path, steps: usize) {
    let deadline = Instant::now() + Duration::from_secs(120);
    let done =
        || fs::read_to_string(out.join("metrics.jsonl")).map_or(0, |text| text.lines().count());
    while done() < steps {
        assert!(Instant::now() < deadline, "the run does not get to step {steps}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_killed_run_ends_with_the_bits_of_one_that_was_not() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    let output = start(&whole).wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));

    // Child::kill is SIGKILL on Unix. Twice: within the first checkpoint's reach and half-way.
    let mut child = start(&killed);
    wait_for(&killed, 3);
    child.kill().unwrap();
    child.wait().unwrap();
    let mut again = sparsely();
    again.args(["train", "--resume"]).arg(&killed).stdout(Stdio::null());
    let mut child = again.spawn().unwrap();
    wait_for(&killed, 50);
    child.kill().unwrap();
    child.wait().unwrap();
    let output = run(&["train", "--resume", killed.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));

    for file in ["model.safetensors", "model.json", "config.toml"] {
        let bytes = |run: &Path| fs::read(run.join(file)).unwrap();
        assert!(bytes(&whole) == bytes(&killed), "{file} differs");
    }
    let state = |run: &Path| fs::read(run.join("state/step-00000100.safetensors")).unwrap();
    assert!(state(&whole) == state(&killed), "the states differ");
    let losses = |run: &Path| {
        let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        let values =
            text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        values.map(|line| (line["step"].clone(), line["loss"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(losses(&whole), losses(&killed));
}

#[cfg(unix)]
#[test]
fn what_routers_adapt_by_rule_goes_on_with_the_same_bits() {
    for kind in ["loss_free", "relu"] {
        let folder = tempfile::tempdir().unwrap();
        let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
        let setting = format!("model.moe.router.kind={kind}");
        let output = start_with(&whole, &["--set", &setting]).wait_with_output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let mut child = start_with(&killed, &["--set", &setting]);
        wait_for(&killed, 30);
        child.kill().unwrap();
        child.wait().unwrap();
        let output = run(&["train", "--resume", killed.to_str().unwrap()]);
        assert!(output.status.success(), "{}", stderr(&output));
        let state = |run: &Path| fs::read(run.join("state/step-00000100.safetensors")).unwrap();
        assert!(state(&whole) == state(&killed), "the states of {kind} differ");
    }
}

#[test]
fn a_terminated_run_saves_its_state_and_says_how_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let child = start(&out);
    wait_for(&out, 2);
    let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let last = stdout(&output).lines().last().unwrap().to_string();
    let go_on = format!("go on with: sparsely train --resume {}", out.display());
    assert!(last.starts_with("stopped after step ") && last.ends_with(&go_on), "{last}");
    assert!(out.join("state/manifest.json").is_file());
    assert!(run(&["train", "--resume", out.to_str().unwrap()]).status.success());
}

/// A limit on the size of files stands for a full disk: writes fail half-way.
#[cfg(unix)]
#[test]
fn a_full_disk_is_one_line_and_keeps_the_last_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let child = start(&out);
    wait_for(&out, 20);
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    child.wait_with_output().unwrap();
    let manifest = fs::read(out.join("state/manifest.json")).unwrap();
    let state = |out: &Path| -> Vec<_> {
        let entries = fs::read_dir(out.join("state")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = state(&out);

    let script = "trap '' XFSZ; ulimit -f 16; exec \"$0\" train --resume \"$1\"";
    let mut limited = Command::new("sh");
    limited.args(["-c", script, env!("CARGO_BIN_EXE_sparsely")]).arg(&out);
    let output = limited.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
    assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
    assert!(stderr(&output).starts_with("sparsely: cannot write `"), "{}", stderr(&output));
    assert!(stderr(&output).contains("File too large"), "{}", stderr(&output));

    assert_eq!(fs::read(out.join("state/manifest.json")).unwrap(), manifest);
    assert_eq!(state(&out), before);
    let output = run(&["train", "--resume", out.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
}
