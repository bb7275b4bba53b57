//! Fused operations, one a file: each a method of [`crate::Var`] or [`crate::Tape`] with its
//! own backward.

mod activation;
mod attention;
mod blocks;
mod column_sum;
mod cosine;
mod cross_entropy;
mod dropout;
mod embedding;
mod group_mix;
mod grouped_linear;
mod head_norm;
mod layer_norm;
mod linear;
mod masked_attention;
mod masked_attention_block;
mod rotary;
mod round_bf16;
mod routed_linear;
mod router_statistics;
mod saved;
mod scalar;
mod scatter_rows;
mod sinkhorn;
mod softmax;
mod softmax_columns;
mod sparse_transport;
mod token_loss;
mod tokens;

pub(crate) use linear::linear_forward;
pub(crate) use saved::{Output, matrix};

pub use cross_entropy::CrossEntropy;
pub use grouped_linear::{GroupedWeights, RowGroups};
pub use masked_attention::{Attention, AttentionMask, Distances, causal_pairs};
pub use rotary::Rotary;
pub use routed_linear::Routes;
pub use sinkhorn::Sinkhorn;
pub use sparse_transport::{SparseTransport, Spread};
