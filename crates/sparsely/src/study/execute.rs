//! Trains, evaluates and measures what a plan still lacks. Every finished piece is on disk, so a
//! study that was stopped or killed goes on with the piece that it was at.

use super::rate::now;
use super::side_by_side::side_by_side;
use super::{Arm, Folder, Model, Plan, Reading, SeedCosts, SuperClasses, Task, Tested, Trial};
use crate::checkpoint::RunFolder;
use crate::eval::Meter;
use crate::train;
use crate::{Error, Result};
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
    /// An arm on the test data.
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
pub fn execute<T: Task>(
    plan: &Plan<T>,
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

struct Work<'a, T: Task> {
    plan: &'a Plan<T>,
    folder: &'a Folder,
    program: &'a str,
    stop: &'a AtomicBool,
    observer: &'a dyn Observer,
}

impl<T: Task> Work<'_, T> {
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
            let (model, (lr_peak, config)) = &configs[index];
            let Some(trial) = self.trial(model, (*lr_peak, config))? else { return Ok(false) };
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
    fn trial(&self, model: &Model<T>, (lr_peak, config): (f64, &T::Run)) -> Result<Option<Trial>> {
        if let Some(trial) = self.folder.trial(&model.name, lr_peak)? {
            return Ok(Some(trial));
        }
        let stage = Stage::Trial { model: &model.name, lr_peak };
        let path = self.folder.trial_run(&model.name, lr_peak);
        if !self.train(&stage, config.clone(), &path)? {
            return Ok(None);
        }
        let found = T::validated(&T::load(&path)?, config)?;
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
    fn train(&self, stage: &Stage<'_>, config: T::Run, path: &Path) -> Result<bool> {
        self.observer.stage(stage);
        let mut observer = self.observer.run(stage);
        match RunFolder::open(path) {
            Ok(run) => {
                if T::read_config(&run)? != config {
                    let expected = "the configuration that plan.json asks for";
                    return Err(Error::format(&run.config_path(), expected, "another one"));
                }
                T::resume(path, self.stop, observer.as_mut())
            }
            Err(_) => T::start(config, path, self.folder.path(), self.stop, observer.as_mut()),
        }
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
        let held = T::hold(study, seed)?;
        let after = study.models.iter().map(|model| {
            let source = model.super_classes.as_ref().and_then(SuperClasses::source);
            source.and_then(|name| study.models.iter().position(|model| model.name == name))
        });
        let is_done = side_by_side(&after.collect::<Vec<_>>(), self.stop, |index| {
            let model = &study.models[index];
            self.model(model, (seed, lr_peaks[&model.name]), &held)
        })?;
        if !is_done {
            return Ok(false);
        }
        self.observer.stage(&Stage::Measuring { seed });
        self.measure(seed, &held)?;
        Ok(true)
    }

    /// A run, then its arms; false if it was stopped.
    fn model(&self, model: &Model<T>, (seed, lr_peak): (u64, f64), held: &T::Held) -> Result<bool> {
        let path = self.folder.run(&model.name, seed);
        let study = &self.plan.study;
        // Arms are read when their run has finished; its model serves once more to be measured.
        if self.is_read(model, seed)? && RunFolder::open(&path).is_ok() {
            return Ok(true);
        }
        let config = study.seeded_config(model, seed, lr_peak);
        T::prepare(study, self.folder, (model, seed), held)?;
        let config = T::taught(config, self.folder, &model.name, seed)?;
        if !self.train(&Stage::Training { model: &model.name, seed }, config, &path)? {
            return Ok(false);
        }
        let learned = T::load(&path)?;
        for arm in study.arms_of(&model.name) {
            if self.folder.reading::<T>(&arm.name, seed)?.is_some() {
                continue;
            }
            if self.stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            self.observer.stage(&Stage::Evaluating { arm: &arm.name, seed });
            let tested = T::read(study, self.folder, (arm, seed), &learned, held)?;
            self.folder.save_reading(&self.reading(arm, (seed, lr_peak), tested))?;
        }
        Ok(true)
    }

    /// Whether all that a model's arms did for a seed is known.
    fn is_read(&self, model: &Model<T>, seed: u64) -> Result<bool> {
        for arm in self.plan.study.arms_of(&model.name) {
            if self.folder.reading::<T>(&arm.name, seed)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn reading(
        &self,
        arm: &Arm<T>,
        (seed, lr_peak): (u64, f64),
        Tested { step, loss, found, scores }: Tested<T>,
    ) -> Reading<T> {
        let (arm, program) = (arm.name.clone(), self.program.to_string());
        Reading { arm, seed, program, lr_peak, step, loss, found, scores }
    }

    fn measure(&self, seed: u64, held: &T::Held) -> Result<()> {
        let study = &self.plan.study;
        let mut learned = BTreeMap::new();
        for model in &study.models {
            learned.insert(model.name.as_str(), T::load(&self.folder.run(&model.name, seed))?);
        }
        let meter = Meter::open(study.watts_per_core);
        let costs = T::measure(study, &learned, held, &meter)?;
        let names = study.arms.iter().map(|arm| arm.name.clone());
        self.folder.save_costs(&SeedCosts {
            seed,
            date: now(),
            threads: rayon::current_num_threads(),
            energy_source: meter.source().to_string(),
            costs: names.zip(costs).collect(),
        })
    }
}
