//! Studies of text: language models that are compared by bits per byte.
//!
//! Bits per byte and the logarithm of perplexity are one sum of losses over different counts, so that a
//! difference of the one is a difference of the other; bits per byte do not depend on the vocabulary, and
//! add up over pieces of a text. At 3.3 bytes a token 0.01 bits a byte are 2.3 % of perplexity.

mod found;
mod learned;
mod report;

pub use found::{Pieces, TextFound};

use self::learned::Learned;
use super::command_line::text_train_command;
use super::plot::CostAxis;
use super::size::scaled;
use super::statistics::Unit;
use super::{
    Arm, ArmResult, ArmRouting, Cell, Column, Fitted, Folder, Matched, Model, Rate, Results,
    SeedResult, Sizes, Study, Task, Tested, Validated, Words,
};
use crate::checkpoint::RunFolder;
use crate::cost::language::{TextCall, TextCost};
use crate::data::text::{Corpus, TextConfig};
use crate::eval::language::{LanguageEvalConfig, evaluate_blocks, evaluate_text};
use crate::eval::{ImageCost, Meter};
use crate::model::language::LanguageConfig;
use crate::train::language::{LanguageKind, LanguageRunConfig, resume, start};
use crate::train::{Observer, Outcome};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::f64::consts::LN_2;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// Runs become shorter in steps of this factor.
const STEP: f64 = 0.9;
/// Most tokens of a look at the validation text.
const QUICK_LOOK: usize = 1 << 16;
/// A training step takes about as long as so many forward passes.
const PASSES: usize = 3;

/// Text, whose next token models predict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {}

/// A language model has no dial: it is evaluated as it was trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoDial {}

/// The smallest sizes at which a study of text still answers its question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeastText {
    /// Steps of a run.
    pub steps: u64,
    /// Seeds, the first of the list.
    pub seeds: usize,
}

impl Text {
    /// How models are evaluated: the text as it is, in one row.
    fn eval_config() -> LanguageEvalConfig {
        LanguageEvalConfig { max_validation_tokens: Some(QUICK_LOOK), ..Default::default() }
    }
}

impl Task for Text {
    type Data = TextConfig;
    type Model = LanguageConfig;
    type Dial = NoDial;
    type Least = LeastText;
    type Run = LanguageRunConfig;
    /// Runs have their own tokens.
    type Held = ();
    type Learned = Learned;
    type Found = TextFound;
    type Scores = Pieces;

    const WORDS: Words = Words {
        data: "tokens",
        batch: "rows",
        units: "pieces",
        drawn: "pieces of the test text are drawn {} at a time",
        score: "bits per byte",
        heading: "bits/byte",
        axis: "bits per byte (lower is better)",
        keys: ["bits_per_byte", "bits_per_byte_over_seeds"],
        difference: ["bits/byte", "bits per byte (negative is better)", "bits_per_byte"],
        digits: 4,
        range: [0.0, f64::INFINITY],
        picture: ["bits", "bits per byte"],
        timed: "step",
    };
    const MATCHED: Matched = Matched::Parameters;
    const HAS_DIAL: bool = false;

    fn source(data: &TextConfig) -> &str {
        &data.source
    }

    fn source_mut(data: &mut TextConfig) -> &mut String {
        &mut data.source
    }

    fn is_embedded(source: &str) -> bool {
        source == TextConfig::default().source
    }

    fn least_seeds(least: &LeastText) -> usize {
        least.seeds
    }

    fn steps_per_epoch(model: &Model<Text>, sizes: &Sizes) -> u64 {
        let row = sizes.train / model.train.batch_size.max(1);
        (row / model.model.context.max(1)) as u64
    }

    fn problems(study: &Study<Text>, sizes: &Sizes) -> Vec<String> {
        let mut problems = Vec::new();
        for model in &study.models {
            let (name, steps) = (&model.name, model.steps(sizes));
            if steps < study.least.steps.max(1) {
                let least = study.least.steps.max(1);
                problems.push(format!("model `{name}` has {steps} steps, fewer than {least}"));
            }
            let first = study.models[0].model.context;
            if model.model.context != first {
                let got = model.model.context;
                problems.push(format!(
                    "models must see the same blocks, got {got} tokens in `{name}` and {first} before"
                ));
            }
            if model.super_classes.is_some() {
                problems.push(format!("model `{name}`: super-classes are of images"));
            }
            if model.train.batch_size != study.timing.batch_size {
                problems.push(format!(
                    "timing.batch_size {} is not that of the steps of `{name}`, {}",
                    study.timing.batch_size, model.train.batch_size
                ));
            }
        }
        if sizes.test == 0 {
            problems.push("there is no test text".into());
        }
        problems
    }

    fn training_cost(model: &LanguageConfig, batch: usize) -> Result<(f64, u64)> {
        let cost = TextCost::of(model, &TextCall::full(model, batch))?;
        Ok((cost.training_flops() as f64, cost.params()))
    }

    fn forward_cost(study: &Study<Text>, arm: &Arm<Text>) -> Result<[String; 2]> {
        let model = &study.model(&arm.model)?.model;
        let cost = TextCost::of(model, &TextCall::full(model, study.timing.batch_size))?;
        let per_token = cost.macs() as f64 / cost.tokens as f64;
        Ok([format!("{:8.3} MMAC/token", per_token / 1e6), "token".into()])
    }

    /// Shorter runs.
    fn smaller(whole: &Fitted<Text>) -> Vec<Fitted<Text>> {
        let longest = |form: &Fitted<Text>| {
            form.study.models.iter().map(|model| model.steps(&form.sizes)).max().unwrap_or(0)
        };
        let (full, least) = (longest(whole), whole.study.least.steps.max(1));
        let shares = std::iter::successors(Some(STEP), |share| Some(share * STEP));
        let steps = shares.map(|share| ((full as f64 * share) as u64).max(least));
        let mut lengths: Vec<u64> = steps.take_while(|steps| *steps > least).collect();
        lengths.push(least);
        lengths.retain(|steps| *steps < full);
        let forms = lengths.into_iter().map(|steps| {
            let mut form = whole.clone();
            for model in &mut form.study.models {
                model.train = scaled(&model.train, steps as f64 / full as f64);
            }
            form.shrunk.push(format!("{steps} of {full} steps"));
            form
        });
        forms.collect()
    }

    fn timed_units(study: &Study<Text>) -> usize {
        let context = study.models.first().map_or(0, |model| model.model.context);
        PASSES * (study.timing.rounds + 1) * study.timing.batch_size * context
    }

    fn look(study: &mut Study<Text>) -> Result<(Sizes, Rate)> {
        let folder = tempfile::tempdir().map_err(Error::io("create", &std::env::temp_dir()))?;
        let begin = Instant::now();
        let corpus = Corpus::prepare(&study.data, None, folder.path())?;
        let seconds_to_open = begin.elapsed().as_secs_f64();
        for model in &mut study.models {
            model.model.vocabulary = corpus.tokenizer.vocabulary();
        }
        let predicted = [&corpus.train, &corpus.validation, &corpus.test]
            .map(|tokens| tokens.len().saturating_sub(1));
        let [train, validation, test] = predicted;
        let sizes = Sizes { train, validation: validation.min(QUICK_LOOK), test };
        study.check(&sizes)?;
        Ok((sizes, learned::rate(study, &corpus, seconds_to_open)?))
    }

    fn run_config(study: &Study<Text>, model: &Model<Text>, seed: u64) -> LanguageRunConfig {
        LanguageRunConfig {
            kind: LanguageKind::Language,
            seed,
            data: study.data.clone(),
            model: model.model.clone(),
            train: model.train.clone(),
            eval: Text::eval_config(),
        }
    }

    fn validate(run: &LanguageRunConfig) -> Result<()> {
        run.validate()
    }

    fn read_config(folder: &RunFolder) -> Result<LanguageRunConfig> {
        LanguageRunConfig::from_toml(&folder.config()?, &folder.config_path())
    }

    fn start(
        config: LanguageRunConfig,
        path: &Path,
        root: &Path,
        stop: &AtomicBool,
        observer: &mut dyn Observer,
    ) -> Result<bool> {
        let outcome = start(config, Some(path), root, stop, observer)?;
        Ok(matches!(outcome, Outcome::Finished(_)))
    }

    fn resume(path: &Path, stop: &AtomicBool, observer: &mut dyn Observer) -> Result<bool> {
        Ok(matches!(resume(path, stop, observer)?, Outcome::Finished(_)))
    }

    fn load(path: &Path) -> Result<Learned> {
        Learned::load(path)
    }

    fn hold(_study: &Study<Text>, _seed: u64) -> Result<()> {
        Ok(())
    }

    fn validated(learned: &Learned, run: &LanguageRunConfig) -> Result<Validated> {
        let Learned { model, params, corpus, .. } = learned;
        let limit = run.eval.max_validation_tokens;
        let found = evaluate_text((model, params), &corpus.validation, limit, &run.eval)?;
        Ok(Validated { top1: None, loss: found.loss })
    }

    fn read(
        study: &Study<Text>,
        _folder: &Folder,
        _arm: (&Arm<Text>, u64),
        learned: &Learned,
        _held: &(),
    ) -> Result<Tested<Text>> {
        let Learned { config, saved, model, params, corpus } = learned;
        let (found, blocks) = evaluate_blocks((model, params), &corpus.test, None, &config.eval)?;
        Ok(Tested {
            step: saved.step,
            loss: found.loss,
            found: TextFound::of(&config.model, study.timing.batch_size, &found)?,
            scores: Pieces::of(&blocks, &corpus.test, &corpus.tokenizer),
        })
    }

    fn measure(
        study: &Study<Text>,
        learned: &BTreeMap<&str, Learned>,
        _held: &(),
        meter: &Meter,
    ) -> Result<Vec<ImageCost>> {
        learned::steps_in_turn(study, learned, meter)
    }

    /// Bits and bytes of each piece.
    fn units(Pieces { bytes, nats, .. }: &Pieces) -> Vec<Unit> {
        let pieces = nats.iter().zip(bytes);
        pieces.map(|(nats, bytes)| Unit { sum: nats / LN_2, count: *bytes as f64 }).collect()
    }

    fn tested(scores: &Pieces) -> usize {
        scores.tokens.iter().sum::<u64>() as usize
    }

    fn units_together(_study: &Study<Text>, _arms: [&Arm<Text>; 2]) -> Result<usize> {
        Ok(1)
    }

    fn mean(of_seeds: &[&TextFound]) -> TextFound {
        TextFound::mean(of_seeds)
    }

    fn routing(_study: &Study<Text>, _arm: &Arm<Text>) -> Result<Option<ArmRouting>> {
        Ok(None)
    }

    fn cells(seed: &SeedResult<Text>) -> Vec<Cell> {
        report::cells(&seed.found)
    }

    fn columns() -> Vec<Column<Text>> {
        report::COLUMNS.to_vec()
    }

    fn axes() -> Vec<CostAxis<Text>> {
        report::axes().into()
    }

    fn timing(study: &Study<Text>, threads: &str) -> String {
        format!(
            "Time: of a training step, median over {} rounds in which all arms took turns on the same blocks of \
             {} rows, {threads} threads.",
            study.timing.rounds, study.timing.batch_size
        )
    }

    fn sections(results: &Results<Text>) -> String {
        report::sections(results)
    }

    fn train_command(run: &LanguageRunConfig, out: &Path) -> Result<String> {
        text_train_command(run, out)
    }

    fn eval_flags(_study: &Study<Text>, _arm: &ArmResult<Text>) -> Vec<String> {
        Vec::new()
    }
}
