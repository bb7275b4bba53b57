//! The engine: a tape of fused operations over pooled buffers, and the CPU kernels under them.

mod error;

pub use error::{Error, Result};
