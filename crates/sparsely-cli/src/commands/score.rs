//! `sparsely score`: which of several texts a language model finds likelier.

use super::language::TrainedLanguage;
use crate::args::ScoreArgs;
use crate::progress::Steps;
use anyhow::Result;
use serde_json::json;
use sparsely::eval::language::{Accuracy, read_items, score};
use std::process::ExitCode;

pub(crate) fn run(args: &ScoreArgs) -> Result<ExitCode> {
    let TrainedLanguage { model, params, tokenizer, .. } =
        TrainedLanguage::load(&args.run, &args.precision)?;
    let items = read_items(&args.pairs)?;
    let steps = Steps::new(items.len() as u64);
    let scored = score((&model, &params), &tokenizer, &items, &mut |done| {
        steps.at(done as u64, "questions");
    });
    steps.clear();
    let scores = scored?;
    if args.each {
        for (index, item) in scores.items.iter().enumerate() {
            let mut line = json!(item);
            line["question"] = index.into();
            say!("{line}");
        }
    }
    if args.json {
        say!("{}", json!(scores));
        return Ok(ExitCode::SUCCESS);
    }
    for (name, accuracy) in [("pairs", scores.pairs), ("cloze", scores.cloze)] {
        if let Some(Accuracy { n, share, interval: [low, high], .. }) = accuracy {
            let [share, low, high] = [share, low, high].map(|share| 100.0 * share);
            say!("{name} {share:.1} % right, 95 % interval {low:.1} to {high:.1} % (n={n})");
        }
    }
    Ok(ExitCode::SUCCESS)
}
