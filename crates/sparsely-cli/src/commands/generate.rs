//! `sparsely generate`: text that a language model writes, as it is written.

use super::language::TrainedLanguage;
use crate::args::GenerateArgs;
use anyhow::Result;
use sparsely::eval::language::{Ending, Generation, Sampling, generate};
use std::io::Write as _;
use std::process::ExitCode;

pub(crate) fn run(args: &GenerateArgs) -> Result<ExitCode> {
    let asked = Generation {
        prompt: args.prompt.clone(),
        sampling: Sampling { temperature: args.temperature, top_p: args.top_p, seed: args.seed },
        max_tokens: args.max_tokens,
        stops: args.stops.clone(),
    };
    asked.sampling.validate()?;
    let TrainedLanguage { model, params, tokenizer, .. } =
        TrainedLanguage::load(&args.run, &args.precision)?;
    let mut out = std::io::stdout();
    let written = generate((&model, &params), &tokenizer, &asked, &mut |text| {
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    })?;
    say!();
    let ending = match written.ending {
        Ending::Length => "",
        Ending::EndOfText => "; the model ended the text",
        Ending::Stop => "; a stop text came",
        Ending::Context => "; the context is full",
    };
    eprintln!(
        "{} tokens in {:.2} s, {:.0} tokens/s, after a prompt of {} in {:.2} s{ending}",
        written.tokens,
        written.seconds,
        written.tokens as f64 / written.seconds.max(1e-9),
        written.prompt_tokens,
        written.prompt_seconds
    );
    Ok(ExitCode::SUCCESS)
}
