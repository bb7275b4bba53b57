//! Dense model, super-classes, sparse model.

use crate::{run, sparsely, stderr, stdout, train_tiny, write_image};
use std::fs;
use std::path::Path;

/// Settings of dense runs of seconds: two blocks on the embedded digits.
const DENSE: [&str; 4] = ["--preset", "vit-2x16/2", "--data", "digits"];

fn dense_run(out: &Path) {
    let trained = train_tiny(out, &DENSE);
    assert!(trained.status.success(), "{}", stderr(&trained));
}

fn superclasses(run: &Path, args: &[&str]) -> std::process::Output {
    sparsely().arg("superclasses").arg(run).args(args).output().unwrap()
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn super_classes_of_a_dense_run_teach_a_router_of_images() {
    let folder = tempfile::tempdir().unwrap();
    let (dense, sparse) = (folder.path().join("dense"), folder.path().join("sparse"));
    dense_run(&dense);
    let found = superclasses(&dense, &["--experts", "4", "--balanced"]);
    assert!(found.status.success(), "{}", stderr(&found));
    let groups = dense.join("superclasses.json");
    let file = json(&groups);
    let sizes: Vec<_> = file["groups"].as_array().unwrap().iter().map(|g| &g["size"]).collect();
    assert_eq!(sizes, [3, 3, 2, 2]);
    let kept = file["kept_share"].as_f64().unwrap();
    assert!(kept > file["chance_share"].as_f64().unwrap() && kept < 1.0, "{file:#}");
    // Those that the digits come with for validation.
    assert_eq!(file["images"], 180);
    let svg = fs::read_to_string(dense.join("superclasses.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("lies within the 4 groups"));

    let taught = ["--superclasses", groups.to_str().unwrap()];
    let preset =
        ["--preset", "mobile-2x16/2", "--data", "digits", "--set", "model.moe.placement.n=1"];
    let trained = train_tiny(&sparse, &[&preset[..], &taught].concat());
    assert!(trained.status.success(), "{}", stderr(&trained));
    let lines = stdout(&trained);
    let last: Vec<&str> = lines.lines().rev().take(2).collect();
    assert!(last[1].starts_with("router top-1 ") && last[0].starts_with("test top-1 "), "{lines}");

    let evaluated = run(&["eval", sparse.to_str().unwrap(), "--json"]);
    let line: serde_json::Value = serde_json::from_str(&stdout(&evaluated)).unwrap();
    assert!(line["router_top1"].is_f64(), "{line}");
    assert_eq!(line["layers"][0]["experts_per_image"], 1.0);
    let image = folder.path().join("x.png");
    write_image(&image, 2);
    let answered =
        sparsely().arg("predict").arg(&sparse).arg(&image).arg("--json").output().unwrap();
    let line: serde_json::Value = serde_json::from_str(&stdout(&answered)).unwrap();
    assert_eq!(line["experts_of_layers"], serde_json::json!([1]));
    let expert = line["expert"]["index"].as_u64().unwrap() as usize;
    assert_eq!(line["expert"]["super_class"], file["groups"][expert]["classes"]);
}

#[test]
fn random_groups_are_the_control() {
    let folder = tempfile::tempdir().unwrap();
    let dense = folder.path().join("dense");
    dense_run(&dense);
    let out = folder.path().join("random.json");
    let random = ["--experts", "3", "--random", "--out", out.to_str().unwrap()];
    for (more, sizes) in [(&[][..], [4, 3, 3]), (&["--like", "LIKE"], [5, 4, 1])] {
        let like = folder.path().join("like.json");
        let names: Vec<Vec<String>> =
            vec![vec!["a".into()], vec!["b".into(); 5], vec!["c".into(); 4]];
        let groups: Vec<_> =
            names.iter().map(|classes| serde_json::json!({ "classes": classes })).collect();
        fs::write(&like, serde_json::json!({ "groups": groups }).to_string()).unwrap();
        let more: Vec<&str> = more
            .iter()
            .map(|arg| if *arg == "LIKE" { like.to_str().unwrap() } else { arg })
            .collect();
        let found = superclasses(&dense, &[&random[..], &more].concat());
        assert!(found.status.success(), "{}", stderr(&found));
        let file = json(&out);
        let found: Vec<_> = file["groups"].as_array().unwrap().iter().map(|g| &g["size"]).collect();
        assert_eq!(found, sizes);
    }
}

#[test]
fn all_three_in_one_go_and_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("all");
    let again = |more: &[&str]| {
        let mut command = sparsely();
        command.args([
            "mobile",
            "--data",
            "digits",
            "--size",
            "2x16/2",
            "--experts",
            "3",
            "--soft",
        ]);
        command.args(["--set-sparse", "model.moe.placement.n=1", "--out"]).arg(&out);
        command.args(["--set-sparse", "train.super_classes.weight=0.5"]);
        for set in ["length", "validate_every"] {
            command.arg("--set").arg(format!("train.{set}={{ kind = \"steps\", n = 10 }}"));
        }
        command.args(more).output().unwrap()
    };
    let first = again(&[]);
    assert!(first.status.success(), "{}", stderr(&first));
    let second = again(&[]);
    let summary = |output: &std::process::Output| {
        stdout(output).lines().rev().take(4).map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(summary(&first), summary(&second));
    assert!(summary(&first)[0].ends_with("; one seed"), "{}", stdout(&first));
    let metrics = fs::read_to_string(out.join("sparse/metrics.jsonl")).unwrap();
    let lines =
        metrics.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let mut steps = 0;
    for line in lines.filter(|line| line["router_loss"].is_f64()) {
        let [loss, task, router] =
            ["loss", "task_loss", "router_loss"].map(|name| line[name].as_f64().unwrap());
        assert!((loss - (task + 0.5 * router)).abs() < 1e-5, "{line}");
        steps += 1;
    }
    assert_eq!(steps, 1, "a line for ten steps");
    let other = again(&["--seed", "7"]);
    assert_eq!(other.status.code(), Some(2));
    assert_eq!(
        stderr(&other),
        format!(
            "sparsely: `{}`: expected super-classes by the options that are asked for, got some by others: \
             name another --out\n",
            out.join("superclasses.json").display()
        )
    );
    // Nothing is overwritten by what is refused; a longer run is another, too.
    let groups = fs::read(out.join("superclasses.json")).unwrap();
    assert_eq!(again(&["--balanced"]).status.code(), Some(2));
    assert!(groups == fs::read(out.join("superclasses.json")).unwrap());
    let longer = again(&["--set", "train.batch_size=7"]);
    assert_eq!(
        stderr(&longer),
        format!(
            "sparsely: `{}`: expected a run with `train.batch_size` 7, as is asked for, got one with 64: name \
             another --out\n",
            out.join("dense").display()
        )
    );
}

/// In whatever stage: what is there is kept, and the rest is as it would have been.
#[test]
fn all_three_go_on_after_an_interruption() {
    let folder = tempfile::tempdir().unwrap();
    let command = |out: &Path| {
        let mut command = sparsely();
        command.args(["mobile", "--data", "digits", "--size", "2x16/2", "--experts", "3"]);
        command.args(["--soft", "--set-sparse", "model.moe.placement.n=1", "--out"]).arg(out);
        for set in ["length", "validate_every"] {
            command.arg("--set").arg(format!("train.{set}={{ kind = \"steps\", n = 10 }}"));
        }
        command
    };
    let (whole, cut) = (folder.path().join("whole"), folder.path().join("cut"));
    assert!(command(&whole).output().unwrap().status.success());
    assert!(command(&cut).output().unwrap().status.success());
    // As if it had ended before the sparse model, and before the super-classes.
    for gone in [&["sparse"][..], &["sparse", "superclasses.json", "superclasses.svg"]] {
        for name in gone {
            let path = cut.join(name);
            let removed =
                if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            removed.unwrap();
        }
        assert!(command(&cut).output().unwrap().status.success());
        for file in ["superclasses.json", "sparse/model.safetensors"] {
            let [a, b] = [&whole, &cut].map(|out| fs::read(out.join(file)).unwrap());
            let same = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace("/whole/", "/cut/");
            assert!(same(&a) == same(&b), "{file}");
        }
    }
}

#[test]
fn a_run_with_super_classes_goes_on_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let groups = folder.path().join("groups.json");
    fs::write(&groups, groups_of_digits(&["0123456", "789"])).unwrap();
    let train = |name: &str, steps: &str| {
        let out = folder.path().join(name);
        let steps = format!("train.length={{ kind = \"steps\", n = {steps} }}");
        let preset =
            ["--preset", "mobile-2x16/2", "--data", "digits", "--set", "model.moe.placement.n=1"];
        let more = ["--superclasses", groups.to_str().unwrap(), "--set", &steps];
        let schedule = ["--set", "train.schedule.decay={ kind = \"constant\" }"];
        let trained = train_tiny(&out, &[&preset[..], &more, &schedule].concat());
        assert!(trained.status.success(), "{}", stderr(&trained));
        out
    };
    let (whole, half) = (train("whole", "20"), train("half", "10"));
    let config = fs::read_to_string(half.join("config.toml")).unwrap();
    fs::write(half.join("config.toml"), config.replacen("n = 10", "n = 20", 1)).unwrap();
    let resumed = sparsely().args(["train", "--resume"]).arg(&half).output().unwrap();
    assert!(resumed.status.success(), "{}", stderr(&resumed));
    let model = |run: &Path| fs::read(run.join("state/step-00000020.safetensors")).unwrap();
    assert!(model(&whole) == model(&half));
}

/// The file of groups of digits, each told by its letters.
fn groups_of_digits(groups: &[&str]) -> String {
    let classes = |group: &&str| group.chars().map(String::from).collect::<Vec<_>>();
    let groups: Vec<_> =
        groups.iter().map(|group| serde_json::json!({ "classes": classes(group) })).collect();
    serde_json::json!({ "groups": groups }).to_string()
}

#[test]
fn bad_super_classes_are_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let dense = folder.path().join("dense");
    dense_run(&dense);
    let refuses = |output: std::process::Output, line: &str| {
        assert_eq!(stderr(&output), format!("sparsely: {line}\n"));
        assert_eq!(output.status.code(), Some(2));
    };
    refuses(
        superclasses(&dense, &["--experts", "11"]),
        "super-classes: expected 1 to 10 experts, each with a class of its own or more, got 11",
    );
    let many = ["--data", "digits", "--size", "2x16/2", "--experts", "11", "--out"];
    let out = folder.path().join("all");
    refuses(
        sparsely().arg("mobile").args(many).arg(&out).output().unwrap(),
        "super-classes: expected 1 to 10 experts, each with a class of its own or more, got 11",
    );
    assert!(!out.exists());
    let no_labels = "super-classes of labels: expected a label `coarse` that is the same for all images of a \
                     class, got `digits`, whose images have one label";
    refuses(superclasses(&dense, &["--from-labels", "coarse"]), no_labels);
    let by_labels = ["mobile", "--data", "digits", "--from-labels", "coarse", "--out"];
    refuses(sparsely().args(by_labels).arg(&out).output().unwrap(), no_labels);
    let by_labels =
        ["--preset", "mobile-2x16/2", "--data", "digits", "--superclass-labels", "coarse"];
    refuses(train_tiny(&out, &by_labels), no_labels);
    assert!(!out.exists());
    // What is wrong with the sparse model or its groups is told before the dense one is trained.
    let mobile = |more: &[&str]| {
        let few = ["mobile", "--data", "digits", "--size", "4x16/2", "--experts", "3", "--out"];
        sparsely().args(few).arg(&out).args(more).output().unwrap()
    };
    refuses(
        mobile(&["--set", "model.moe.router.num_selected=1"]),
        "--set model.moe: expected settings of both models, got experts for the dense one: use --set-sparse",
    );
    refuses(
        mobile(&["--set-sparse", "model.moe.num_experts=5"]),
        "invalid configuration: there are 3 super-classes for 5 experts: one is needed for each \
         (model.moe.num_experts)",
    );
    let like = folder.path().join("like.json");
    fs::write(&like, groups_of_digits(&["01234", "5678"])).unwrap();
    refuses(
        mobile(&["--random", "--like", like.to_str().unwrap()]),
        "random groups: expected sizes of 3 groups of 10 classes, got [5, 4]",
    );
    let picture = folder.path().join("groups.svg");
    refuses(
        superclasses(&dense, &["--experts", "3", "--out", picture.to_str().unwrap()]),
        &format!(
            "--out: expected a file for the groups, got `{}`, where their picture goes",
            picture.display()
        ),
    );
    assert!(!out.exists() && !picture.exists());
    let (none, data) = (folder.path().join("none"), folder.path().join("data"));
    for class in ["cat", "dog"] {
        fs::create_dir_all(data.join(class)).unwrap();
        for i in 0..12 {
            write_image(&data.join(class).join(format!("{i}.png")), i % 7);
        }
    }
    let data = data.to_str().unwrap();
    let none_held_out = ["--data", data, "--set", "data.validation_fraction=0", "--out"];
    refuses(
        sparsely().arg("mobile").args(none_held_out).arg(&out).output().unwrap(),
        "super-classes: expected images held out of training to find them by, got none: a \
         data.validation_fraction above 0 keeps some",
    );
    assert!(!out.exists());
    let trained = train_tiny(
        &none,
        &[
            "--preset",
            "vit-2x16/2",
            "--data",
            data,
            "--set",
            "data.validation_fraction=0",
            "--set",
            "train.batch_size=8",
        ],
    );
    assert!(trained.status.success(), "{}", stderr(&trained));
    refuses(
        superclasses(&none, &["--experts", "2"]),
        &format!(
            "`{}`: expected a run with images held out of training, got none: train it with a \
             data.validation_fraction above 0",
            none.display()
        ),
    );
    let file = folder.path().join("groups.json");
    let train = |content: &str, preset: &str, more: &[&str]| {
        fs::write(&file, content).unwrap();
        let taught =
            ["--superclasses", file.to_str().unwrap(), "--preset", preset, "--data", "digits"];
        train_tiny(&folder.path().join("sparse"), &[&taught[..], more].concat())
    };
    refuses(
        train(&groups_of_digits(&["01234", "5678x"]), "mobile-2x16/2", &[]),
        "super-classes: expected the data's classes, such as `0`, got `x`, which is none of them",
    );
    refuses(
        train(&groups_of_digits(&["01234", "5678"]), "mobile-2x16/2", &[]),
        "super-classes: expected a group for each of the data's 10 classes, got none with `9`",
    );
    refuses(
        train(
            &groups_of_digits(&["01234", "56789"]),
            "mobile-2x16/2",
            &["--set", "model.moe.num_experts=3"],
        ),
        "invalid configuration: there are 2 super-classes for 3 experts: one is needed for each \
         (model.moe.num_experts)",
    );
    refuses(
        train(&groups_of_digits(&["01234", "56789"]), "vit-2x16/2", &[]),
        "invalid configuration: super-classes teach a router of whole images, which this model does not \
         have: take a `mobile-` preset, or set model.moe.granularity.kind=image and a model.moe.router with \
         gates",
    );
    let broken = train("{ \"groups\": 3 }", "mobile-2x16/2", &[]);
    assert_eq!(broken.status.code(), Some(2));
    assert_eq!(stderr(&broken).lines().count(), 1);
    assert!(stderr(&broken).contains("expected super-classes, groups of names of classes, got"));
    assert!(!folder.path().join("sparse").exists());
}
