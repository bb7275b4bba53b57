//! A language model as a value.

use crate::attention::AttentionConfig;
use crate::moe::{Capacity, MoeConfig, RouterConfig, SigmaMoeConfig, TokenChoiceConfig};
use crate::nn::Precision;
use serde::{Deserialize, Serialize};

/// A causal language model: embedding, blocks of attention and MLP, untied output with bias.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LanguageConfig {
    /// V.
    pub vocabulary: usize,
    /// D.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// T, the tokens of a block of text: the most that attend to one another without memory.
    pub context: usize,
    /// M, tokens before the block of text that are attended to; 0 for none.
    pub memory: usize,
    /// After attention and after the MLP.
    pub dropout: f32,
    /// What the factors of its matrix products are rounded to.
    #[serde(skip_serializing_if = "Precision::is_f32")]
    pub precision: Precision,
    /// Of all blocks but the exceptions.
    pub attention: AttentionConfig,
    /// Of all blocks but the exceptions.
    pub mlp: MlpConfig,
    /// Blocks that are made otherwise.
    pub exceptions: Vec<BlockException>,
}

impl Default for LanguageConfig {
    fn default() -> LanguageConfig {
        LanguageConfig {
            vocabulary: 256,
            width: 128,
            depth: 4,
            context: 128,
            memory: 128,
            dropout: 0.0,
            precision: Precision::F32,
            attention: AttentionConfig::default(),
            mlp: MlpConfig::default(),
            exceptions: Vec::new(),
        }
    }
}

/// Blocks whose attention or MLP is not that of the others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BlockException {
    /// Indices, 0-based.
    pub blocks: Vec<usize>,
    /// Their attention, if it is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention: Option<AttentionConfig>,
    /// Their MLP, if it is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mlp: Option<MlpConfig>,
}

/// What follows attention in a block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum MlpConfig {
    /// ReLU(x W₁ + b₁) W₂ + b₂.
    Dense(DenseMlpConfig),
    /// Experts without biases under a sigmoid gate (arXiv 2310.10837).
    SigmaMoe(SigmaMoeConfig),
    /// Experts of the vision models under any router that does not see the future.
    Moe(LanguageMoeConfig),
}

impl Default for MlpConfig {
    fn default() -> MlpConfig {
        MlpConfig::Dense(DenseMlpConfig::default())
    }
}

/// A dense MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DenseMlpConfig {
    /// F.
    pub width: usize,
}

impl Default for DenseMlpConfig {
    fn default() -> DenseMlpConfig {
        DenseMlpConfig { width: 512 }
    }
}

impl Default for LanguageMoeConfig {
    fn default() -> LanguageMoeConfig {
        let router = TokenChoiceConfig { capacity: Capacity::Unlimited, ..Default::default() };
        let moe = MoeConfig { router: RouterConfig::TokenChoice(router), ..MoeConfig::default() };
        LanguageMoeConfig { expert_width: 128, moe }
    }
}

/// A mixture of the vision models' experts. Its placement says nothing here: blocks are listed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LanguageMoeConfig {
    /// F of each expert.
    pub expert_width: usize,
    /// Experts and router.
    pub moe: MoeConfig,
}

/// One block.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockConfig {
    /// First half.
    pub attention: AttentionConfig,
    /// Second half.
    pub mlp: MlpConfig,
}

impl LanguageConfig {
    /// Every block, in order. The first has no attention before it that its routers could read.
    pub fn blocks(&self) -> Vec<BlockConfig> {
        let block = |i: usize| {
            let mut block = BlockConfig { attention: self.attention, mlp: self.mlp.clone() };
            for exception in self.exceptions.iter().filter(|other| other.blocks.contains(&i)) {
                block.attention = exception.attention.unwrap_or(block.attention);
                block.mlp = exception.mlp.clone().unwrap_or(block.mlp);
            }
            if i == 0 {
                block.attention = block.attention.without_context();
            }
            block
        };
        (0..self.depth).map(block).collect()
    }

    /// Whether the routers of each block read the attention of the block before.
    pub fn blocks_that_read_contexts(&self) -> Vec<bool> {
        self.blocks().iter().map(|block| block.attention.context().is_some()).collect()
    }
}
