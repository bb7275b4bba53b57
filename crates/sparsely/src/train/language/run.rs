//! A whole run on text: tokens, steps, memory, validation, the final evaluation.

use super::{LanguageRunConfig, LanguageTrainer};
use crate::checkpoint::{ArrayRef, RunFolder, State};
use crate::data::text::{Block, Corpus, Streams, TOKENIZER_FILE, TOKENS_FOLDER};
use crate::eval::language::{SavedLanguageModel, TextEvaluation, evaluate_text};
use crate::model::language::{LanguageModel, Memory};
use crate::moe::RouterStats;
use crate::train::run::{Run, machine_memory};
use crate::train::task::{Beginning, Task};
use crate::train::{Learner, Observer, Outcome, StepReport, TrainConfig};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What the raw inputs of a block are called in a saved state, before the block's index.
const MEMORY: &str = "memory/";
/// And what its routers read beside them.
const CONTEXT: &str = "context/";
/// Bytes of a parameter in training: itself, its gradient and two moments.
const PARAM_BYTES: u64 = 16;

/// Begins a run in a folder of its own: `out`, or the next number in `root`.
///
/// Settings, text and model are checked before the folder is made.
///
/// # Errors
/// If a setting, the text or the folder cannot be used.
pub fn start(
    mut config: LanguageRunConfig,
    out: Option<&Path>,
    root: &Path,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Outcome<TextEvaluation>> {
    config.validate()?;
    let prepared = temporary_beside(out, root)?;
    let corpus = Corpus::prepare(&config.data, None, prepared.path())?;
    config.model.vocabulary = corpus.tokenizer.vocabulary();
    config.validate()?;
    check_memory(&config)?;
    Streams::new(&corpus.train, config.train.batch_size, config.model.context)?;
    drop(corpus);
    let folder = RunFolder::create(out, root)?;
    for name in [TOKENIZER_FILE, TOKENS_FOLDER] {
        let (from, to) = (prepared.path().join(name), folder.path().join(name));
        if from.exists() {
            std::fs::rename(from, &to).map_err(Error::io("write", &to))?;
        }
    }
    folder.save_config(&config.to_toml()?)?;
    let corpus = Corpus::open(&config.data, folder.path())?;
    Run::new(Text::new(config, corpus)?).train(&folder, None, (stop, observer))
}

/// Goes on with a run from its last checkpoint, or from its beginning if it has none.
///
/// # Errors
/// If the folder does not hold a run on text, or its checkpoint or tokens are damaged.
pub fn resume(
    path: &Path,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Outcome<TextEvaluation>> {
    let folder = RunFolder::open(path)?;
    let config = LanguageRunConfig::from_toml(&folder.config()?, &folder.config_path())?;
    config.validate()?;
    let corpus = Corpus::open(&config.data, folder.path())?;
    let (known, given) = (config.model.vocabulary, corpus.tokenizer.vocabulary());
    if known != given {
        return Err(Error::format(
            path,
            format!("the tokenizer that the run began with, of {known} tokens"),
            format!("another one, of {given} tokens"),
        ));
    }
    let state = folder.load_state()?;
    Run::new(Text::new(config, corpus)?).train(&folder, state, (stop, observer))
}

/// A folder for what is made before the run's own, on the same disk.
fn temporary_beside(out: Option<&Path>, root: &Path) -> Result<tempfile::TempDir> {
    let place = std::path::absolute(out.unwrap_or(root)).map_err(Error::io("read", root))?;
    let mut parents = place.ancestors().skip(usize::from(out.is_some()));
    let parent = parents.find(|parent| parent.is_dir()).unwrap_or(Path::new("."));
    let folder = tempfile::Builder::new().prefix(".text.").suffix(".tmp").tempdir_in(parent);
    folder.map_err(Error::io("write", parent))
}

/// Refuses parameters that the machine's memory cannot hold, where the system tells how much there is.
fn check_memory(config: &LanguageRunConfig) -> Result<()> {
    let layout = LanguageModel::layout(&config.model)?;
    let params = layout.views().iter().map(|view| view.param.shape().len() as u64).sum::<u64>();
    match machine_memory() {
        Some(memory) if PARAM_BYTES * params > memory => Err(Error::Argument {
            op: "train",
            expected: format!("what {:.1} GB of memory can hold", memory as f64 / 1e9),
            got: format!(
                "{params} parameters, which need {:.1} GB without activations",
                (PARAM_BYTES * params) as f64 / 1e9
            ),
        }),
        _ => Ok(()),
    }
}

/// The best model so far, by validation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Best {
    loss: f64,
    step: u64,
}

/// A language model that learns from a text.
struct Text {
    config: LanguageRunConfig,
    corpus: Arc<Corpus>,
    streams: Streams,
    trainer: LanguageTrainer,
}

impl Text {
    fn new(config: LanguageRunConfig, corpus: Corpus) -> Result<Text> {
        let streams = Streams::new(&corpus.train, config.train.batch_size, config.model.context)?;
        let total_steps = config.train.length.steps(streams.steps_per_epoch());
        let model = LanguageModel::init(&config.model, config.seed)?;
        let trainer = LanguageTrainer::new(model, config.train.clone(), config.seed, total_steps);
        Ok(Text { config, corpus: Arc::new(corpus), streams, trainer })
    }

    fn step_tokens(&self) -> usize {
        self.config.train.batch_size * self.config.model.context
    }
}

impl Task for Text {
    type Batch = Block;
    type Evaluation = TextEvaluation;
    type Best = Best;

    fn train(&self) -> &TrainConfig {
        &self.config.train
    }

    fn learner(&self) -> &Learner {
        &self.trainer.learner
    }

    fn learner_mut(&mut self) -> &mut Learner {
        &mut self.trainer.learner
    }

    fn steps_per_epoch(&self) -> u64 {
        self.streams.steps_per_epoch()
    }

    fn beginning(&self) -> Beginning {
        let params = self.trainer.learner.params.values().len();
        Beginning {
            data: format!("{}, {params} parameters", self.corpus.describe()),
            notice: None,
            step_size: self.step_tokens(),
            unit: "tokens",
        }
    }

    fn batches(&self, from: u64, to: u64) -> Box<dyn Iterator<Item = Result<Block>>> {
        let (streams, corpus) = (self.streams, self.corpus.clone());
        Box::new((from..to).map(move |step| Ok(streams.block_at(&corpus.train, step))))
    }

    fn step(&mut self, step: u64, block: &Block) -> Result<StepReport> {
        self.trainer.step(step, block)
    }

    fn line(&self, report: &StepReport, seconds: f64) -> Value {
        json!({
            "loss": report.loss, "task_loss": report.task_loss, "lr": report.lr,
            "grad_norm": report.grad_norm,
            "tokens_per_second": self.step_tokens() as f64 / seconds,
            "imbalance": report.mean(RouterStats::imbalance),
            "router_entropy": report.mean(RouterStats::entropy).filter(|mean| *mean > 0.0),
            "dropped_share": report.mean(RouterStats::dropped_share),
        })
    }

    fn validate(&self) -> Result<TextEvaluation> {
        let LanguageTrainer { model, learner, .. } = &self.trainer;
        let eval = &self.config.eval;
        let limit = eval.max_validation_tokens;
        evaluate_text((model, &learner.params), &self.corpus.validation, limit, eval)
    }

    fn best(&self, evaluation: &TextEvaluation, step: u64) -> Best {
        Best { loss: evaluation.loss, step }
    }

    /// Without validation text the last model is as good as any.
    fn is_best(&self, evaluation: &TextEvaluation, now: &Best, best: Option<&Best>) -> bool {
        evaluation.tokens == 0 || best.is_none_or(|best| now.loss < best.loss)
    }

    fn validation_line(&self, evaluation: &TextEvaluation, is_best: bool) -> Value {
        json!({
            "validation_loss": evaluation.loss, "validation_perplexity": evaluation.perplexity,
            "validation_bits_per_byte": evaluation.bits_per_byte,
            "validation_tokens": evaluation.tokens, "best": is_best,
        })
    }

    fn summary(&self, evaluation: &TextEvaluation) -> String {
        let bits = evaluation.bits_per_byte;
        let bits = bits.map_or(String::new(), |bits| format!("  {bits:.3} bits/byte"));
        format!("loss {:.4}  perplexity {:.2}{bits}", evaluation.loss, evaluation.perplexity)
    }

    fn save_model(&self, step: u64, folder: &RunFolder) -> Result<()> {
        let (model, tokenizer) = (self.config.model.clone(), self.corpus.tokenizer.fingerprint());
        let saved = SavedLanguageModel { model, tokenizer, step };
        saved.save(folder, &self.trainer.learner.params)
    }

    fn finish(&self, folder: &RunFolder) -> Result<(TextEvaluation, Value)> {
        let (saved, model, params) = SavedLanguageModel::load(folder)?;
        let test = &self.corpus.test;
        let evaluation = evaluate_text((&model, &params), test, None, &self.config.eval)?;
        let line = json!({
            "best_step": saved.step, "test_loss": evaluation.loss,
            "test_perplexity": evaluation.perplexity, "test_tokens": evaluation.tokens,
            "test_bits_per_byte": evaluation.bits_per_byte, "test_bytes": evaluation.bytes,
            "test_word_perplexity": evaluation.word_perplexity, "test_words": evaluation.words,
        });
        Ok((evaluation, line))
    }

    fn with_carried(&self, save: &mut dyn FnMut(&[ArrayRef<'_>]) -> Result<()>) -> Result<()> {
        let Some(memory) = &self.trainer.memory else { return save(&[]) };
        let shape = [memory.batch, memory.length, self.config.model.width];
        let named = |prefix: &str, all: &[Vec<f32>]| -> Vec<(String, usize)> {
            let filled = (0..all.len()).filter(|block| !all[*block].is_empty());
            filled.map(|block| (format!("{prefix}{block}"), block)).collect()
        };
        let inputs = named(MEMORY, &memory.inputs);
        let contexts = named(CONTEXT, &memory.contexts);
        let values = inputs.iter().map(|(name, block)| (name, &memory.inputs[*block]));
        let values = values.chain(contexts.iter().map(|(name, i)| (name, &memory.contexts[*i])));
        let arrays: Vec<ArrayRef<'_>> =
            values.map(|(name, values)| ArrayRef { name, shape: &shape, values }).collect();
        save(&arrays)
    }

    fn restore_carried(&mut self, state: &State) -> std::result::Result<(), String> {
        let model = &self.config.model;
        let is_first = state.step.is_multiple_of(self.streams.steps_per_epoch());
        if model.memory == 0 || is_first {
            return Ok(());
        }
        let (batch, mut length) = (self.config.train.batch_size, 0);
        let mut read = |prefix: &str, block: usize| {
            let name = format!("{prefix}{block}");
            let array = state.arrays.get(&name).ok_or_else(|| format!("none of `{name}`"))?;
            match array.shape[..] {
                [b, m, d] if b == batch && d == model.width && m <= model.memory => length = m,
                _ => return Err(format!("`{name}` of shape {:?}", array.shape)),
            }
            Ok(array.values.clone())
        };
        let (mut inputs, mut contexts) = (Vec::new(), Vec::new());
        for (block, reads_context) in model.blocks_that_read_contexts().into_iter().enumerate() {
            inputs.push(read(MEMORY, block)?);
            contexts.push(if reads_context { read(CONTEXT, block)? } else { Vec::new() });
        }
        self.trainer.memory = Some(Memory { inputs, contexts, batch, length });
        Ok(())
    }
}
