//! What an attention layer is made of, as a value.

use super::GateContext;
use serde::{Deserialize, Serialize};

/// The attention of a block.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum AttentionConfig {
    /// H heads with dense projections: Transformer-XL, or rotary.
    Dense(DenseAttentionConfig),
    /// Experts inside each head (SwitchHead, arXiv 2312.07987).
    SwitchHead(SwitchHeadConfig),
    /// Experts that are heads (MoA, arXiv 2210.05144).
    Moa(MoaConfig),
}

impl AttentionConfig {
    /// What routers read of the attention of the block before.
    pub fn context(&self) -> Option<GateContext> {
        match self {
            AttentionConfig::SwitchHead(config) => config.context,
            AttentionConfig::Dense(_) | AttentionConfig::Moa(_) => None,
        }
    }

    /// The same for a block that no attention stands before.
    pub fn without_context(self) -> AttentionConfig {
        match self {
            AttentionConfig::SwitchHead(config) => {
                AttentionConfig::SwitchHead(SwitchHeadConfig { context: None, ..config })
            }
            other => other,
        }
    }
}

impl Default for AttentionConfig {
    fn default() -> AttentionConfig {
        AttentionConfig::SwitchHead(SwitchHeadConfig::default())
    }
}

/// How queries know where keys are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum RelativePositions {
    /// Not at all: tokens carry positions of their own, or none.
    None,
    /// A projected sinusoid of the distance takes part in the score (arXiv 1901.02860).
    #[default]
    TransformerXl,
    /// The first ⌊fraction·A⌋ channels of queries and keys are rotated (arXiv 2104.09864).
    Rope {
        /// Share of a head's channels, in [0, 1].
        #[serde(default = "half")]
        fraction: f32,
    },
}

fn half() -> f32 {
    0.5
}

/// Dense attention. With Transformer-XL's positions it has biases u and v for each head and learns the
/// scale; nothing else has biases.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DenseAttentionConfig {
    /// H.
    pub heads: usize,
    /// A.
    pub head_width: usize,
    /// Where keys are.
    pub positions: RelativePositions,
}

impl Default for DenseAttentionConfig {
    fn default() -> DenseAttentionConfig {
        DenseAttentionConfig { heads: 8, head_width: 32, positions: RelativePositions::default() }
    }
}

/// SwitchHead: H attention matrices, whatever K is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SwitchHeadConfig {
    /// H.
    pub heads: usize,
    /// A.
    pub head_width: usize,
    /// E, of each head. With one, values and outputs are dense and each head has a sigmoid gate.
    pub num_experts: usize,
    /// K, of each head.
    pub num_selected: usize,
    /// Where keys are.
    pub positions: RelativePositions,
    /// Which projections have experts.
    pub experts: ExpertProjections,
    /// Whether one router weight serves source and destination, each on its own tokens.
    pub shared_router: bool,
    /// What weighs the selected experts.
    pub gate: HeadGate,
    /// Chance that an expert may not be chosen by a token, in training.
    pub expert_dropout: f32,
    /// By how much the biases that balance the experts of a head move in a step (loss-free balancing, arXiv
    /// 2408.15664): they are added to the scores where experts are chosen and do not weigh. 0 leaves them out.
    pub bias_rate: f32,
    /// γ of γ Σ m ln m ([`crate::moe::usage_entropy_loss`]), summed over heads and sides; 0 leaves it out.
    pub entropy_weight: f32,
    /// What routers read beside the token, from the second block on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<GateContext>,
}

impl Default for SwitchHeadConfig {
    fn default() -> SwitchHeadConfig {
        SwitchHeadConfig {
            heads: 2,
            head_width: 64,
            num_experts: 4,
            num_selected: 2,
            positions: RelativePositions::default(),
            experts: ExpertProjections::default(),
            shared_router: false,
            gate: HeadGate::default(),
            expert_dropout: 0.0,
            bias_rate: 0.0,
            entropy_weight: 0.0,
            context: None,
        }
    }
}

/// Which of a head's projections have experts; the others are dense.
///
/// Keys share the choice of the values (source side), queries that of the outputs (destination side).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExpertProjections {
    /// V.
    pub values: bool,
    /// K.
    pub keys: bool,
    /// Q.
    pub queries: bool,
    /// O.
    pub outputs: bool,
}

impl Default for ExpertProjections {
    fn default() -> ExpertProjections {
        ExpertProjections { values: true, keys: false, queries: false, outputs: true }
    }
}

impl ExpertProjections {
    /// Whether a router reads the source.
    pub fn source(&self) -> bool {
        self.values || self.keys
    }

    /// Whether a router reads the queries.
    pub fn destination(&self) -> bool {
        self.queries || self.outputs
    }
}

/// What weighs the selected experts of a head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadGate {
    /// Each expert for itself, not normalised.
    #[default]
    Sigmoid,
    /// Softmax over the K logits that were selected.
    SoftmaxOfSelected,
}

/// Mixture of attention heads: each token picks K of E heads, which share keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MoaConfig {
    /// E.
    pub num_experts: usize,
    /// K, the heads of a token.
    pub num_selected: usize,
    /// A.
    pub head_width: usize,
    /// Where keys are.
    pub positions: RelativePositions,
    /// What weighs the selected heads.
    pub gate: MoaGate,
    /// Weights of the auxiliary losses.
    pub loss: MoaLossWeights,
}

impl Default for MoaConfig {
    fn default() -> MoaConfig {
        MoaConfig {
            num_experts: 8,
            num_selected: 2,
            head_width: 64,
            positions: RelativePositions::default(),
            gate: MoaGate::default(),
            loss: MoaLossWeights::default(),
        }
    }
}

/// What weighs the selected heads of [`MoaConfig`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MoaGate {
    /// Over all experts, before the choice, not normalised again.
    #[default]
    Softmax,
    /// Each expert for itself.
    Sigmoid,
}

/// Weights of the balancing losses of [`MoaConfig`], each over all tokens of a batch and the axis of
/// the experts; 0 leaves one out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MoaLossWeights {
    /// Unbiased variance over mean² of the summed gates of the chosen.
    pub cv: f32,
    /// E · Σ shares of gates · shares of choices.
    pub switch: f32,
    /// Mean logsumexp².
    pub z: f32,
}

impl Default for MoaLossWeights {
    fn default() -> MoaLossWeights {
        MoaLossWeights { cv: 0.0, switch: 0.01, z: 0.001 }
    }
}
