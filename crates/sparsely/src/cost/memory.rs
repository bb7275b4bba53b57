//! Bytes: what lies in memory, and what passes through it.

use super::{ModelCost, PartCost};
use serde::Serialize;

/// Bytes of a value of this engine: parameters, gradients, moments and activations are f32. Activations of models in bf16
/// take less, up to half; they are counted as f32.
pub(super) const F32: u64 = 4;
/// Values that AdamW carries on for each parameter.
pub(super) const MOMENTS: u64 = 2;

/// Bytes by what they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Parameters.
    pub weights: u64,
    /// Their gradients.
    pub gradients: u64,
    /// AdamW's two moments.
    pub moments: u64,
    /// Most that exist at once; in training with their gradients.
    pub activations: u64,
}

impl Memory {
    /// All together.
    pub fn total(&self) -> u64 {
        self.weights + self.gradients + self.moments + self.activations
    }
}

impl PartCost {
    /// Bytes that the forward pass of the batch touches: parameters once, and what each operation
    /// reads and writes.
    pub fn touched_bytes(&self) -> u64 {
        F32 * (self.read_params + self.moved)
    }

    /// Bytes that the backward pass needs of the forward pass of the batch, in f32.
    pub fn kept_bytes(&self) -> u64 {
        F32 * self.kept
    }
}

impl ModelCost {
    /// Of this engine, for inference on the batch.
    pub fn inference_memory(&self) -> Memory {
        let activations = F32 * self.inference_activations();
        Memory { weights: F32 * self.params(), gradients: 0, moments: 0, activations }
    }

    /// Of this engine, for a training step of the batch.
    pub fn training_memory(&self) -> Memory {
        let weights = F32 * self.params();
        Memory {
            weights,
            gradients: weights,
            moments: MOMENTS * weights,
            activations: F32 * self.training_activations(),
        }
    }

    /// Bytes that the forward pass of the batch touches.
    pub fn touched_bytes(&self) -> u64 {
        self.parts.iter().map(PartCost::touched_bytes).sum()
    }
}
