//! `train` and `eval` of language models, and what their other verbs share.

use super::train::{ROOT, stop_on_signals, tell_stop};
use crate::args::{EvalArgs, PrecisionArgs, SplitArg, TrainArgs};
use crate::progress::Progress;
use crate::table::{cells, say_aligned};
use anyhow::{Result, bail};
use serde_json::json;
use sparsely::checkpoint::{RunFolder, write_atomic};
use sparsely::config::overlay::apply_set;
use sparsely::data::text::{Corpus, TextConfig, TextSplit, TokenKind, Tokenizer};
use sparsely::eval::language::{
    HeadUsage, PartLoad, SavedLanguageModel, TextEvaluation, evaluate_usage, usage_csv,
};
use sparsely::model::language::LanguageModel;
use sparsely::train::Outcome;
use sparsely::train::language::{LanguageRunConfig, is_language, language_preset, resume, start};
use sparsely_tensor::Slab;
use std::path::Path;
use std::process::ExitCode;

/// A run on text whose model is used.
pub(crate) struct TrainedLanguage {
    pub(crate) folder: RunFolder,
    pub(crate) config: LanguageRunConfig,
    pub(crate) saved: SavedLanguageModel,
    pub(crate) model: LanguageModel,
    pub(crate) params: Slab,
    pub(crate) tokenizer: Tokenizer,
}

impl TrainedLanguage {
    pub(crate) fn load(path: &Path, precision: &PrecisionArgs) -> Result<TrainedLanguage> {
        let folder = RunFolder::open(path)?;
        let config = LanguageRunConfig::from_toml(&folder.config()?, &folder.config_path())?;
        let (saved, model, params) = SavedLanguageModel::load(&folder)?;
        let model = model.with_precision(precision.or(saved.model.precision));
        let tokenizer = Corpus::tokenizer(&config.data, folder.path())?;
        saved.check_tokenizer(&tokenizer, &folder)?;
        Ok(TrainedLanguage { folder, config, saved, model, params, tokenizer })
    }
}

/// Whether the folder holds a run on text.
pub(crate) fn is_language_run(path: &Path) -> Result<bool> {
    let folder = RunFolder::open(path)?;
    Ok(is_language(&folder.config()?))
}

/// Begins a run, or goes on with one.
pub(super) fn train(args: &TrainArgs) -> Result<ExitCode> {
    let stop = stop_on_signals()?;
    let mut progress = Progress::new();
    let outcome = match &args.resume {
        Some(folder) => resume(folder, &stop, &mut progress),
        None => {
            let (out, root) = (args.out.as_deref(), Path::new(ROOT));
            start(configure(args)?, out, root, &stop, &mut progress)
        }
    };
    progress.clear();
    match outcome? {
        Outcome::Finished(test) => {
            print("test", &test);
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Stopped { step } => Ok(tell_stop(step, &progress)),
    }
}

fn configure(args: &TrainArgs) -> Result<LanguageRunConfig> {
    if args.superclasses.is_some() {
        bail!("--superclasses are of images, `{}` is a language model", args.preset);
    }
    let mut base = language_preset(&args.preset).expect("whoever calls has asked");
    if let Some(data) = &args.data {
        base.data.source.clone_from(data);
    }
    if let Some(seed) = args.seed {
        base.seed = seed;
    }
    base.model.precision = args.precision.or(base.model.precision);
    let config = apply_set(&base, &args.sets)?;
    if config.model.vocabulary != base.model.vocabulary {
        bail!("model.vocabulary cannot be set: it is the tokenizer's (set data.tokenizer)");
    }
    Ok(config)
}

pub(super) fn eval(args: &EvalArgs) -> Result<ExitCode> {
    if !args.dial.is_empty() || args.sweep.sweep {
        bail!("routing flags and --sweep are for models of images");
    }
    let mut trained = TrainedLanguage::load(&args.run, &args.precision)?;
    if let Some(batch) = args.batch {
        trained.config.eval.batch_size = batch.get();
    }
    let TrainedLanguage { folder, config, saved, model, params, tokenizer } = trained;
    let other = tempfile::tempdir()?;
    let kinds = tokenizer.kinds();
    let corpus = match &args.data {
        None => Corpus::open(&config.data, folder.path())?,
        Some(source) => whole(source, &config.data, tokenizer, other.path())?,
    };
    let split = match args.split {
        Some(SplitArg::Train) => TextSplit::Train,
        Some(SplitArg::Validation) => TextSplit::Validation,
        None if corpus.test.is_empty() && args.data.is_some() => TextSplit::Train,
        Some(SplitArg::Test) | None => TextSplit::Test,
    };
    let tokens = corpus.split(split);
    if tokens.is_empty() {
        bail!("there is no {} text: name another --split, or a text by --data", split.name());
    }
    let (evaluation, usage) = evaluate_usage((&model, &params), tokens, &kinds, &config.eval)?;
    if let Some(path) = &args.usage {
        if usage.is_empty() {
            bail!("--usage: attention has no experts in this model");
        }
        let table = usage_csv(&usage)?;
        write_atomic(path, |file| file.write_all(table.as_bytes()))?;
    }
    if args.json {
        let mut line = json!({ "split": split.name(), "step": saved.step, "usage": usage });
        let fields = serde_json::to_value(&evaluation)?;
        line.as_object_mut()
            .expect("an object")
            .extend(fields.as_object().cloned().unwrap_or_default());
        say!("{line}");
        return Ok(ExitCode::SUCCESS);
    }
    evaluation.routers.iter().for_each(print_load);
    print_usage(&usage);
    say!("{:.0} tokens/s", evaluation.tokens_per_second);
    print(split.name(), &evaluation);
    Ok(ExitCode::SUCCESS)
}

/// Another text, of which nothing was learned from: all that is not published as something else counts.
fn whole(source: &str, own: &TextConfig, tokenizer: Tokenizer, folder: &Path) -> Result<Corpus> {
    let whole = TextConfig {
        source: source.to_string(),
        validation_fraction: 0.0,
        test_fraction: 0.0,
        ..own.clone()
    };
    Ok(Corpus::prepare(&whole, Some(tokenizer), folder)?)
}

/// Each measure with what it is a mean over.
fn print(name: &str, evaluation: &TextEvaluation) {
    let TextEvaluation { tokens, loss, perplexity, .. } = evaluation;
    if *tokens == 0 {
        say!("no {name} text (n=0 tokens)");
        return;
    }
    if let (Some(perplexity), Some(words)) = (evaluation.word_perplexity, evaluation.words) {
        say!("{name} perplexity {perplexity:.1} a word between white space (n={words} words)");
    }
    if let (Some(bits), Some(bytes)) = (evaluation.bits_per_byte, evaluation.bytes) {
        say!("{name} {bits:.4} bits/byte (n={bytes} bytes)");
    }
    say!("{name} perplexity {perplexity:.3} a token, loss {loss:.4} (n={tokens} tokens)");
}

fn print_load(router: &PartLoad) {
    let entropy = router.entropy.map_or(String::new(), |nats| format!(" entropy {nats:.2},"));
    say!(
        "block {} {}: imbalance {:.2},{entropy} load {:?}",
        router.block,
        router.side,
        router.imbalance,
        router.asked
    );
}

/// A line for each head, a column for each kind of tokens that the text has.
fn print_usage(heads: &[HeadUsage]) {
    let Some(first) = heads.first() else { return };
    let is_there = |kind: &TokenKind| first.kinds[*kind as usize].tokens > 0;
    let kinds: Vec<TokenKind> = TokenKind::ALL.into_iter().filter(is_there).collect();
    let mut rows = vec![cells(["head"])];
    let titles = kinds.iter().map(|kind| (kind.name(), first.kinds[*kind as usize].tokens));
    rows[0].extend(titles.map(|(name, tokens)| format!("{name} (n={tokens})")));
    for head in heads {
        let mut row = vec![format!("block {} {} {}", head.block, head.side, head.head)];
        row.extend(kinds.iter().map(|kind| {
            let shares = head.kinds[*kind as usize].shares().unwrap_or_default();
            let percent = shares.iter().map(|share| format!("{:3.0}", 100.0 * share));
            percent.collect::<Vec<_>>().join(" ")
        }));
        rows.push(row);
    }
    say!("tokens that go to each expert of a head, in % of the tokens of a kind:");
    say_aligned(&rows);
}
