//! How much data and how many steps a study has.

use super::{Model, Task};
use crate::train::{Span, TrainConfig};
use serde::{Deserialize, Serialize};

/// Images of each split, or tokens to predict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sizes {
    /// To learn from.
    pub train: usize,
    /// To take decisions on.
    pub validation: usize,
    /// To report on.
    pub test: usize,
}

impl<T: Task> Model<T> {
    /// Steps of a pass over the training data.
    pub fn steps_per_epoch(&self, sizes: &Sizes) -> u64 {
        T::steps_per_epoch(self, sizes)
    }

    /// Steps of a run.
    pub fn steps(&self, sizes: &Sizes) -> u64 {
        self.train.length.steps(self.steps_per_epoch(sizes))
    }
}

/// `train` at `ratio` of its length, warm-up included: the schedule keeps its shape.
pub(super) fn scaled(train: &TrainConfig, ratio: f64) -> TrainConfig {
    let times = |n: u64| ((n as f64 * ratio).round() as u64).max(1);
    let length = match train.length {
        Span::Steps { n } => Span::Steps { n: times(n) },
        Span::Epochs { n } => Span::Epochs { n: times(n) },
    };
    let mut train = TrainConfig { length, ..train.clone() };
    if train.schedule.warmup_steps > 0 {
        train.schedule.warmup_steps = times(train.schedule.warmup_steps);
    }
    train
}
