//! Attention.

mod config;
mod multi_head;

pub use config::{
    AttentionConfig, DenseAttentionConfig, ExpertProjections, HeadGate, MoaConfig, MoaGate,
    MoaLossWeights, RelativePositions, SwitchHeadConfig,
};
pub use multi_head::{AttentionPool, MultiHeadAttention};
