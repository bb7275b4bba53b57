//! What one device has to do in a step.

use crate::Result;
use crate::cost::{Call, ModelCost, Part};
use crate::model::ModelConfig;
use crate::moe::Dial;
use serde::Serialize;

/// A model's training step on one device's images, before experts are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Workload {
    /// Parameters outside of the experts.
    pub dense_params: u64,
    /// Parameters of all experts of all layers.
    pub expert_params: u64,
    /// E; 1 for a dense model.
    pub num_experts: usize,
    /// Values of all rows that the device's tokens send to experts, over all layers.
    pub routed_values: u64,
    /// FLOPs of the step.
    pub flops: f64,
    /// Activations and gradients of activations at most alive, in values.
    pub activations: u64,
    /// Activations that the forward pass reads and writes, in values.
    pub moved_values: u64,
}

impl Workload {
    /// The work of `batch` images.
    ///
    /// # Errors
    /// If the configuration, the batch or the routing cannot work.
    pub fn of(config: &ModelConfig, dial: &Dial, batch: usize) -> Result<Workload> {
        let cost = ModelCost::of(config, &Call { dial: dial.clone(), ..Call::balanced(batch) })?;
        let experts = || cost.parts.iter().filter(|part| part.part == Part::Experts);
        let expert_params = experts().map(|part| part.params).sum();
        Ok(Workload {
            dense_params: cost.params() - expert_params,
            expert_params,
            num_experts: config.moe.as_ref().map_or(1, |moe| moe.num_experts),
            routed_values: experts().map(|part| part.rows * config.width as u64).sum(),
            flops: cost.training_flops() as f64,
            activations: cost.training_activations(),
            moved_values: cost.parts.iter().map(|part| part.moved).sum(),
        })
    }
}
