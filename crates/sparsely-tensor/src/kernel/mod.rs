//! Kernels on slices. They know strides and instruction sets; they do not know the tape.

pub(crate) mod count;
pub(crate) mod elementwise;
mod fetch;
mod few_rows;
pub(crate) mod gemm;
pub(crate) mod isa;
pub(crate) mod math;
pub(crate) mod peak;
mod product;
pub(crate) mod reduce;
mod register;
pub(crate) mod scratch;
pub(crate) mod transpose;
