//! `sparsely bench decode`: token after token of a language model, beside what memory can be read at.

use super::speed::median;
use crate::args::BenchArgs;
use anyhow::{Result, bail};
use serde_json::json;
use sparsely::model::language::{LanguageModel, Tokens};
use sparsely::nn::Precision;
use sparsely::train::language::language_preset;
use sparsely_tensor::measure::read_bandwidth;
use sparsely_tensor::{Pool, Tape, macs};
use std::process::ExitCode;
use std::time::Instant;

/// Presets whose weights no cache holds.
const MODELS: [&str; 3] = ["xl-c4-262m", "switchhead-c4-262m", "switchall-259m"];
/// Tokens that are read before the clock starts.
const PROMPT: usize = 128;

pub(super) fn run(args: &BenchArgs) -> Result<ExitCode> {
    let names = match &args.model {
        Some(name) => vec![name.as_str()],
        None => MODELS.to_vec(),
    };
    for name in names {
        measure(name, args)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(name: &str, args: &BenchArgs) -> Result<()> {
    let Some(mut config) = language_preset(name) else {
        bail!("there is no language model `{name}` to measure; docs/language.md lists them");
    };
    let precision = args.precision.or(Precision::F32);
    config.model.precision = precision;
    let (model, params) = LanguageModel::init(&config.model, 0)?;
    let (pool, mut cache) = (Pool::new(), model.cache(1)?);
    let mut read = |tokens: &[u32]| -> Result<()> {
        let tape = Tape::inference(&params, &pool);
        model.step(&tape, Tokens::one(tokens), &mut cache)?;
        Ok(())
    };
    // Tokens that are not the same, as in a text.
    let token = |i: usize| (i * 7919 % config.model.vocabulary) as u32;
    let prompt: Vec<u32> = (0..PROMPT).map(token).collect();
    read(&prompt)?;
    let (mut seconds, before) = (Vec::new(), macs());
    for step in 0..args.steps.get() {
        let begin = Instant::now();
        read(&[token(PROMPT + step)])?;
        seconds.push(begin.elapsed().as_secs_f64());
    }
    // With one token each factor from memory is multiplied once: a weight, a key or a value.
    let bytes = 4.0 * (macs() - before) as f64 / args.steps.get() as f64;
    let (seconds, bandwidth) = (median(seconds), read_bandwidth());
    let share = bytes / seconds / bandwidth;
    let threads = rayon::current_num_threads();
    if args.json {
        let line = json!({
            "model": name, "precision": precision, "threads": threads, "tokens_per_second": 1.0 / seconds,
            "bytes_per_token": bytes, "bandwidth": bandwidth, "share_of_bandwidth": share,
        });
        say!("{line}");
        return Ok(());
    }
    say!(
        "{name}: {:.1} tokens/s, {:.0} MB a token, {:.1} GB/s, {:.0} % of {:.1} ({precision}, {threads} threads)",
        1.0 / seconds,
        bytes / 1e6,
        bytes / seconds / 1e9,
        100.0 * share,
        bandwidth / 1e9
    );
    Ok(())
}
