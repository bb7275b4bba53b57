//! One training step on images after another. Knows neither files nor clocks.

use super::{Learner, StepReport, TrainConfig};
use crate::Result;
use crate::data::Batch;
use crate::model::Vit;
use crate::moe::Dial;
use crate::nn::Mode;
use crate::rng::{Purpose, stream};
use sparsely_tensor::{CrossEntropy, Slab, Tape};

/// A model while it learns.
pub struct Trainer {
    /// The model.
    pub model: Vit,
    /// Its parameters.
    pub learner: Learner,
    router_task: Option<RouterTask>,
    seed: u64,
}

/// What the router of whole images is taught.
#[derive(Clone, Debug, PartialEq)]
pub struct RouterTask {
    /// λ.
    pub weight: f32,
    /// The super-class of each class, `[V]`, below E.
    pub groups_v: Vec<u32>,
}

impl RouterTask {
    /// The share of each super-class in targets `[B, V]`: `[B, E]`.
    fn targets(&self, targets_bv: &[f32], e: usize) -> Vec<f32> {
        let mut targets_be = Vec::with_capacity(targets_bv.len() / self.groups_v.len() * e);
        for targets_v in targets_bv.chunks(self.groups_v.len()) {
            let first = targets_be.len();
            targets_be.resize(first + e, 0.0);
            for (target, group) in targets_v.iter().zip(&self.groups_v) {
                targets_be[first + *group as usize] += target;
            }
        }
        targets_be
    }
}

impl Trainer {
    /// A fresh model for a run of `total_steps`.
    pub fn new(
        model: Vit,
        params: Slab,
        config: TrainConfig,
        seed: u64,
        total_steps: u64,
    ) -> Trainer {
        let learner = Learner::new(params, config, total_steps);
        Trainer { model, learner, router_task: None, seed }
    }

    /// The same, teaching the router of whole images.
    pub fn with_router_task(self, router_task: Option<RouterTask>) -> Trainer {
        Trainer { router_task, ..self }
    }

    /// Learns from one batch. The outcome is a function of parameters, moments, batch, seed
    /// and `step`, and of nothing else.
    ///
    /// # Errors
    /// If the loss or the gradient is not finite; the parameters are then as before.
    pub fn step(&mut self, step: u64, batch: &Batch) -> Result<StepReport> {
        let mut report = self.differentiate(step, batch)?;
        self.learner.update(&mut report)?;
        self.model.adapt(&mut self.learner.params, &report.stats);
        Ok(report)
    }

    fn differentiate(&mut self, step: u64, batch: &Batch) -> Result<StepReport> {
        let Learner { params, grads, pool, config, .. } = &mut self.learner;
        grads.values_mut().fill(0.0);
        let tape = Tape::recording(params, pool);
        let mut rng = stream(self.seed, Purpose::Model, step);
        let mode = &mut Mode::Train(&mut rng);
        let output = self.model.forward(&tape, &batch.images_bhwc, &Dial::default(), mode)?;
        let task = output.logits_bv.cross_entropy(config.loss.into(), &batch.targets_bv)?;
        let task_loss = f64::from(task.values()[0]);
        let mut terms = output.losses;
        terms.push((task, 1.0));
        let mut router_loss = None;
        if let (Some(router), Some(logits_be)) = (&self.router_task, output.image_logits_be) {
            let targets_be = router.targets(&batch.targets_bv, logits_be.shape().width());
            let loss = logits_be.cross_entropy(CrossEntropy::Softmax, &targets_be)?;
            router_loss = Some(f64::from(loss.values()[0]));
            terms.push((loss, router.weight));
        }
        let loss = tape.weighted_sum(&terms)?;
        tape.backward(&loss, grads)?;
        Ok(StepReport {
            step,
            loss: f64::from(loss.values()[0]),
            task_loss,
            router_loss,
            lr: f64::NAN,
            grad_norm: f64::NAN,
            stats: output.stats,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::RouterTask;

    #[test]
    fn a_mixed_image_asks_for_its_super_classes_in_their_shares() {
        // Classes 0 and 2 are super-class 1, class 1 is super-class 0.
        let task = RouterTask { weight: 0.3, groups_v: vec![1, 0, 1] };
        let targets_be = task.targets(&[0.5, 0.25, 0.25, 0.0, 1.0, 0.0], 2);
        assert_eq!(targets_be, [0.25, 0.75, 1.0, 0.0]);
    }
}
