//! One training step after another. Knows neither files nor clocks.

use super::TrainConfig;
use crate::data::Batch;
use crate::model::Vit;
use crate::moe::{Dial, RouterStats};
use crate::nn::Mode;
use crate::rng::{Purpose, stream};
use crate::{Error, Result};
use sparsely_tensor::optim::{Moments, Step, global_norm};
use sparsely_tensor::{CrossEntropy, Pool, Slab, Tape};

/// A model while it learns.
pub struct Trainer {
    /// The model.
    pub model: Vit,
    /// Its parameters.
    pub params: Slab,
    /// What the optimiser carries on.
    pub moments: Moments,
    grads: Slab,
    pool: Pool,
    config: TrainConfig,
    router_task: Option<RouterTask>,
    seed: u64,
    total_steps: u64,
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

/// What a step did.
#[derive(Clone, Debug)]
pub struct StepReport {
    /// Index of the step, from 0.
    pub step: u64,
    /// Task loss plus weighted auxiliary losses.
    pub loss: f64,
    /// Task loss.
    pub task_loss: f64,
    /// Cross-entropy of router and super-class, without its weight, where there are super-classes.
    pub router_loss: Option<f64>,
    /// Learning rate.
    pub lr: f64,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f64,
    /// One for each MoE layer, with its block's index.
    pub stats: Vec<(usize, RouterStats)>,
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
        let moments = Moments::zeros(&params);
        let grads = Slab::zeros(params.layout().clone());
        let (pool, router_task) = (Pool::new(), None);
        Trainer { model, params, moments, grads, pool, config, router_task, seed, total_steps }
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
        self.grads.values_mut().fill(0.0);
        let mut report = self.differentiate(step, batch)?;
        report.grad_norm = global_norm(&self.grads);
        if !(report.loss.is_finite() && report.grad_norm.is_finite()) {
            return Err(Error::Argument {
                op: "training step",
                expected: "a finite loss and gradient (a lower learning rate may help)".into(),
                got: format!(
                    "loss {} and gradient norm {} at step {step}",
                    report.loss, report.grad_norm
                ),
            });
        }
        let (rule, decay) = self.config.optimizer.rule();
        let clip = self.config.clip_norm.map_or(1.0, |max| (max / report.grad_norm).min(1.0));
        let grad_scale = clip as f32;
        let update = Step { rule, lr: report.lr as f32, decay, number: step + 1, grad_scale };
        update.apply(&mut self.params, &self.grads, &mut self.moments);
        self.model.adapt(&mut self.params, &report.stats);
        Ok(report)
    }

    fn differentiate(&mut self, step: u64, batch: &Batch) -> Result<StepReport> {
        let tape = Tape::recording(&self.params, &self.pool);
        let mut rng = stream(self.seed, Purpose::Model, step);
        let mode = &mut Mode::Train(&mut rng);
        let output = self.model.forward(&tape, &batch.images_bhwc, &Dial::default(), mode)?;
        let task = output.logits_bv.cross_entropy(self.config.loss.into(), &batch.targets_bv)?;
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
        tape.backward(&loss, &mut self.grads)?;
        Ok(StepReport {
            step,
            loss: f64::from(loss.values()[0]),
            task_loss,
            router_loss,
            lr: self.config.schedule.at(step, self.total_steps),
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
