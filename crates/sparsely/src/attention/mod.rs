//! Attention.

mod multi_head;

pub use multi_head::{AttentionPool, MultiHeadAttention};
