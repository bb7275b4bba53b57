//! Kernels on slices. They know strides and instruction sets; they do not know the tape.

#[cfg(target_arch = "x86_64")]
mod avx512;
pub(crate) mod elementwise;
pub mod gemm;
pub mod isa;
pub mod math;
pub(crate) mod reduce;
pub(crate) mod scratch;
