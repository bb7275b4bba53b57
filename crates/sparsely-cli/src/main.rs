//! The command `sparsely`: trains, evaluates and uses sparse mixture-of-experts transformers.

mod args;
mod commands;
mod progress;

use anyhow::{Context, Result};
use args::{Args, Command};
use clap::Parser;
use std::process::ExitCode;

/// Exit code of an answer that is no: a run that was stopped before its end.
const NO: u8 = 1;
/// Exit code of an error.
const ERROR: u8 = 2;

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("sparsely: {}", one_line(&error));
            ExitCode::from(ERROR)
        }
    }
}

fn run(args: Args) -> Result<ExitCode> {
    if let Some(threads) = args.threads {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads.get())
            .build_global()
            .context("cannot start the threads")?;
    }
    match args.command {
        Command::Train(args) => commands::train::run(&args),
        Command::Eval(args) => commands::eval::run(&args),
        Command::Predict(args) => commands::predict::run(&args),
        Command::Logits(args) => commands::logits::run(&args),
        Command::Bench(args) => commands::bench::run(&args),
    }
}

/// The error with its causes, on a single line.
fn one_line(error: &anyhow::Error) -> String {
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}
