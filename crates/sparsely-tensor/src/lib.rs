//! The engine of Sparsely: a tape of fused operations over pooled buffers, and the CPU
//! kernels under them. It does not know what a token or an expert is.
//!
//! ```
//! use std::sync::Arc;
//! use sparsely_tensor::{Activation, CrossEntropy, Layout, Pool, Slab, Tape};
//!
//! let mut layout = Layout::default();
//! let w = layout.add("w", [2, 2], 0.0);
//! let mut params = Slab::zeros(Arc::new(layout));
//! params.view_mut(&w).copy_from_slice(&[1.0, 2.0, 3.0, 4.0]);
//!
//! let pool = Pool::new();
//! let tape = Tape::recording(&params, &pool);
//! let x = tape.constant([1, 2], &[1.0, 1.0])?;
//! let y = x.linear(Activation::Identity, &w, None, None)?;
//! assert_eq!(y.values(), &[4.0, 6.0]);
//!
//! // softmax([4, 6]) = [0.1192, 0.8808]; dL/dy = softmax − target; dL/dw = xᵀ dL/dy.
//! let loss = y.cross_entropy(CrossEntropy::Softmax, &[0.0, 1.0])?;
//! let mut grads = Slab::zeros(params.layout().clone());
//! tape.backward(&loss, &mut grads)?;
//! assert!((grads.view(&w)[0] - 0.1192).abs() < 1e-4);
//! # Ok::<(), sparsely_tensor::Error>(())
//! ```

mod buffer;
mod error;
mod kernel;
mod mapping;
pub mod measure;
mod ops;
pub mod optim;
mod packed;
mod precision;
mod rows;
mod shape;
mod slab;
mod tape;

pub use buffer::{Buffer, DType, Pool};
pub use error::{Error, Result};
pub use kernel::count::macs;
pub use kernel::elementwise::Activation;
pub use mapping::Mapping;
pub use ops::{
    Attention, AttentionMask, CrossEntropy, Distances, GroupedWeights, Rotary, Routes, RowGroups,
    Sinkhorn, SparseTransport, Spread, causal_pairs,
};
pub use packed::{PackedSlab, Params, Place, Usage};
pub use precision::Precision;
pub use rows::Rows;
pub use shape::Shape;
pub use slab::{Layout, Param, Slab, View};
pub use tape::{Tape, Var};
