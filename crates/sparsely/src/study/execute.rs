//! Trains, evaluates and measures what a plan still lacks. Every finished piece is on disk, so a
//! study that was stopped or killed goes on with the piece that it was at.

use super::rate::now;
use super::reading::{Weights, as_digits, flops_per_image};
use super::side_by_side::side_by_side;
use super::taught::{Sources, teach};
use super::{Arm, Folder, Model, Plan, Reading, SeedCosts, SuperClasses, Trial};
use crate::checkpoint::RunFolder;
use crate::data::Dataset;
use crate::eval::{EvalConfig, Meter, SavedModel, Subject, cost_in_turn, evaluate};
use crate::model::Vit;
use crate::superclass::{SuperClassFile, groups_of};
use crate::train::{self, RunConfig};
use crate::{Error, Result};
use sparsely_tensor::PackedSlab;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Whom a study tells what it does. Runs beside one another tell it from threads of their own.
pub trait Observer: Sync {
    /// Before each piece of work.
    fn stage(&self, _stage: &Stage<'_>) {}
    /// Whom the run of a stage tells what it does.
    fn run(&self, stage: &Stage<'_>) -> Box<dyn train::Observer + '_>;
}

/// A piece of work.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stage<'a> {
    /// A run that tries a learning rate.
    Trial {
        /// The model's name.
        model: &'a str,
        /// The rate.
        lr_peak: f64,
    },
    /// A run.
    Training {
        /// The model's name.
        model: &'a str,
        /// Its seed.
        seed: u64,
    },
    /// An arm on the test images.
    Evaluating {
        /// The arm's name.
        arm: &'a str,
        /// Its model's seed.
        seed: u64,
    },
    /// All arms in turn, for time and energy.
    Measuring {
        /// The models' seed.
        seed: u64,
    },
}

/// Does what is not done yet, runs beside one another; false if it was stopped before the end.
///
/// # Errors
/// If a run, the data or the folder cannot be used; `stop` is set then.
pub fn execute(
    plan: &Plan,
    folder: &Folder,
    program: &str,
    stop: &AtomicBool,
    observer: &dyn Observer,
) -> Result<bool> {
    let work = Work { plan, folder, program, stop, observer };
    let Some(lr_peaks) = work.tune()? else { return Ok(false) };
    for seed in &plan.study.seeds {
        if !work.seed(*seed, &lr_peaks)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What came out of a run.
struct Learned {
    seed: u64,
    lr_peak: f64,
    description: SavedModel,
    model: Vit,
    params: PackedSlab,
}

struct Work<'a> {
    plan: &'a Plan,
    folder: &'a Folder,
    program: &'a str,
    stop: &'a AtomicBool,
    observer: &'a dyn Observer,
}

impl Work<'_> {
    /// The learning rate of each model; `None` if it was stopped.
    fn tune(&self) -> Result<Option<BTreeMap<String, f64>>> {
        let study = &self.plan.study;
        let configs: Vec<_> = study
            .models
            .iter()
            .flat_map(|model| study.trial_configs(model).into_iter().map(move |c| (model, c)))
            .collect();
        let trials = Mutex::new(BTreeMap::<_, Vec<Trial>>::new());
        let is_done = side_by_side(&vec![None; configs.len()], self.stop, |index| {
            let (model, config) = &configs[index];
            let Some(trial) = self.trial(model, config)? else { return Ok(false) };
            let mut trials = trials.lock().unwrap_or_else(PoisonError::into_inner);
            trials.entry(&model.name).or_default().push(trial);
            Ok(true)
        })?;
        if !is_done {
            return Ok(None);
        }
        let trials = trials.into_inner().unwrap_or_else(PoisonError::into_inner);
        let chosen = study.models.iter().map(|model| {
            let best = trials.get(&model.name).and_then(|trials| Trial::best(trials));
            let lr_peak = best.map_or(model.train.schedule.lr_peak, |best| best.lr_peak);
            (model.name.clone(), lr_peak)
        });
        Ok(Some(chosen.collect()))
    }

    /// What a learning rate gives; `None` if it was stopped.
    fn trial(&self, model: &Model, config: &RunConfig) -> Result<Option<Trial>> {
        let lr_peak = config.train.schedule.lr_peak;
        if let Some(trial) = self.folder.trial(&model.name, lr_peak)? {
            return Ok(Some(trial));
        }
        let stage = Stage::Trial { model: &model.name, lr_peak };
        let path = self.folder.trial_run(&model.name, lr_peak);
        if !self.train(&stage, config.clone(), &path)? {
            return Ok(None);
        }
        let learned = Learned::load(&path)?;
        let dataset = Dataset::open(&config.data, config.data.image_size, config.seed)?;
        let loss = config.train.loss.into();
        let found =
            evaluate(&learned.model, &learned.params, &dataset.validation, &config.eval, loss)?;
        let trial = Trial {
            model: model.name.clone(),
            lr_peak,
            validation_top1: found.top1,
            validation_loss: found.loss,
        };
        self.folder.save_trial(&trial)?;
        Ok(Some(trial))
    }

    /// Begins a run or goes on with it; false if it was stopped.
    fn train(&self, stage: &Stage<'_>, config: RunConfig, path: &Path) -> Result<bool> {
        self.observer.stage(stage);
        let mut observer = self.observer.run(stage);
        let outcome = match RunFolder::open(path) {
            Ok(run) => {
                let found = RunConfig::from_toml(&run.config()?, &run.config_path())?;
                if found != config {
                    let expected = "the configuration that plan.json asks for";
                    return Err(Error::format(&run.config_path(), expected, "another one"));
                }
                train::resume(path, self.stop, observer.as_mut())?
            }
            Err(_) => {
                let root = self.folder.path();
                train::start(config, Some(path), root, self.stop, observer.as_mut())?
            }
        };
        Ok(matches!(outcome, train::Outcome::Finished(_)))
    }

    /// All of one seed: the runs and their arms, then time and energy; false if it was stopped.
    fn seed(&self, seed: u64, lr_peaks: &BTreeMap<String, f64>) -> Result<bool> {
        let study = &self.plan.study;
        let mut is_done = self.folder.costs(seed)?.is_some();
        for model in &study.models {
            is_done &= self.is_read(model, seed)?;
        }
        if is_done {
            return Ok(true);
        }
        let dataset = Dataset::open(&study.data, study.data.image_size, seed)?;
        let after = study.models.iter().map(|model| {
            let source = model.super_classes.as_ref().and_then(SuperClasses::source);
            source.and_then(|name| study.models.iter().position(|model| model.name == name))
        });
        let is_done = side_by_side(&after.collect::<Vec<_>>(), self.stop, |index| {
            let model = &study.models[index];
            self.model(model, (seed, lr_peaks[&model.name]), &dataset)
        })?;
        if !is_done {
            return Ok(false);
        }
        self.observer.stage(&Stage::Measuring { seed });
        self.measure(seed, &dataset)?;
        Ok(true)
    }

    /// A run, then its arms; false if it was stopped.
    fn model(&self, model: &Model, (seed, lr_peak): (u64, f64), dataset: &Dataset) -> Result<bool> {
        let path = self.folder.run(&model.name, seed);
        let study = &self.plan.study;
        // Arms are read when their run has finished; its model serves once more to be measured.
        if self.is_read(model, seed)? && RunFolder::open(&path).is_ok() {
            return Ok(true);
        }
        let config = study.seeded_config(model, seed, lr_peak);
        let config = teach(config, self.groups(model, seed, dataset)?.as_ref());
        if !self.train(&Stage::Training { model: &model.name, seed }, config, &path)? {
            return Ok(false);
        }
        let learned = Learned::load(&path)?;
        for arm in study.arms_of(&model.name) {
            if self.folder.reading(&arm.name, seed)?.is_some() {
                continue;
            }
            if self.stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            self.observer.stage(&Stage::Evaluating { arm: &arm.name, seed });
            self.folder.save_reading(&self.read(arm, &learned, dataset)?)?;
        }
        Ok(true)
    }

    /// Whether all that a model's arms did for a seed is known.
    fn is_read(&self, model: &Model, seed: u64) -> Result<bool> {
        for arm in self.plan.study.arms_of(&model.name) {
            if self.folder.reading(&arm.name, seed)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What a model is taught with a seed: found once, from what was trained before it.
    fn groups(
        &self,
        model: &Model,
        seed: u64,
        dataset: &Dataset,
    ) -> Result<Option<SuperClassFile>> {
        let Some(taught) = &model.super_classes else { return Ok(None) };
        if let Some(found) = self.folder.groups(&model.name, seed)? {
            return Ok(Some(found));
        }
        let sources = Sources { seed, study: &self.plan.study, dataset };
        let file = match taught {
            SuperClasses::Confusions { of, method, by_probability } => {
                let Learned { description, model: vit, params, .. } =
                    &Learned::load(&self.folder.run(of, seed))?;
                let learned = (description, vit, params);
                sources.by_confusion(model, (method, *by_probability), learned)?
            }
            SuperClasses::Random { like } => {
                let like = self.folder.groups(like, seed)?.ok_or_else(|| {
                    let got = format!("none of `{like}` for seed {seed}");
                    Error::format(self.folder.path(), "super-classes to take sizes of", got)
                })?;
                sources.by_chance(model, &like)
            }
            SuperClasses::Labels { column } => sources.by_label(model, column)?,
        };
        self.folder.save_groups(&model.name, seed, &file)?;
        Ok(Some(file))
    }

    fn read(&self, arm: &Arm, learned: &Learned, dataset: &Dataset) -> Result<Reading> {
        let study = &self.plan.study;
        let config = EvalConfig { dial: arm.dial.clone(), ..study.eval_config() };
        let loss = study.model(&arm.model)?.train.loss.into();
        let mut found = evaluate(&learned.model, &learned.params, &dataset.test, &config, loss)?;
        if let Some(file) = self.folder.groups(&arm.model, learned.seed)? {
            let groups_v = groups_of(&dataset.class_names, &file.groups())?;
            found.judge_router(&groups_v, dataset.test.labels());
        }
        Ok(Reading {
            arm: arm.name.clone(),
            seed: learned.seed,
            program: self.program.to_string(),
            lr_peak: learned.lr_peak,
            step: learned.description.step,
            loss: found.loss,
            dropped_share: found.dropped_share,
            flops_per_image: flops_per_image(&learned.model, &config, &found)?,
            weights: Some(Weights::of(learned.model.config(), &found)?),
            layers: found.layers,
            is_right: as_digits(&found.is_right),
        })
    }

    fn measure(&self, seed: u64, dataset: &Dataset) -> Result<()> {
        let study = &self.plan.study;
        let mut learned = BTreeMap::new();
        for model in &study.models {
            let run = self.folder.run(&model.name, seed);
            learned.insert(model.name.as_str(), Learned::load(&run)?);
        }
        let subjects: Vec<_> = study
            .arms
            .iter()
            .map(|arm| {
                let Learned { model, params, .. } = &learned[arm.model.as_str()];
                Subject { model, params: params.into(), dial: arm.dial.clone() }
            })
            .collect();
        let meter = Meter::open(study.watts_per_core);
        let costs = cost_in_turn(&subjects, &dataset.test, &study.timing, &meter)?;
        let names = study.arms.iter().map(|arm| arm.name.clone());
        self.folder.save_costs(&SeedCosts {
            seed,
            date: now(),
            threads: rayon::current_num_threads(),
            energy_source: meter.source().to_string(),
            of_image: names.zip(costs).collect(),
        })
    }
}

impl Learned {
    fn load(path: &Path) -> Result<Learned> {
        let run = RunFolder::open(path)?;
        let config = RunConfig::from_toml(&run.config()?, &run.config_path())?;
        let (description, model, params) = SavedModel::open(&run)?;
        let (seed, lr_peak) = (config.seed, config.train.schedule.lr_peak);
        Ok(Learned { seed, lr_peak, description, model, params })
    }
}
