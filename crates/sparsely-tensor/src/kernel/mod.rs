//! Kernels on slices. They know strides and instruction sets; they do not know the tape.

#[cfg(target_arch = "x86_64")]
mod avx512;
pub(crate) mod elementwise;
pub(crate) mod gemm;
pub(crate) mod isa;
pub(crate) mod math;
pub(crate) mod reduce;
pub(crate) mod scratch;
pub(crate) mod transpose;
