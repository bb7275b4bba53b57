//! Some of the experts, skipped layers, sweeps and budgets, as a person meets them.

use crate::bad_input::class_folders;
use crate::{run, sparsely, stderr, stdout, train_tiny, write_image};
use std::fs;
use std::path::{Path, PathBuf};

fn refuses(args: &[&str], line: &str) {
    let output = run(args);
    assert_eq!(stderr(&output), format!("sparsely: {line}\n"));
    assert_eq!((output.status.code(), &*stdout(&output)), (Some(2), ""));
}

/// A tiny run: four blocks, experts in blocks 1 and 3.
fn trained(folder: &Path, more: &[&str]) -> PathBuf {
    let out = folder.join("run");
    let output = train_tiny(&out, more);
    assert!(output.status.success(), "{}", stderr(&output));
    out
}

fn json(args: &[&str]) -> serde_json::Value {
    let output = run(args);
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).expect("one line of JSON")
}

#[test]
fn experts_and_layers_are_left_out_by_flags() {
    let folder = tempfile::tempdir().unwrap();
    let out = trained(folder.path(), &[]);
    let out = out.to_str().unwrap();
    let eval = |flags: &[&str]| {
        let mut args = vec!["eval", out, "--json"];
        args.extend(flags);
        json(&args)
    };
    let whole = eval(&[]);
    let all = eval(&["--experts", "0-7"]);
    assert_eq!((&whole["loss"], &whole["layers"]), (&all["loss"], &all["layers"]));
    let some = eval(&["--experts", "0-2,5"]);
    assert_ne!(whole["loss"], some["loss"]);
    for layer in some["layers"].as_array().unwrap() {
        let asked: Vec<_> =
            layer["asked"].as_array().unwrap().iter().map(serde_json::Value::as_u64).collect();
        let is_left_out: Vec<_> = asked.iter().map(|n| *n == Some(0)).collect();
        assert_eq!(is_left_out[3..], [true, true, false, true, true], "{layer}");
        assert_eq!(asked.iter().flatten().sum::<u64>(), 360 * 16 * 2);
    }
    let skipped = eval(&["--skip-moe", "3"]);
    let blocks: Vec<_> =
        skipped["layers"].as_array().unwrap().iter().map(|l| &l["block"]).collect();
    assert_eq!(blocks, [1]);
    assert_eq!(eval(&["--skip-moe", "1,3"])["dropped_share"], 0.0);

    let cost = |flags: &[&str]| {
        let mut args = vec!["cost", out, "--json", "--capacity", "unlimited"];
        args.extend(flags);
        let cost = json(&args);
        (cost["params"].as_u64().unwrap(), cost["flops_per_image"].as_f64().unwrap())
    };
    let (params, flops) = cost(&[]);
    assert_eq!(cost(&["--skip-moe", "3"]).0, params);
    assert!(cost(&["--skip-moe", "3"]).1 < flops);
    assert!(cost(&["--experts", "0-3"]).1 < flops);
}

#[test]
fn experts_and_blocks_that_do_not_exist_are_refused_with_those_that_do() {
    let folder = tempfile::tempdir().unwrap();
    let out = trained(folder.path(), &[]);
    let out = out.to_str().unwrap();
    let image = folder.path().join("x.png");
    write_image(&image, 3);
    let image = image.to_str().unwrap();
    refuses(&["eval", out, "--experts", "6-9"], "there is no expert 8: they are 0 to 7");
    refuses(
        &["predict", out, image, "--skip-moe", "2"],
        "block 2 has no MoE layer to skip: MoE layers are in blocks 1,3 of 0 to 3",
    );
    refuses(
        &["eval", out, "--experts", "4"],
        "token choice: expected 1 to 1 selected experts per token, as many as take part, got 2",
    );
    refuses(
        &["eval", out, "--experts", "0-3", "--k", "5", "--sweep"],
        "invalid configuration: eval.dial.num_selected 5 is not in 1..=4, the number of experts that \
         take part",
    );
    for (wrong, told) in [
        ("3-0", "`3-0` ends before it begins: try `0-3`"),
        ("0-3,2", "2 is there twice"),
        ("0-", "expected indices below 65536 or ranges such as `0-3,5`, got `0-`"),
    ] {
        let output = run(&["eval", out, "--experts", wrong]);
        assert_eq!(output.status.code(), Some(2));
        let expected = format!("invalid value '{wrong}' for '--experts <EXPERTS>': {told}");
        assert!(stderr(&output).contains(&expected), "{}", stderr(&output));
    }
}

#[test]
fn a_sweep_is_told_written_and_used_for_a_budget() {
    let folder = tempfile::tempdir().unwrap();
    let out = trained(folder.path(), &[]);
    let (run_folder, image) = (out.to_str().unwrap(), folder.path().join("x.png"));
    write_image(&image, 3);
    let predict = |flags: &[&str]| {
        sparsely().arg("predict").arg(&out).arg(&image).args(flags).output().unwrap()
    };
    let none = predict(&["--budget", "3ms"]);
    assert_eq!(
        stderr(&none),
        format!(
            "sparsely: --budget needs the run's sweep, and `{run_folder}` has none: run `sparsely \
             eval {run_folder} --sweep` first\n"
        )
    );
    assert_eq!(none.status.code(), Some(2));

    let swept = run(&["eval", run_folder, "--sweep", "--max-loss", "100", "--group", "8"]);
    assert!(swept.status.success(), "{}", stderr(&swept));
    let text = stdout(&swept);
    let lines: Vec<_> = text.lines().collect();
    // A header, the run's own setting, and 4 × 6 × 2 others.
    assert!(lines[0].starts_with("setting "), "{text}");
    assert!(lines[1].starts_with("own ") && lines[2].starts_with("k1-c1-bpr "), "{text}");
    assert!(lines[49].starts_with("k4-c0.1-vanilla ") && lines[50].is_empty(), "{text}");
    let says = |part: &str| assert!(text.contains(part), "{part}\n{text}");
    says("validation images of digits: n=180, one is 0.56 points\n");
    says("cheapest within 100 points of own: --k ");
    says(&format!("wrote {run_folder}/sweep.csv\nwrote {run_folder}/sweep.svg\n"));
    assert_eq!(fs::read_to_string(out.join("sweep.csv")).unwrap().lines().count(), 1 + 49);
    assert!(fs::read_to_string(out.join("sweep.svg")).unwrap().starts_with("<svg"));
    check_settings(&out);

    // With time enough the most accurate is taken, and its flags give the same answer.
    let rich = predict(&["--budget", "10s", "--json"]);
    assert!(rich.status.success(), "{}", stderr(&rich));
    let told = stderr(&rich);
    assert!(told.starts_with("sparsely: for 10s an image: --k "), "{told}");
    assert_eq!(told.lines().count(), 1);
    let flags = told.split(": ").nth(2).unwrap().split(',').next().unwrap();
    let flags: Vec<_> = flags.split(' ').chain(["--json"]).collect();
    assert_eq!(stdout(&predict(&flags)), stdout(&rich));

    let poor = predict(&["--budget", "1ns"]);
    assert_eq!(poor.status.code(), Some(2));
    let beginning =
        "sparsely: no setting of the sweep takes at most 1ns an image: the cheapest is --k ";
    assert!(stderr(&poor).starts_with(beginning), "{}", stderr(&poor));
    assert_eq!(
        stderr(&predict(&["--budget", "soon"])),
        "sparsely: --budget: expected a time above 0, such as 3ms, got `soon`\n"
    );
    assert_eq!(predict(&["--budget", "3ms", "--k", "1"]).status.code(), Some(2));
}

/// What is stored is what `eval` finds under the same flags.
fn check_settings(out: &Path) {
    let text = fs::read_to_string(out.join("sweep.json")).unwrap();
    let stored: serde_json::Value = serde_json::from_str(&text).unwrap();
    let settings = stored["settings"].as_array().unwrap();
    let named = |name: &str| settings.iter().find(|setting| setting["name"] == name).unwrap();
    let run = out.to_str().unwrap();
    for (name, flags) in [
        ("own", &[][..]),
        ("k1-c0.3-bpr", &["--k", "1", "--capacity", "0.3", "--priority", "bpr", "--group", "8"]),
        (
            "k3-c0.5-vanilla",
            &["--k", "3", "--capacity", "0.5", "--priority", "vanilla", "--group", "8"],
        ),
    ] {
        let mut args = vec!["eval", run, "--json", "--split", "validation"];
        args.extend(flags);
        let (found, stored) = (json(&args), named(name));
        assert_eq!(found["loss"], stored["loss"], "{name}");
        assert_eq!(found["dropped_share"], stored["dropped_share"], "{name}");
        let top1 = 100.0 * found["top1"].as_f64().unwrap();
        assert!((top1 - stored["top1_percent"].as_f64().unwrap()).abs() < 1e-9, "{name}");
    }
    let flops = |name: &str| named(name)["flops_per_image"].as_f64().unwrap();
    assert!(flops("k1-c0.1-bpr") < flops("k1-c1-bpr") && flops("k1-c1-bpr") < flops("k4-c1-bpr"));
}

#[test]
fn a_sweep_of_another_model_is_stale() {
    let folder = tempfile::tempdir().unwrap();
    let out = trained(folder.path(), &[]);
    let run_folder = out.to_str().unwrap();
    let quick = ["--k", "1", "--capacity", "0.5", "--priority", "bpr"];
    let swept = json(&[&["eval", run_folder, "--sweep", "--json"][..], &quick].concat());
    assert_eq!(swept["settings"].as_array().unwrap().len(), 2);
    assert_eq!(swept["settings"][1]["name"], "k1-c0.5-bpr");
    assert!(swept["front"].is_array() && swept["cheapest"].is_string(), "{swept}");

    let other = folder.path().join("other");
    assert!(train_tiny(&other, &["--seed", "9"]).status.success());
    fs::copy(other.join("model.safetensors"), out.join("model.safetensors")).unwrap();
    let image = folder.path().join("x.png");
    write_image(&image, 3);
    let output = run(&["predict", run_folder, image.to_str().unwrap(), "--budget", "10s"]);
    assert_eq!(output.status.code(), Some(2));
    let told = stderr(&output);
    assert!(
        told.starts_with(&format!("sparsely: the sweep of `{run_folder}` is stale: ")),
        "{told}"
    );
    assert!(told.ends_with(&format!("run `sparsely eval {run_folder} --sweep` again\n")), "{told}");
}

#[test]
fn test_images_may_be_swept_but_nothing_is_chosen_by_them() {
    let folder = tempfile::tempdir().unwrap();
    let out = trained(folder.path(), &[]);
    let tables = folder.path().join("tables");
    let args = ["--sweep", "--split", "test", "--k", "2", "--priority", "bpr", "--out"];
    let output = sparsely().arg("eval").arg(&out).args(args).arg(&tables).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.contains("test images of digits: n=360, one is 0.28 points\n"), "{text}");
    assert!(text.contains("nothing is chosen by test images"), "{text}");
    assert!(!text.contains("cheapest"), "{text}");
    assert!(tables.join("sweep.csv").is_file() && tables.join("sweep.svg").is_file());
    assert!(!out.join("sweep.json").exists() && !out.join("sweep.csv").exists());
}

#[test]
fn a_sweep_turns_what_the_router_has() {
    let folder = tempfile::tempdir().unwrap();
    let out = trained(folder.path(), &["--set", "model.moe.router.kind=expert_choice"]);
    let out = out.to_str().unwrap();
    let swept = json(&["eval", out, "--sweep", "--json"]);
    let names: Vec<_> =
        swept["settings"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["own", "c1", "c0.75", "c0.5", "c0.3", "c0.2", "c0.1"]);
    refuses(
        &["eval", out, "--sweep", "--k", "1"],
        "expert choice has no K: each expert takes its tokens, as many as its capacity says",
    );
    let flags = |name: &str| run(&["eval", out, "--max-loss", name]);
    assert_eq!(flags("1").status.code(), Some(2));
    refuses(
        &["eval", out, "--sweep", "--max-loss", "-1"],
        "invalid value '-1' for '--max-loss <POINTS>': expected percentage points from 0 to 100",
    );

    let soft = folder.path().join("soft");
    let kind = ["--set", "model.moe.router.kind=soft", "--set", "model.moe.group.n=1"];
    assert!(train_tiny(&soft, &kind).status.success());
    let soft = soft.to_str().unwrap();
    refuses(
        &["eval", soft, "--sweep"],
        "sweep: expected a router with K, capacity or priority, or --experts or --skip-moe to \
         compare with the whole model, got a router without",
    );
    let swept = json(&["eval", soft, "--sweep", "--json", "--experts", "0-3"]);
    assert_eq!(swept["settings"][1]["name"], "asked");

    let dense = folder.path().join("dense");
    let preset = ["--preset", "vit-ti4", "--data", "digits", "--set", "model.depth=2"];
    assert!(train_tiny(&dense, &preset).status.success());
    let dense = dense.to_str().unwrap();
    refuses(&["eval", dense, "--sweep"], "sweep: expected a model with experts, got a dense one");
    refuses(
        &["eval", dense, "--skip-moe", "1"],
        "routing was asked of a dense model: it has no experts",
    );
}

#[test]
fn without_validation_images_nothing_can_be_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let data = class_folders(folder.path());
    let none = ["--set", "data.validation_fraction=0", "--set", "train.batch_size=8"];
    let out = trained(folder.path(), &[&["--data", data.to_str().unwrap()][..], &none].concat());
    refuses(
        &["eval", out.to_str().unwrap(), "--sweep"],
        "settings are chosen by validation images and the run keeps none apart: a table without a \
         choice is had with --split test",
    );
}
