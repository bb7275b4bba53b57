//! What language models refuse, in one line each.

use crate::language::{train_tiny, trained, write_text};
use crate::{run, sparsely, stderr};
use std::fs;
use std::path::Path;
use std::process::Output;

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{}", stderr(output));
    let line = stderr(output);
    assert_eq!(line.lines().count(), 1, "{line}");
    line.trim_end().strip_prefix("sparsely: ").expect("our name").to_string()
}

/// The line after the named file.
fn about(path: &Path, output: &Output) -> String {
    let line = refused(output);
    let rest = line.strip_prefix(&format!("`{}`: ", path.display()));
    rest.unwrap_or_else(|| panic!("{line}")).to_string()
}

#[test]
fn a_text_that_cannot_be_used_leaves_no_run() {
    let folder = tempfile::tempdir().unwrap();
    let (out, text) = (folder.path().join("run"), folder.path().join("x.txt"));
    let pieces = ["--set", "data.tokenizer.kind=bpe", "--set", "data.tokenizer.pieces=300"];
    fs::write(&text, b"fine so far\n\xff\xfe").unwrap();
    assert_eq!(
        about(&text, &train_tiny(&out, &text, &pieces)),
        "expected text in UTF-8 (data.tokenizer.kind=bytes takes any bytes), got something else at \
         byte 12"
    );
    fs::write(&text, "").unwrap();
    let line = about(&text, &train_tiny(&out, &text, &[]));
    assert_eq!(line, "expected a text, got an empty file");
    fs::write(&text, "too short\n").unwrap();
    let line = refused(&train_tiny(&out, &text, &[]));
    assert_eq!(
        line,
        "training text: expected at least 65 tokens, 4 rows of a block of 16 tokens, got 12: set \
         train.batch_size or model.context"
    );
    let line = refused(&train_tiny(&out, &folder.path().join("none.txt"), &[]));
    assert!(line.starts_with("cannot read `") && line.contains("No such file"), "{line}");
    let mut left = fs::read_dir(folder.path()).unwrap();
    assert!(left.all(|entry| entry.unwrap().file_name() == "x.txt"), "something was left behind");
}

#[test]
fn settings_that_cannot_work_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let (out, text) = (folder.path().join("run"), write_text(folder.path()));
    let line = |sets: &[&str]| refused(&train_tiny(&out, &text, sets));
    let told = line(&["--set", "model.attention.num_selected=5"]);
    assert!(told.contains("num_selected 5 is not in 1..=4"), "{told}");
    let told = line(&["--set", "model.attention.bias_rate=-1"]);
    assert!(told.ends_with("model.attention.bias_rate -1 is not a number from 0"), "{told}");
    let context = ["--set", "model.attention.context={}", "--set", "model.depth=1"];
    let told = line(&context);
    assert!(told.ends_with("no block reads one, the first has no attention before it"), "{told}");
    let told = line(&["--set", "model.attention.context.width=0"]);
    assert!(told.contains("context.width must be at least 1"), "{told}");
    let rope = ["--set", "model.attention.positions={ kind = \"rope\", fraction = 0.4 }"];
    let told = line(&rope);
    assert!(told.contains("even") || told.contains("odd"), "{told}");
    let told = line(&["--set", "data.tokenizer.kind=bpe", "--set", "data.tokenizer.pieces=100000"]);
    assert!(
        told.starts_with("byte-pair encoding: expected a training text with 100000 pieces"),
        "{told}"
    );
    assert_eq!(
        line(&["--set", "model.vocabulary=99"]),
        "model.vocabulary cannot be set: it is the tokenizer's (set data.tokenizer)"
    );
    let told = line(&["--set", "data.tokenizer.kind=file"]);
    assert!(told.contains("data.tokenizer.path is empty: name a tokenizer.json"), "{told}");
    let told = line(&["--superclasses", "x.json"]);
    assert_eq!(told, "--superclasses are of images, `switchhead-1m` is a language model");
    let told = refused(&run(&["train", "--preset", "switchhead-1"]));
    assert!(told.contains("`switchhead-1m`"), "{told}");
}

#[test]
fn verbs_of_images_and_of_text_keep_to_their_runs() {
    let folder = tempfile::tempdir().unwrap();
    let out = trained(folder.path(), &[]);
    let path = out.to_str().unwrap();
    let on_text = "expected the configuration of a run on images, got one on text (sparsely eval, score \
                   and generate take it)";
    for args in [
        &["predict", path, "x.png"][..],
        &["cost", path],
        &["logits", path, "--input", "x.npy", "--output", "y.npy"],
        &["superclasses", path],
        &["export", "vmoe", path, "prefix"],
    ] {
        let output = run(args);
        let line = refused(&output);
        assert!(line.ends_with(on_text) || args[0] == "logits", "{args:?}: {line}");
    }
    let line = refused(&run(&["cost", "xl-c4-47m"]));
    let expected =
        "`xl-c4-47m` is a language model: `--paper switchhead` tells what its kind costs";
    assert_eq!(line, expected);
    let line = refused(&run(&["eval", path, "--k", "1"]));
    assert_eq!(line, "routing flags and --sweep are for models of images");
    let images = folder.path().join("images");
    assert!(crate::train_tiny(&images, &[]).status.success());
    let pairs = folder.path().join("pairs.jsonl");
    fs::write(&pairs, "{\"good\": \"a\", \"bad\": \"b\"}\n").unwrap();
    let on_images = "expected the configuration of a run on text, got one on images (sparsely eval and \
                     predict take it)";
    let config = images.join("config.toml");
    let output = sparsely().arg("generate").arg(&images).arg("x").output().unwrap();
    assert_eq!(about(&config, &output), on_images);
    let line = refused(&run(&["eval", images.to_str().unwrap(), "--usage", "x.csv"]));
    assert_eq!(line, "--usage is of language models");
    let output = sparsely().arg("score").arg(&images).arg("--pairs").arg(&pairs).output().unwrap();
    assert_eq!(about(&config, &output), on_images);
}

#[test]
fn a_prompt_must_fit_a_context_without_memory() {
    let folder = tempfile::tempdir().unwrap();
    let rope = [
        "--set",
        "model.memory=0",
        "--set",
        "model.attention.positions={ kind = \"rope\", fraction = 0.5 }",
    ];
    let out = trained(folder.path(), &rope);
    let write = |args: &[&str]| sparsely().arg("generate").arg(&out).args(args).output().unwrap();
    assert_eq!(
        refused(&write(&["seventeen letters"])),
        "generate: expected a prompt of at most 16 tokens, the context of the model, got one of 18 tokens, \
         the beginning of the text included"
    );
    // What does not fit any more is not written.
    let output = write(&["ten letter", "--max-tokens", "50"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let told = stderr(&output);
    assert!(told.contains("the context is full") || told.contains("the model ended"), "{told}");
    let line = refused(&write(&["x", "--top-p", "0"]));
    assert_eq!(
        line,
        "generate: expected a temperature from 0 and a top-p in (0, 1], got temperature 1 and top-p 0"
    );
    assert!(refused(&write(&["x", "--temperature", "-1"])).contains("got temperature -1"));
}

#[test]
fn damaged_files_of_a_run_on_text_are_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let pieces = ["--set", "data.tokenizer.kind=bpe", "--set", "data.tokenizer.pieces=300"];
    let out = trained(folder.path(), &pieces);
    let eval = || sparsely().arg("eval").arg(&out).output().unwrap();
    let (test, train) = (out.join("tokens/test.tokens"), out.join("tokens/train.tokens"));
    let whole = fs::read(&test).unwrap();
    let mut flipped = whole.clone();
    flipped[100] ^= 1;
    fs::write(&test, flipped).unwrap();
    let expected = "expected a whole file of tokens, got tokens with another checksum";
    assert_eq!(about(&test, &eval()), expected);
    fs::write(&test, whole).unwrap();
    let bytes = fs::read(&train).unwrap();
    fs::write(&train, &bytes[..bytes.len() - 1]).unwrap();
    let output = sparsely().args(["train", "--resume"]).arg(&out).output().unwrap();
    assert!(about(&train, &output).contains(" tokens, got "), "{}", stderr(&output));
    fs::write(&train, bytes).unwrap();

    // Another tokenizer of as many pieces.
    let other = folder.path().join("other");
    let text = folder.path().join("other.txt");
    let another = |i: usize| format!("Something else altogether, matter number {}! ", i * 7919);
    fs::write(&text, (0..100).map(another).collect::<String>()).unwrap();
    let output = train_tiny(&other, &text, &pieces);
    assert!(output.status.success(), "{}", stderr(&output));
    fs::copy(other.join("tokenizer.json"), out.join("tokenizer.json")).unwrap();
    for verb in ["eval", "generate"] {
        let output = sparsely().arg(verb).arg(&out).output().unwrap();
        assert_eq!(
            about(&out, &output),
            "expected the tokenizer that the model learned with, of 300 tokens, got another one, of 300 \
             tokens"
        );
    }
    fs::write(out.join("tokenizer.json"), "{}").unwrap();
    let line = about(&out.join("tokenizer.json"), &eval());
    assert!(line.starts_with("expected a tokenizer.json, got "), "{line}");
}

#[test]
fn questions_that_are_none_are_told_with_their_line() {
    let folder = tempfile::tempdir().unwrap();
    let out = trained(folder.path(), &[]);
    let pairs = folder.path().join("pairs.jsonl");
    let told = |text: &str| {
        fs::write(&pairs, text).unwrap();
        let output = sparsely().arg("score").arg(&out).arg("--pairs").arg(&pairs).output().unwrap();
        about(&pairs, &output)
    };
    let good = "{\"good\": \"a\", \"bad\": \"b\"}\n";
    let expected =
        r#"expected {"good": …, "bad": …} or {"context": …, "choices": […], "answer": i}, got "#;
    assert_eq!(told(&format!("{good}oops\n")), format!("{expected}something else in line 2"));
    let cloze = r#"{"context": "x", "choices": ["a", "b"], "answer": 2}"#;
    assert_eq!(told(cloze), format!("{expected}answer 2 of 2 choices in line 1"));
    assert_eq!(told("\n"), "expected at least one question, got none");
}
