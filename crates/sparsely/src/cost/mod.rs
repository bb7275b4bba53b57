//! What a model costs, without running it: parameters, multiply-accumulates, memory, bytes.
//!
//! MACs are the multiply-accumulates of matrix products and of the gated sum of experts' outputs,
//! exactly as many as [`sparsely_tensor::macs`] counts while the model runs. FLOPs are two for each
//! of them, and what is not a product (norms, softmax, activations, biases) by the convention of
//! ELECTRA's count (Clark et al. 2020, arXiv 2003.10555): 5 for each value of a norm or a softmax,
//! 8 for a GELU, 1 for an addition.

mod attention;
mod call;
mod formulas;
pub mod language;
mod memory;
mod model;
pub mod paper;
mod part;
pub mod plan;
mod router;

pub use call::{Call, Routed};
pub use memory::Memory;
pub use model::ModelCost;
pub use part::{Part, PartCost};
pub use router::Choice;

use crate::Result;
use crate::model::ModelConfig;
use crate::moe::Dial;

/// Multiply-accumulates of the forward pass of one image, where experts are chosen equally often:
/// capacity binds, imbalance does not. A mean over the images of a group.
///
/// # Errors
/// If the configuration or the routing of `dial` cannot work.
pub fn forward_macs(config: &ModelConfig, dial: &Dial) -> Result<f64> {
    let cost = one_group(config, dial)?;
    Ok(cost.macs() as f64 / cost.batch as f64)
}

/// FLOPs of the forward pass of one image; see [`forward_macs`].
///
/// # Errors
/// As [`forward_macs`].
pub fn forward_flops(config: &ModelConfig, dial: &Dial) -> Result<f64> {
    let cost = one_group(config, dial)?;
    Ok(cost.flops() as f64 / cost.batch as f64)
}

/// FLOPs of a training step of `batch` images: forward and backward as this engine runs them (it
/// computes attention matrices again), without the optimiser's pass over the parameters.
///
/// # Errors
/// As [`forward_macs`].
pub fn training_flops(config: &ModelConfig, dial: &Dial, batch: usize) -> Result<f64> {
    Ok(ModelCost::of(config, &Call { dial: dial.clone(), ..Call::balanced(batch) })?
        .training_flops() as f64)
}

/// The cost of the smallest batch that whole groups fill.
fn one_group(config: &ModelConfig, dial: &Dial) -> Result<ModelCost> {
    let batch = call::group_images(config, dial)?;
    ModelCost::of(config, &Call { dial: dial.clone(), ..Call::balanced(batch) })
}
