//! Fused operations, one a file: each a method of [`crate::Var`] or [`crate::Tape`] with its
//! own backward.

mod activation;
mod attention;
mod column_sum;
mod cross_entropy;
mod dropout;
mod grouped_linear;
mod head_norm;
mod layer_norm;
mod linear;
mod router_statistics;
mod scalar;
mod softmax;
mod tokens;

pub use cross_entropy::CrossEntropy;
pub use grouped_linear::{GroupedWeights, RowGroups};
