//! How fast this machine is, and how long a study takes on it.

use super::side_by_side::side_by_side;
use super::{Sizes, Study, Task};
use crate::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime};

/// Steps before the clock starts: pages are touched and buffers pooled.
const WARM_UP: u64 = 2;
/// Steps that are timed at most.
const STEPS: u64 = 10;
/// Seconds that a model's timed steps take at most, unless one takes longer.
const SECONDS: f64 = 4.0;

/// Seconds of steps and of evaluation, measured on fresh models and the study's own data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// When it was measured.
    pub date: String,
    /// Threads, shared out among models that are trained beside one another.
    pub threads: usize,
    /// Of a training step beside others, by model.
    pub seconds_per_step: BTreeMap<String, f64>,
    /// Of an image in evaluation, or of a token, by arm.
    #[serde(alias = "seconds_per_image")]
    pub seconds_per_unit: BTreeMap<String, f64>,
    /// To open the data.
    pub seconds_to_open: f64,
}

impl Rate {
    /// Seconds that all of `study` takes, its runs beside one another.
    pub fn seconds<T: Task>(&self, study: &Study<T>, sizes: &Sizes) -> f64 {
        let seeds = study.seeds.len() as f64;
        let trials = study.tuning.as_ref().map_or(0.0, |t| t.lr_peaks.len() as f64 * t.length);
        let training: f64 = study
            .models
            .iter()
            .map(|model| (seeds + trials) * self.seconds_of_training(study, &model.name, sizes))
            .sum();
        let units: f64 = self.seconds_per_unit.values().sum();
        let read = sizes.test + T::timed_units(study);
        training / self.beside(study) + seeds * units * read as f64
    }

    /// How many runs go on beside one another.
    fn beside<T: Task>(&self, study: &Study<T>) -> f64 {
        self.threads.clamp(1, study.models.len().max(1)) as f64
    }

    /// Seconds of one run beside others, with its looks at the validation data and its final evaluation.
    pub fn seconds_of_training<T: Task>(
        &self,
        study: &Study<T>,
        model: &str,
        sizes: &Sizes,
    ) -> f64 {
        let Ok(described) = study.model(model) else { return 0.0 };
        let steps = described.steps(sizes);
        let looks = steps.div_ceil(
            described.train.validate_every.steps(described.steps_per_epoch(sizes)).max(1),
        );
        let arms = study.arms_of(model).filter_map(|arm| self.seconds_per_unit.get(&arm.name));
        // They were measured on all threads.
        let unit = self.beside(study) * arms.copied().fold(0.0, f64::max);
        self.seconds_to_open
            + steps as f64 * self.seconds_per_step.get(model).copied().unwrap_or(0.0)
            + unit * (looks as usize * sizes.validation + sizes.test) as f64
    }
}

/// Median seconds of `step`, which learns from the batch of an index.
pub(super) fn time_steps(mut step: impl FnMut(u64) -> Result<Instant>) -> Result<f64> {
    let mut seconds = Vec::new();
    for index in 0..WARM_UP + STEPS {
        let begin = step(index)?;
        if index >= WARM_UP {
            seconds.push(begin.elapsed().as_secs_f64());
        }
        if seconds.iter().sum::<f64>() > SECONDS {
            break;
        }
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[seconds.len() / 2])
}

/// What `time` says of each model while it is trained beside others, by name.
pub(super) fn time_models<T: Task, R: Send>(
    study: &Study<T>,
    time: impl Fn(&super::Model<T>) -> Result<R> + Sync,
) -> Result<BTreeMap<String, R>> {
    let timed = Mutex::new(BTreeMap::new());
    side_by_side(&vec![None; study.models.len()], &AtomicBool::new(false), |index| {
        let model = &study.models[index];
        let of_model = time(model)?;
        let mut timed = timed.lock().unwrap_or_else(PoisonError::into_inner);
        timed.insert(model.name.clone(), of_model);
        Ok(true)
    })?;
    Ok(timed.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// The time, in UTC to the second.
pub(super) fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}
