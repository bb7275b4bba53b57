//! The command `sparsely`: trains, evaluates and uses sparse mixture-of-experts transformers.

/// Prints a line. Whoever reads may have gone (`sparsely train | head`): that ends neither a run
/// nor its checkpoints.
macro_rules! say {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($argument)*);
    }};
}

mod args;
mod commands;
mod memory;
mod progress;
mod quantity;
mod table;

use anyhow::{Context, Result};
use args::{Args, Command};
use clap::Parser;
use clap::error::ErrorKind;
use std::process::ExitCode;

/// Exit code of an answer that is no: a run that was stopped before its end, a plan that does not
/// fit.
const NO: u8 = 1;
/// Exit code of an error.
const ERROR: u8 = 2;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return told_by_clap(&error),
    };
    match run(args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("sparsely: {}", one_line(&error));
            ExitCode::from(ERROR)
        }
    }
}

/// Help and version as they are; an error as ours are, in one line, with its tip.
fn told_by_clap(error: &clap::Error) -> ExitCode {
    let is_help =
        !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if is_help {
        let _ = error.print();
        return ExitCode::from(if error.use_stderr() { ERROR } else { 0 });
    }
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n").map(|p| p.split_whitespace().collect::<Vec<_>>());
    let what = paragraphs.next().unwrap_or_default().join(" ");
    let tips = paragraphs.filter(|words| words.first() == Some(&"tip:"));
    let told = tips.fold(what, |told, tip| format!("{told}; {}", tip.join(" ")));
    eprintln!("sparsely: {}", told.strip_prefix("error: ").unwrap_or(&told));
    ExitCode::from(ERROR)
}

/// Runs the verb on a thread of the pool: from outside, each parallel operation would have to
/// hand its work over and sleep until it is done.
fn run(args: Args) -> Result<ExitCode> {
    let threads = args.threads.map_or(0, usize::from);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.context("cannot start the threads")?.install(|| dispatch(args.command))
}

fn dispatch(command: Command) -> Result<ExitCode> {
    match command {
        Command::Train(args) => commands::train::run(&args),
        Command::Superclasses(args) => commands::superclasses::run(&args),
        Command::Mobile(args) => commands::mobile::run(&args),
        Command::Eval(args) => commands::eval::run(&args),
        Command::Predict(args) => commands::predict::run(&args),
        Command::Score(args) => commands::score::run(&args),
        Command::Generate(args) => commands::generate::run(&args),
        Command::Logits(args) => commands::logits::run(&args),
        Command::Cost(args) => commands::cost::run(&args),
        Command::Import(args) => commands::import::run(&args.format),
        Command::Export(args) => commands::export::run(&args.format),
        Command::Bench(args) => commands::bench::run(&args),
        Command::Study(args) => commands::study::run(&args),
    }
}

/// The error with its causes, on a single line and without the control codes that a name in a
/// stranger's file may hold.
fn one_line(error: &anyhow::Error) -> String {
    let line = format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ");
    line.replace(char::is_control, "\u{fffd}")
}
