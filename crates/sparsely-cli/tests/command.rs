//! The command, end to end, as a person or a script meets it.

#[path = "command/bad_input.rs"]
mod bad_input;
#[path = "command/bench.rs"]
mod bench;
#[path = "command/checkpoints.rs"]
mod checkpoints;
#[path = "command/cost.rs"]
mod cost;
#[path = "command/dial.rs"]
mod dial;
#[path = "command/interruption.rs"]
mod interruption;
#[path = "command/language.rs"]
mod language;
#[path = "command/language_bad_input.rs"]
mod language_bad_input;
#[path = "command/mobile.rs"]
mod mobile;
#[path = "command/study.rs"]
mod study;
#[path = "command/use_of_a_run.rs"]
mod use_of_a_run;

use std::path::Path;
use std::process::{Command, Output};

/// Settings of a run of seconds: a tiny model on the embedded digits.
const TINY: [&str; 10] = [
    "--set",
    "model.width=16",
    "--set",
    "model.heads=2",
    "--set",
    "model.mlp_width=32",
    "--set",
    "train.length={ kind = \"steps\", n = 20 }",
    "--set",
    "train.validate_every={ kind = \"steps\", n = 10 }",
];

fn sparsely() -> Command {
    Command::new(env!("CARGO_BIN_EXE_sparsely"))
}

fn run(args: &[&str]) -> Output {
    sparsely().args(args).output().expect("the command starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

/// Trains the tiny model into `out`.
fn train_tiny(out: &Path, more: &[&str]) -> Output {
    sparsely()
        .args(["train", "--out"])
        .arg(out)
        .args(TINY)
        .args(more)
        .output()
        .expect("the command starts")
}

/// A digit of the embedded set as a PNG: a bright bar on black, good enough to be answered.
fn write_image(path: &Path, column: u32) {
    let image = image::GrayImage::from_fn(8, 8, |x, y| {
        let is_bar = x == column || x == column + 1;
        image::Luma([if is_bar && (1..7).contains(&y) { 240 } else { (y * 3) as u8 }])
    });
    image.save(path).expect("a PNG");
}
