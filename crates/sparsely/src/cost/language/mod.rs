//! Language models with mixture-of-experts attention, as far as their cost goes: by formulas of papers, and as
//! this engine runs them.

mod attention;
mod model;

pub use attention::{Attention, AttentionCost, AttentionSizes};
pub use model::{TextCall, TextCost};

use serde::Serialize;

/// A language model: embedding, blocks of attention and MLP, untied output with bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LanguageModel {
    /// Number of layers.
    pub layers: u64,
    /// V.
    pub vocabulary: u64,
    /// Which attention.
    pub attention: Attention,
    /// Its sizes.
    pub sizes: AttentionSizes,
    /// What follows it.
    pub mlp: LanguageMlp,
}

/// The feed-forward block of a language model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LanguageMlp {
    /// With biases.
    Dense {
        /// Width of the hidden layer.
        width: u64,
    },
    /// Sigma-MoE (arXiv 2310.10837), without biases.
    SigmaMoe {
        /// NE.
        experts: u64,
        /// G, the hidden width of one expert.
        width: u64,
        /// K.
        selected: u64,
    },
}

impl LanguageMlp {
    /// Parameters of one, for a model of width D.
    pub fn params(&self, d: u64) -> u64 {
        match *self {
            LanguageMlp::Dense { width } => 2 * d * width + width + d,
            LanguageMlp::SigmaMoe { experts, width, .. } => experts * (2 * d * width + d),
        }
    }
}

impl LanguageModel {
    /// Parameters: two norms a layer and one at the end, each with scale and bias.
    pub fn params(&self) -> u64 {
        let d = self.sizes.d;
        let vocabulary = 2 * self.vocabulary * d + self.vocabulary;
        let layer = self.attention.params(&self.sizes) + self.mlp.params(d) + 4 * d;
        vocabulary + self.layers * layer + 2 * d
    }
}
