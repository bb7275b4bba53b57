//! Language models that have learned, and what a step of theirs takes.

use super::Text;
use crate::Result;
use crate::checkpoint::RunFolder;
use crate::data::text::{Corpus, Streams};
use crate::eval::language::{SavedLanguageModel, evaluate_text};
use crate::eval::{ImageCost, Meter, in_turn};
use crate::model::language::LanguageModel;
use crate::study::rate::{now, time_models, time_steps};
use crate::study::{Rate, Study};
use crate::train::language::{LanguageRunConfig, LanguageTrainer};
use sparsely_tensor::Slab;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// Blocks of text that an arm reads when the machine is measured.
const BLOCKS: usize = 4;

/// What came out of a run.
pub struct Learned {
    pub(super) config: LanguageRunConfig,
    pub(super) saved: SavedLanguageModel,
    pub(super) model: LanguageModel,
    pub(super) params: Slab,
    pub(super) corpus: Corpus,
}

impl Learned {
    /// From the folder of a run that has finished.
    ///
    /// # Errors
    /// If it is missing or damaged.
    pub(super) fn load(path: &Path) -> Result<Learned> {
        let run = RunFolder::open(path)?;
        let config = LanguageRunConfig::from_toml(&run.config()?, &run.config_path())?;
        let (saved, model, params) = SavedLanguageModel::load(&run)?;
        let corpus = Corpus::open(&config.data, path)?;
        saved.check_tokenizer(&corpus.tokenizer, &run)?;
        Ok(Learned { config, saved, model, params, corpus })
    }

    /// The same, learning on.
    fn trainer(&self) -> Result<LanguageTrainer> {
        let (model, _) = LanguageModel::new(&self.config.model)?;
        let train = self.config.train.clone();
        Ok(LanguageTrainer::new((model, self.params.clone()), train, self.config.seed, u64::MAX))
    }
}

/// How fast fresh models are.
///
/// # Errors
/// If a model cannot be trained or evaluated.
pub(super) fn rate(study: &Study<Text>, corpus: &Corpus, seconds_to_open: f64) -> Result<Rate> {
    let timed = time_models(study, |model| {
        let streams = Streams::new(&corpus.train, model.train.batch_size, model.model.context)?;
        let fresh = LanguageModel::init(&model.model, 0)?;
        let mut trainer = LanguageTrainer::new(fresh, model.train.clone(), 0, u64::MAX);
        let seconds = time_steps(|index| {
            let block = streams.block_at(&corpus.train, index);
            let begin = Instant::now();
            trainer.step(index, &block)?;
            Ok(begin)
        })?;
        Ok((seconds, trainer))
    })?;
    let mut seconds_per_unit = BTreeMap::new();
    for arm in &study.arms {
        let LanguageTrainer { model, learner, .. } = &timed[&arm.model].1;
        let limit = Some(BLOCKS * model.config().context);
        let config = Text::eval_config();
        let found = evaluate_text((model, &learner.params), &corpus.train, limit, &config)?;
        seconds_per_unit.insert(arm.name.clone(), 1.0 / found.tokens_per_second);
    }
    Ok(Rate {
        date: now(),
        threads: rayon::current_num_threads(),
        seconds_per_step: timed
            .iter()
            .map(|(name, (seconds, _))| (name.clone(), *seconds))
            .collect(),
        seconds_per_unit,
        seconds_to_open,
    })
}

/// Seconds and joules of a training step of each arm, in turn on the same blocks of text.
///
/// # Errors
/// If a step fails.
pub(super) fn steps_in_turn(
    study: &Study<Text>,
    learned: &BTreeMap<&str, Learned>,
    meter: &Meter,
) -> Result<Vec<ImageCost>> {
    let arms: Vec<&Learned> = study.arms.iter().map(|arm| &learned[arm.model.as_str()]).collect();
    let mut trainers = arms.iter().map(|arm| arm.trainer()).collect::<Result<Vec<_>>>()?;
    let streams = arms.iter().map(|Learned { config, corpus, .. }| {
        Streams::new(&corpus.train, config.train.batch_size, config.model.context)
    });
    let streams = streams.collect::<Result<Vec<_>>>()?;
    in_turn(arms.len(), study.timing.rounds, |which, round| {
        // The first block has no memory, and does not count.
        let block = streams[which].block_at(&arms[which].corpus.train, round as u64);
        let (mark, begin) = (meter.mark()?, Instant::now());
        trainers[which].step(round as u64, &block)?;
        let seconds = begin.elapsed().as_secs_f64();
        Ok([seconds, meter.joules_since(&mark)?])
    })
}
