//! Train, evaluate, predict, logits.

use crate::{run, sparsely, stderr, stdout, train_tiny, write_image};
use std::fs;

#[test]
fn a_run_is_trained_evaluated_and_used() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let trained = train_tiny(&out, &[]);
    assert!(trained.status.success(), "{}", stderr(&trained));
    let last = stdout(&trained).lines().last().unwrap().to_string();
    assert!(last.starts_with("test top-1 ") && last.ends_with(" % (n=360)"), "{last}");

    let evaluated = run(&["eval", out.to_str().unwrap()]);
    assert_eq!(stdout(&evaluated).lines().last().unwrap(), last);
    let json = run(&["eval", out.to_str().unwrap(), "--json"]);
    let json: serde_json::Value = serde_json::from_str(&stdout(&json)).unwrap();
    assert_eq!(json["n"], 360);
    for field in ["top1", "top5", "loss", "dropped_share", "seconds_per_image"] {
        assert!(json[field].is_f64(), "{field}: {json}");
    }
    for file in ["config.toml", "model.safetensors", "model.json", "metrics.jsonl"] {
        assert!(out.join(file).is_file(), "{file}");
    }
}

#[test]
fn the_dial_turns_without_training() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    assert!(train_tiny(&out, &[]).status.success());
    let dropped = |args: &[&str]| {
        let output = sparsely().arg("eval").arg(&out).arg("--json").args(args).output().unwrap();
        let json: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("JSON");
        json["dropped_share"].as_f64().unwrap()
    };
    assert_eq!(dropped(&[]), 0.0);
    // One seat for each of 8 experts, 16 tokens × 1 choice an image: at least half are dropped.
    assert!(dropped(&["--k", "1", "--capacity", "exact:1"]) >= 0.5);
    let by_priority = ["--capacity", "0.5", "--priority", "bpr", "--group", "7"];
    assert!((0.4..0.9).contains(&dropped(&by_priority)));
}

#[test]
fn an_answer_does_not_depend_on_the_batch() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    assert!(train_tiny(&out, &[]).status.success());
    let images: Vec<_> = (0..32)
        .map(|i| {
            let path = folder.path().join(format!("{i}.png"));
            write_image(&path, i % 7);
            path
        })
        .collect();
    for dial in [&[][..], &["--capacity", "0.5", "--priority", "bpr"]] {
        let predict = || {
            let mut command = sparsely();
            command.arg("predict").arg(&out).args(["--json", "--top", "10"]).args(dial);
            command
        };
        let together = stdout(&predict().args(&images).output().unwrap());
        let alone: String =
            images.iter().map(|image| stdout(&predict().arg(image).output().unwrap())).collect();
        assert_eq!(together.lines().count(), 32);
        assert_eq!(together, alone);
    }
}

#[test]
fn groups_of_images_need_not_divide_what_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    assert!(train_tiny(&out, &[]).status.success());
    let image = folder.path().join("x.png");
    write_image(&image, 2);
    for group in ["8", "tokens:24"] {
        let dial = ["--group", group, "--capacity", "1.05"];
        let images = [&image, &image, &image];
        let output = sparsely().arg("predict").arg(&out).args(images).args(dial).output().unwrap();
        assert_eq!(stdout(&output).lines().count(), 3, "{}", stderr(&output));
        let output = sparsely().arg("eval").arg(&out).args(dial).output().unwrap();
        assert!(stdout(&output).ends_with("(n=360)\n"), "{}", stderr(&output));
    }
}

#[test]
fn without_validation_images_the_last_model_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    for class in ["cat", "dog"] {
        fs::create_dir_all(data.join(class)).unwrap();
        for i in 0..12 {
            write_image(&data.join(class).join(format!("{i}.png")), i % 7);
        }
    }
    let out = folder.path().join("run");
    let none = ["--set", "data.validation_fraction=0", "--set", "train.batch_size=8"];
    let output = train_tiny(&out, &[&["--data", data.to_str().unwrap()][..], &none].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let json: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(out.join("model.json")).unwrap()).unwrap();
    assert_eq!(json["step"], 20);
}

#[test]
fn a_broken_image_does_not_take_the_others_answers() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    assert!(train_tiny(&out, &[]).status.success());
    let (good, text) = (folder.path().join("good.png"), folder.path().join("text.png"));
    write_image(&good, 3);
    fs::write(&text, "this is not a picture").unwrap();
    let output = sparsely().arg("predict").arg(&out).args([&text, &good]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stdout(&output).lines().count(), 1);
    assert!(stdout(&output).starts_with(&format!("{}: ", good.display())));
    assert_eq!(stderr(&output).lines().count(), 1);
    assert!(stderr(&output).starts_with(&format!("sparsely: `{}`: expected ", text.display())));
}

#[test]
fn runs_without_a_folder_are_numbered() {
    let folder = tempfile::tempdir().unwrap();
    for number in ["0001", "0002"] {
        let mut command = sparsely();
        command.current_dir(folder.path()).arg("train").args(crate::TINY);
        assert!(command.output().unwrap().status.success());
        assert!(folder.path().join("runs").join(number).join("model.safetensors").is_file());
    }
}

#[test]
fn memory_is_told_where_it_is_asked_for_and_damage_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let (out, image) = (folder.path().join("run"), folder.path().join("a.png"));
    let experts = ["model.moe.num_experts=6", "model.width=32", "model.mlp_width=64"];
    let sets = experts.iter().flat_map(|set| ["--set", set]);
    let preset = ["--preset", "mobile-2x16/2", "--data", "digits"];
    assert!(train_tiny(&out, &preset.into_iter().chain(sets).collect::<Vec<_>>()).status.success());
    write_image(&image, 3);
    let predict = |more: &[&str]| {
        sparsely().arg("predict").arg(&out).arg(&image).args(more).output().unwrap()
    };
    let (plain, told) = (predict(&["--json"]), predict(&["--json", "--memory"]));
    assert_eq!((stdout(&plain), stderr(&plain)), (stdout(&told), String::new()));
    let line = stderr(&told);
    assert!(line.starts_with("sparsely: memory: ") && line.lines().count() == 1, "{line}");
    // Two layers of one expert in each of two blocks.
    assert!(line.ends_with("; 4 of 24 experts' layers used\n"), "{line}");

    let file = out.join("model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    let refused = predict(&[]);
    assert_eq!(refused.status.code(), Some(2));
    let start = format!("sparsely: `{}`: expected checksum ", file.display());
    assert!(stderr(&refused).starts_with(&start), "{}", stderr(&refused));
    assert_eq!(stderr(&refused).lines().count(), 1);
}

#[test]
fn pixels_that_no_patch_sees_are_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let trained = train_tiny(&out, &["--set", "model.patch_size=3"]);
    assert!(trained.status.success());
    assert_eq!(
        stderr(&trained),
        "sparsely: patches of 3 do not divide images of 8×8: the last 2 rows and columns of pixels are not \
         seen\n"
    );
}

#[test]
fn a_run_remembers_its_precision_and_may_be_used_in_another() {
    let folder = tempfile::tempdir().unwrap();
    let (out, image) = (folder.path().join("run"), folder.path().join("a.png"));
    let trained = train_tiny(&out, &["--precision", "bf16"]);
    assert!(trained.status.success(), "{}", stderr(&trained));
    let config = fs::read_to_string(out.join("config.toml")).unwrap();
    assert!(config.contains("precision = \"bf16\""), "{config}");
    let loss = |args: &[&str]| {
        let output = sparsely().arg("eval").arg(&out).arg("--json").args(args).output().unwrap();
        let json: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("JSON");
        json["loss"].as_f64().unwrap()
    };
    let [own, bf16, f32] = [&[][..], &["--precision", "bf16"], &["--precision", "f32"]].map(loss);
    assert_eq!(own, bf16);
    assert!(own != f32 && (own / f32 - 1.0).abs() < 0.01, "{own} in bf16, {f32} in f32");

    // Alone as among others, in bf16 too.
    write_image(&image, 3);
    let predict = |count: usize| {
        let mut command = sparsely();
        command.arg("predict").arg(&out).args(["--json", "--top", "10"]);
        let output = command.args(vec![&image; count]).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    };
    assert_eq!(predict(5).lines().count(), 5);
    assert_eq!(predict(1).repeat(5), predict(5));

    let refused = run(&["train", "--resume", out.to_str().unwrap(), "--precision", "f32"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        stderr(&refused).contains("'--resume <RUN>' cannot be used with"),
        "{}",
        stderr(&refused)
    );
    let refused = run(&["eval", out.to_str().unwrap(), "--precision", "fp8"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        stderr(&refused).contains("invalid value 'fp8' for '--precision"),
        "{}",
        stderr(&refused)
    );
}
