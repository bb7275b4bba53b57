//! How much data and how many steps a study has.

use super::{Model, Study};
use crate::Result;
use crate::data::{DataConfig, Dataset};
use crate::train::{Span, TrainConfig};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Images of each split.
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

impl Sizes {
    /// Those of an open data set.
    pub fn of(dataset: &Dataset) -> Sizes {
        Sizes {
            train: dataset.train.len(),
            validation: dataset.validation.len(),
            test: dataset.test.len(),
        }
    }

    /// Those that `data` leaves.
    pub(super) fn limited(mut self, data: &DataConfig) -> Sizes {
        self.train = self.train.min(data.max_train_images.unwrap_or(usize::MAX));
        self.test = self.test.min(data.max_test_images.unwrap_or(usize::MAX));
        self
    }
}

impl Model {
    /// Steps of a pass over the training images.
    pub fn steps_per_epoch(&self, sizes: &Sizes) -> u64 {
        (sizes.train / self.train.batch_size.max(1)) as u64
    }

    /// Steps of a run.
    pub fn steps(&self, sizes: &Sizes) -> u64 {
        self.train.length.steps(self.steps_per_epoch(sizes))
    }
}

impl Study {
    /// Opens the data as the first seed splits them, and takes over what they decide about the models.
    ///
    /// # Errors
    /// If the data cannot be used.
    pub fn open_data(&mut self) -> Result<Arc<Dataset>> {
        let seed = self.seeds.first().copied().unwrap_or(0);
        let dataset = Arc::new(Dataset::open(&self.data, self.data.image_size, seed)?);
        for model in &mut self.models {
            model.model.image_size = dataset.image_size;
            model.model.channels = dataset.channels;
            model.model.num_classes = Some(dataset.class_names.len());
        }
        Ok(dataset)
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
