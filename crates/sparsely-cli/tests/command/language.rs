//! Language models: train, resume, evaluate, score, generate.

use crate::{run, sparsely, stderr, stdout};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

/// A SwitchHead of seconds.
pub(crate) const TINY: [&str; 20] = [
    "--preset",
    "switchhead-1m",
    "--set",
    "model.width=16",
    "--set",
    "model.depth=2",
    "--set",
    "model.context=16",
    "--set",
    "model.memory=16",
    "--set",
    "model.attention.head_width=8",
    "--set",
    "model.mlp.width=32",
    "--set",
    "train.batch_size=4",
    "--set",
    "train.length={ kind = \"steps\", n = 60 }",
    "--set",
    "train.validate_every={ kind = \"steps\", n = 30 }",
];

/// A text of a few hundred lines that are much alike.
pub(crate) fn write_text(folder: &Path) -> PathBuf {
    let path = folder.join("cats.txt");
    let line = |i: usize| {
        let (who, place) = (["cat", "dog", "cow"][i % 3], ["mat", "hill", "road", "roof"][i % 4]);
        format!("The {who} sat on the {place} for {i} days.\n")
    };
    fs::write(&path, (0..300).map(line).collect::<String>()).unwrap();
    path
}

pub(crate) fn train_tiny(out: &Path, data: &Path, more: &[&str]) -> Output {
    let mut command = sparsely();
    command.args(["train", "--out"]).arg(out).arg("--data").arg(data).args(TINY).args(more);
    command.output().expect("the command starts")
}

/// Trains the tiny model on the cats; the folder of the run.
pub(crate) fn trained(folder: &Path, more: &[&str]) -> PathBuf {
    let out = folder.join("run");
    let output = train_tiny(&out, &write_text(folder), more);
    assert!(output.status.success(), "{}", stderr(&output));
    out
}

#[test]
fn the_embedded_novels_are_learned_and_evaluated() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let pieces = ["--set", "data.tokenizer.kind=bpe", "--set", "data.tokenizer.pieces=600"];
    let quick = ["--set", "eval.batch_size=16", "--set", "eval.max_validation_tokens=2000"];
    let steps = ["--set", "train.length.n=5", "--set", "model.context=64"];
    let mut command = sparsely();
    command.args(["train", "--out"]).arg(&out).args(TINY).args(pieces).args(quick).args(steps);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let told = stdout(&output);
    assert!(
        told.starts_with("austen: ") && told.contains("600 pieces (split as published)"),
        "{told}"
    );
    let last: Vec<&str> = told.lines().rev().take(3).collect();
    assert!(last[1].ends_with(" bits/byte (n=250977 bytes)"), "{told}");
    assert!(last[2].ends_with(" words)"), "{told}");

    let evaluated = run(&["eval", out.to_str().unwrap()]);
    assert_eq!(stdout(&evaluated).lines().last().unwrap(), last[0], "{}", stderr(&evaluated));
    let json = run(&["eval", out.to_str().unwrap(), "--json"]);
    let json: serde_json::Value = serde_json::from_str(&stdout(&json)).unwrap();
    let number = |field: &str| json[field].as_f64().unwrap_or_else(|| panic!("{field}: {json}"));
    // The measures are one sum over different counts.
    let nats = number("loss") * number("tokens");
    let close = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-9;
    assert!(close(number("perplexity"), number("loss").exp()));
    assert!(close(number("bits_per_byte"), nats / 2_f64.ln() / 250_977.0));
    assert!(close(number("word_perplexity").ln(), nats / number("words")));
    for file in ["config.toml", "model.safetensors", "tokenizer.json", "tokens/train.tokens"] {
        assert!(out.join(file).is_file(), "{file}");
    }
}

#[test]
fn an_evaluation_tells_which_experts_read_which_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let out = trained(folder.path(), &[]);
    let table = folder.path().join("usage.csv");
    let evaluated = run(&["eval", out.to_str().unwrap(), "--usage", table.to_str().unwrap()]);
    assert!(evaluated.status.success(), "{}", stderr(&evaluated));
    let told = stdout(&evaluated);
    let title = "tokens that go to each expert of a head, in % of the tokens of a kind:";
    let lines: Vec<&str> = told.lines().skip_while(|line| *line != title).skip(1).collect();
    assert!(lines[0].starts_with("head ") && lines[0].contains("letter (n="), "{told}");
    // Two blocks, two sides, two heads, then tokens a second.
    assert!(
        lines[8].starts_with("block 1 destination 1 ") && lines[9].ends_with("tokens/s"),
        "{told}"
    );
    let text = fs::read_to_string(&table).unwrap();
    let mut rows = text.lines();
    assert_eq!(rows.next(), Some("block,side,head,token_kind,tokens,expert,share"));
    let fields: Vec<Vec<&str>> = rows.map(|row| row.split(',').collect()).collect();
    // Cats have letters, digits, spaces and points, and the text an end: of each four experts' shares, that sum to K.
    assert_eq!(fields.len() % (8 * 4), 0);
    for four in fields.chunks(4) {
        let sum: f64 = four.iter().map(|row| row[6].parse::<f64>().unwrap()).sum();
        assert!((sum - 2.0).abs() < 1e-12, "{four:?}");
    }
    // Every token that was read is counted in every head.
    let json = run(&["eval", out.to_str().unwrap(), "--json"]);
    let json: serde_json::Value = serde_json::from_str(&stdout(&json)).unwrap();
    let heads = json["usage"].as_array().unwrap();
    assert_eq!(heads.len(), 8);
    for head in heads {
        let kinds = head["kinds"].as_array().unwrap();
        let read: u64 = kinds.iter().map(|kind| kind["tokens"].as_u64().unwrap()).sum();
        assert_eq!(Some(read), json["tokens"].as_u64());
    }
}

#[test]
fn a_killed_run_on_text_ends_with_the_bits_of_one_that_was_not() {
    let folder = tempfile::tempdir().unwrap();
    let text = write_text(folder.path());
    let drawing = [
        "--set",
        "model.dropout=0.1",
        "--set",
        "model.attention.expert_dropout=0.2",
        "--set",
        "model.attention.bias_rate=0.01",
        "--set",
        "model.attention.entropy_weight=0.001",
        "--set",
        "model.attention.context.width=4",
        "--set",
        "train.checkpoint_every={ kind = \"steps\", n = 7 }",
        "--set",
        "train.log_steps=1",
        "--set",
        "train.length={ kind = \"steps\", n = 150 }",
    ];
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    let output = train_tiny(&whole, &text, &drawing);
    assert!(output.status.success(), "{}", stderr(&output));
    let mut command = sparsely();
    command.args(["train", "--out"]).arg(&killed).arg("--data").arg(&text);
    let mut child = command.args(TINY).args(drawing).stdout(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    let lines =
        || fs::read_to_string(killed.join("metrics.jsonl")).map_or(0, |t| t.lines().count());
    while lines() < 40 {
        assert!(Instant::now() < deadline, "the run does not get on");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // The text itself is not needed again.
    fs::remove_file(&text).unwrap();
    let output = run(&["train", "--resume", killed.to_str().unwrap()]);
    assert!(output.status.success(), "{}", stderr(&output));
    for file in ["model.safetensors", "model.json", "state/step-00000150.safetensors"] {
        let bytes = |run: &Path| fs::read(run.join(file)).unwrap();
        assert!(bytes(&whole) == bytes(&killed), "{file} differs");
    }
}

#[test]
fn a_model_writes_what_its_seed_says_and_stops_where_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let out = trained(folder.path(), &[]);
    let write = |args: &[&str]| {
        let mut command = sparsely();
        let output = command.arg("generate").arg(&out).args(args).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(stderr(&output).contains(" tokens/s, after a prompt of "), "{}", stderr(&output));
        stdout(&output)
    };
    // Beyond the context and its memory, as memory allows.
    let long = ["The cat", "--max-tokens", "80", "--seed", "3"];
    assert_eq!(write(&long), write(&long));
    assert_ne!(write(&long), write(&["The cat", "--max-tokens", "80", "--seed", "4"]));
    let cold = write(&["The cat", "--max-tokens", "60", "--temperature", "0"]);
    let stop = cold.trim_end().chars().nth(20).unwrap().to_string();
    let stopped = write(&["The cat", "--max-tokens", "60", "--temperature", "0", "--stop", &stop]);
    let expected = cold.split(&stop).next().unwrap();
    assert_eq!(stopped.trim_end_matches('\n'), expected.trim_end_matches('\n'));
    assert_eq!(write(&["--max-tokens", "0"]), "\n");
}

#[test]
fn a_model_finds_what_it_has_read_likelier() {
    let folder = tempfile::tempdir().unwrap();
    let out = trained(folder.path(), &["--set", "train.length.n=150"]);
    let pairs = folder.path().join("pairs.jsonl");
    let questions = r#"{"good": "The cat sat on the mat", "bad": "Qzx vvk jjq ww zzxq kkj"}

{"good": "The dog sat on the hill for", "bad": "ehT god tas no eht llih rof"}
{"context": "The cow sat", "choices": [" on the", " qx zzj"], "answer": 0}
{"context": "The cow ", "choices": ["zqx", "sat"], "after": " on the mat", "answer": 1}
"#;
    fs::write(&pairs, questions).unwrap();
    let score = |more: &[&str]| {
        let mut command = sparsely();
        let output = command.arg("score").arg(&out).arg("--pairs").arg(&pairs).args(more);
        let output = output.output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    };
    // Wilson's interval of 2 of 2.
    let line = "100.0 % right, 95 % interval 34.2 to 100.0 % (n=2)";
    assert_eq!(score(&[]), format!("pairs {line}\ncloze {line}\n"));
    let json: Vec<serde_json::Value> = score(&["--each", "--json"])
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(json.len(), 5);
    assert_eq!((&json[3]["answer"], &json[3]["is_right"]), (&1.into(), &true.into()));
    let values = json[0]["log_probabilities"].as_array().unwrap();
    assert!(values[0].as_f64() > values[1].as_f64() && values[0].as_f64() < Some(0.0));
    assert_eq!(json[4]["cloze"]["right"], 2);
}

#[test]
fn folders_of_texts_are_split_by_document() {
    let folder = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(write_text(folder.path())).unwrap();
    let data = folder.path().join("texts");
    fs::create_dir(&data).unwrap();
    for i in 0..6 {
        fs::write(data.join(format!("{i}.txt")), &text).unwrap();
    }
    let out = folder.path().join("run");
    let output = train_tiny(&out, &data, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stdout(&output).contains(" tokens of bytes (held-out documents)"),
        "{}",
        stdout(&output)
    );
    let other =
        run(&["eval", out.to_str().unwrap(), "--data", data.join("0.txt").to_str().unwrap()]);
    let bytes = format!("(n={} bytes)", text.len());
    assert!(stdout(&other).contains(&bytes), "{}{}", stdout(&other), stderr(&other));
}

#[test]
fn decoding_is_measured_beside_the_memory() {
    let args = ["bench", "decode", "--model", "switchhead-1m", "--steps", "2", "--json"];
    let output = run(&args);
    assert!(output.status.success(), "{}", stderr(&output));
    let line: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    // A million parameters, of which half the experts of a head are read.
    let bytes = line["bytes_per_token"].as_f64().unwrap();
    assert!((2e6..5e6).contains(&bytes), "{line}");
    let [speed, bandwidth] =
        ["tokens_per_second", "bandwidth"].map(|field| line[field].as_f64().unwrap());
    let share = line["share_of_bandwidth"].as_f64().unwrap();
    assert!((share / (bytes * speed / bandwidth) - 1.0).abs() < 1e-9, "{line}");
    let refused = run(&["bench", "decode", "--model", "vmoe-ti4"]);
    let line = "there is no language model `vmoe-ti4` to measure; docs/language.md lists them";
    assert_eq!(stderr(&refused), format!("sparsely: {line}\n"));
}
