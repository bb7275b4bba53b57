//! One training step after another. Knows neither files nor clocks.

use super::TrainConfig;
use crate::data::Batch;
use crate::model::Vit;
use crate::moe::{Dial, RouterStats};
use crate::nn::Mode;
use crate::rng::{Purpose, stream};
use crate::{Error, Result};
use sparsely_tensor::optim::{Moments, Step, global_norm};
use sparsely_tensor::{Pool, Slab, Tape};

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
    seed: u64,
    total_steps: u64,
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
        Trainer { model, params, moments, grads, pool: Pool::new(), config, seed, total_steps }
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
        let loss = tape.weighted_sum(&terms)?;
        tape.backward(&loss, &mut self.grads)?;
        Ok(StepReport {
            step,
            loss: f64::from(loss.values()[0]),
            task_loss,
            lr: self.config.schedule.at(step, self.total_steps),
            grad_norm: f64::NAN,
            stats: output.stats,
        })
    }
}
