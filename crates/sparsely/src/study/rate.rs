//! How fast this machine is, and how long a study takes on it.

use super::side_by_side::side_by_side;
use super::{Sizes, Study};
use crate::Result;
use crate::data::{Dataset, Loader, LoaderConfig};
use crate::eval::{Meter, Subject, TimingConfig, cost_in_turn};
use crate::model::Vit;
use crate::train::Trainer;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

/// Steps before the clock starts: pages are touched and buffers pooled.
const WARM_UP: u64 = 2;
/// Steps that are timed at most.
const STEPS: u64 = 10;
/// Batches of each arm.
const ROUNDS: usize = 3;
/// Seconds that a model's timed steps take at most, unless one takes longer.
const SECONDS: f64 = 4.0;

/// Seconds of steps and images, measured on fresh models and the study's own data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// When it was measured.
    pub date: String,
    /// Threads, shared out among models that are trained beside one another.
    pub threads: usize,
    /// Of a training step beside others, by model.
    pub seconds_per_step: BTreeMap<String, f64>,
    /// Of an image in evaluation, by arm.
    pub seconds_per_image: BTreeMap<String, f64>,
    /// To open the data.
    pub seconds_to_open: f64,
}

impl Rate {
    /// Measures a few steps and batches of everything; takes seconds.
    ///
    /// # Errors
    /// If a model cannot be trained or evaluated.
    pub fn measure(study: &Study, dataset: &Arc<Dataset>) -> Result<Rate> {
        let begin = Instant::now();
        Dataset::open(&study.data, study.data.image_size, 0)?;
        let seconds_to_open = begin.elapsed().as_secs_f64();
        let timed = Mutex::new(BTreeMap::new());
        side_by_side(&vec![None; study.models.len()], &AtomicBool::new(false), |index| {
            let model = &study.models[index];
            let loader = Loader::new(
                dataset.clone(),
                LoaderConfig {
                    batch_size: model.train.batch_size,
                    augment: study.data.augment.clone(),
                    seed: 0,
                },
            )?;
            let (vit, params) = Vit::init(&model.model, 0)?;
            let mut trainer = Trainer::new(vit, params, model.train.clone(), 0, u64::MAX);
            let seconds = time_steps(&mut trainer, &loader)?;
            let mut timed = timed.lock().unwrap_or_else(PoisonError::into_inner);
            timed.insert(model.name.clone(), (seconds, trainer));
            Ok(true)
        })?;
        let timed = timed.into_inner().unwrap_or_else(PoisonError::into_inner);
        let subjects = study.arms.iter().map(|arm| {
            let Trainer { model, learner, .. } = &timed[&arm.model].1;
            Subject { model, params: (&learner.params).into(), dial: arm.dial.clone() }
        });
        let config = TimingConfig { rounds: ROUNDS, ..study.timing };
        let meter = Meter::open(study.watts_per_core);
        let costs = cost_in_turn(&subjects.collect::<Vec<_>>(), &dataset.test, &config, &meter)?;
        let names = study.arms.iter().map(|arm| arm.name.clone());
        Ok(Rate {
            date: now(),
            threads: rayon::current_num_threads(),
            seconds_per_step: timed
                .iter()
                .map(|(name, (seconds, _))| (name.clone(), *seconds))
                .collect(),
            seconds_per_image: names.zip(costs.iter().map(|cost| cost.seconds)).collect(),
            seconds_to_open,
        })
    }

    /// Seconds that all of `study` takes, its runs beside one another.
    pub fn seconds(&self, study: &Study, sizes: &Sizes) -> f64 {
        let seeds = study.seeds.len() as f64;
        let trials = study.tuning.as_ref().map_or(0.0, |t| t.lr_peaks.len() as f64 * t.length);
        let training: f64 = study
            .models
            .iter()
            .map(|model| (seeds + trials) * self.seconds_of_training(study, &model.name, sizes))
            .sum();
        let images: f64 = self.seconds_per_image.values().sum();
        let timed = (study.timing.rounds + 1) * study.timing.batch_size;
        training / self.beside(study) + seeds * images * (sizes.test + timed) as f64
    }

    /// How many runs go on beside one another.
    fn beside(&self, study: &Study) -> f64 {
        self.threads.clamp(1, study.models.len().max(1)) as f64
    }

    /// Seconds of one run beside others, with its looks at the validation images and its final evaluation.
    pub fn seconds_of_training(&self, study: &Study, model: &str, sizes: &Sizes) -> f64 {
        let Ok(described) = study.model(model) else { return 0.0 };
        let steps = described.steps(sizes);
        let looks = steps.div_ceil(
            described.train.validate_every.steps(described.steps_per_epoch(sizes)).max(1),
        );
        let arms = study.arms_of(model).filter_map(|arm| self.seconds_per_image.get(&arm.name));
        // They were measured on all threads.
        let image = self.beside(study) * arms.copied().fold(0.0, f64::max);
        self.seconds_to_open
            + steps as f64 * self.seconds_per_step.get(model).copied().unwrap_or(0.0)
            + image * (looks as usize * sizes.validation + sizes.test) as f64
    }
}

/// Median seconds of a step.
fn time_steps(trainer: &mut Trainer, loader: &Loader) -> Result<f64> {
    let mut seconds = Vec::new();
    for step in 0..WARM_UP + STEPS {
        let batch = loader.batch_at(step)?;
        let begin = Instant::now();
        trainer.step(step, &batch)?;
        if step >= WARM_UP {
            seconds.push(begin.elapsed().as_secs_f64());
        }
        if seconds.iter().sum::<f64>() > SECONDS {
            break;
        }
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[seconds.len() / 2])
}

/// The time, in UTC to the second.
pub(super) fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}
