//! Sigma-MoE (arXiv 2310.10837): experts without biases whose gate multiplies after the ReLU.

use serde::{Deserialize, Serialize};

/// An MLP of NE experts, of which each token uses K; nothing is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SigmaMoeConfig {
    /// NE.
    pub num_experts: usize,
    /// G, the hidden width of an expert.
    pub expert_width: usize,
    /// K.
    pub num_selected: usize,
    /// What weighs the selected experts.
    pub gate: SigmaGate,
    /// Whether experts have hidden biases, and the layer one ungated output bias.
    pub has_bias: bool,
    /// γ of γ Σ m ln m, m the mean over all tokens of softmax(logits); 0 leaves it out.
    pub entropy_weight: f32,
    /// Chance that an expert may not be chosen by a token, in training.
    pub expert_dropout: f32,
}

impl Default for SigmaMoeConfig {
    fn default() -> SigmaMoeConfig {
        SigmaMoeConfig {
            num_experts: 16,
            expert_width: 128,
            num_selected: 4,
            gate: SigmaGate::default(),
            has_bias: false,
            entropy_weight: 1e-3,
            expert_dropout: 0.0,
        }
    }
}

/// What weighs the selected experts of [`SigmaMoeConfig`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SigmaGate {
    /// Each expert for itself.
    #[default]
    Sigmoid,
    /// Over all experts, before the choice, not normalised again.
    Softmax,
    /// Over the K logits that were selected.
    SoftmaxOfSelected,
}
