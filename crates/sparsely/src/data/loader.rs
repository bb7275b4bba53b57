//! Training batches as a pure function of seed and step.
//!
//! Nothing is carried from one batch to the next, so a run that is resumed at step `n` is dealt
//! the batches that the uninterrupted run would have been dealt.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};

use rand::Rng as _;
use rand::seq::SliceRandom;
use rand_distr::{Beta, Distribution};

use crate::data::augment::{crop, flip, mixup, one_hot, smooth_labels};
use crate::data::batch::{Batch, append_scaled};
use crate::data::config::{AugmentConfig, refuse};
use crate::data::dataset::Dataset;
use crate::rng::{Purpose, Rng, stream};
use crate::{Error, Result};

/// How training images are dealt out.
#[derive(Clone, Debug, PartialEq)]
pub struct LoaderConfig {
    /// Images in each batch.
    pub batch_size: usize,
    /// How they are disturbed.
    pub augment: AugmentConfig,
    /// Decides the order and every disturbance.
    pub seed: u64,
}

/// Deals out the training images of a data set, epoch after epoch.
#[derive(Clone, Debug)]
pub struct Loader {
    dataset: Arc<Dataset>,
    config: LoaderConfig,
    mixup_weight: Option<Beta<f64>>,
}

/// One epoch's order of the training images.
struct Order {
    epoch: u64,
    indices: Vec<usize>,
}

impl Loader {
    /// A loader for the training images of `dataset`. Refuses a batch size of 0 or of more than
    /// all training images, and augmentation that cannot work, all at once.
    pub fn new(dataset: Arc<Dataset>, config: LoaderConfig) -> Result<Loader> {
        let mut problems = config.augment.problems();
        let (batch_size, image_count) = (config.batch_size, dataset.train.len());
        if !(1..=image_count).contains(&batch_size) {
            problems.push(format!(
                "the batch size must be in 1..={image_count}, the number of training images, \
                 got {batch_size}"
            ));
        }
        let (padding, size) = (config.augment.crop_padding, dataset.image_size);
        if padding >= size {
            problems
                .push(format!("`crop_padding` must be below the image size {size}, got {padding}"));
        }
        refuse(problems)?;
        let beta = |alpha| Beta::new(alpha, alpha).map_err(|error| mixup_error(alpha, error));
        let mixup_weight = config.augment.mixup_alpha.map(beta).transpose()?;
        Ok(Loader { dataset, config, mixup_weight })
    }

    /// Batches in an epoch; images that do not fill another one are left out of that epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        (self.dataset.train.len() / self.config.batch_size) as u64
    }

    /// The batch of training step `step`, counted from 0. Errors only where an image is decoded at
    /// each access and cannot be.
    pub fn batch_at(&self, step: u64) -> Result<Batch> {
        self.deal(&self.order(self.epoch_of(step)), step)
    }

    /// The batches of `from_step..to_step` in order, made ahead on a thread of its own: while one
    /// is in use the next two are waiting or being made. Ends after the first error.
    pub fn prefetch(&self, from_step: u64, to_step: u64) -> Prefetch {
        // One waits in the channel, one in the hands of the thread that made it.
        let (sender, receiver) = sync_channel(1);
        let loader = self.clone();
        let thread = thread::spawn(move || {
            let mut order = loader.order(loader.epoch_of(from_step));
            for step in from_step..to_step {
                if order.epoch != loader.epoch_of(step) {
                    order = loader.order(loader.epoch_of(step));
                }
                let batch = loader.deal(&order, step);
                let is_last = batch.is_err();
                // Refused when nobody takes batches any more.
                if sender.send(batch).is_err() || is_last {
                    return;
                }
            }
        });
        Prefetch { receiver: Some(receiver), thread: Some(thread) }
    }

    fn epoch_of(&self, step: u64) -> u64 {
        step / self.steps_per_epoch()
    }

    fn order(&self, epoch: u64) -> Order {
        let mut indices: Vec<usize> = (0..self.dataset.train.len()).collect();
        indices.shuffle(&mut stream(self.config.seed, Purpose::DataOrder, epoch));
        Order { epoch, indices }
    }

    fn deal(&self, order: &Order, step: u64) -> Result<Batch> {
        let batch_size = self.config.batch_size;
        let start = (step % self.steps_per_epoch()) as usize * batch_size;
        let indices = &order.indices[start..start + batch_size];
        let mut draw = stream(self.config.seed, Purpose::Augmentation, step);
        let mut images_bhwc =
            Vec::with_capacity(batch_size * self.dataset.train.shape().byte_count());
        for &index in indices {
            append_scaled(&mut images_bhwc, &self.disturbed(index, &mut draw)?);
        }
        let labels_b: Vec<u32> =
            indices.iter().map(|&index| self.dataset.train.label(index)).collect();
        let mut batch = Batch { images_bhwc, targets_bv: self.targets(&labels_b), labels_b };
        self.mix(&mut batch, &mut draw);
        Ok(batch)
    }

    /// Pixels of training image `index`, shifted and mirrored at random.
    fn disturbed(&self, index: usize, draw: &mut Rng) -> Result<Vec<u8>> {
        let shape = self.dataset.train.shape();
        let AugmentConfig { crop_padding: padding, flip: may_flip, .. } = self.config.augment;
        let mut pixels_hwc = self.dataset.train.pixels(index)?.into_owned();
        if padding > 0 {
            let corner = (draw.random_range(0..=2 * padding), draw.random_range(0..=2 * padding));
            pixels_hwc = crop(&pixels_hwc, shape, padding, corner);
        }
        if may_flip && draw.random() {
            flip(&mut pixels_hwc, shape);
        }
        Ok(pixels_hwc)
    }

    fn targets(&self, labels_b: &[u32]) -> Vec<f32> {
        let class_count = self.dataset.class_names.len();
        let mut targets_bv = one_hot(labels_b, class_count);
        smooth_labels(&mut targets_bv, class_count, self.config.augment.label_smoothing);
        targets_bv
    }

    /// Mixes each image with the next one, which never gets the larger share.
    fn mix(&self, batch: &mut Batch, draw: &mut Rng) {
        let Some(beta) = self.mixup_weight else { return };
        let weights = beta.sample_iter(draw).map(|weight: f64| weight.max(1.0 - weight) as f32);
        let weights_b: Vec<f32> = weights.take(batch.len()).collect();
        mixup(&mut batch.images_bhwc, &mut batch.targets_bv, &weights_b);
    }
}

fn mixup_error(alpha: f64, error: rand_distr::BetaError) -> Error {
    Error::config(format!("`mixup_alpha` cannot be {alpha}: {error}"))
}

/// Batches made ahead; see [`Loader::prefetch`]. Dropping it stops the thread.
#[derive(Debug)]
pub struct Prefetch {
    receiver: Option<Receiver<Result<Batch>>>,
    thread: Option<JoinHandle<()>>,
}

impl Iterator for Prefetch {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Result<Batch>> {
        if let Ok(batch) = self.receiver.as_ref()?.recv() {
            return Some(batch);
        }
        // Out of batches, unless a bug ended the thread: that must not look like the end.
        let outcome = self.thread.take()?.join();
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        None
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        // Without a receiver the thread stops at its next batch.
        self.receiver = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
#[path = "loader_tests.rs"]
mod tests;
