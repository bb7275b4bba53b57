//! Parameters that follow their gradients: what training steps of all models have in common.

use super::TrainConfig;
use crate::moe::RouterStats;
use crate::{Error, Result};
use sparsely_tensor::optim::{Moments, Step, global_norm};
use sparsely_tensor::{Pool, Slab};

/// Parameters while they are learned.
pub struct Learner {
    /// The parameters.
    pub params: Slab,
    /// What the optimiser carries on.
    pub moments: Moments,
    pub(super) grads: Slab,
    pub(super) pool: Pool,
    pub(super) config: TrainConfig,
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
    /// Cross-entropy of router and super-class, without its weight, where there are super-classes.
    pub router_loss: Option<f64>,
    /// Learning rate.
    pub lr: f64,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f64,
    /// One for each MoE layer, with its block's index.
    pub stats: Vec<(usize, RouterStats)>,
}

impl StepReport {
    /// The mean of what the routers did, if there are any.
    pub fn mean(&self, of: fn(&RouterStats) -> f64) -> Option<f64> {
        let values = self.stats.iter().map(|(_, stats)| of(stats));
        (!self.stats.is_empty()).then(|| values.sum::<f64>() / self.stats.len() as f64)
    }
}

impl Learner {
    /// Fresh parameters in a run of `total_steps`.
    pub fn new(params: Slab, config: TrainConfig, total_steps: u64) -> Learner {
        let moments = Moments::zeros(&params);
        let grads = Slab::zeros(params.layout().clone());
        Learner { params, moments, grads, pool: Pool::new(), config, total_steps }
    }

    /// Moves the parameters along `grads`, which hold the gradient of `report.loss`; fills in the
    /// learning rate and the gradient's norm.
    ///
    /// # Errors
    /// If the loss or the gradient is not finite; the parameters are then as before.
    pub(super) fn update(&mut self, report: &mut StepReport) -> Result<()> {
        let StepReport { step, loss, .. } = *report;
        report.lr = self.config.schedule.at(step, self.total_steps);
        report.grad_norm = global_norm(&self.grads);
        if !(loss.is_finite() && report.grad_norm.is_finite()) {
            return Err(Error::Argument {
                op: "training step",
                expected: "a finite loss and gradient (a lower learning rate may help)".into(),
                got: format!("loss {loss} and gradient norm {} at step {step}", report.grad_norm),
            });
        }
        let (rule, decay) = self.config.optimizer.rule();
        let clip = self.config.clip_norm.map_or(1.0, |max| (max / report.grad_norm).min(1.0));
        let grad_scale = clip as f32;
        let update = Step { rule, lr: report.lr as f32, decay, number: step + 1, grad_scale };
        update.apply(&mut self.params, &self.grads, &mut self.moments);
        Ok(())
    }
}
