//! Loops over whole slices. Lengths are equal by contract of the callers.

use super::isa::{Isa, simd};
use super::math;
use crate::precision::{Bf16, Stored};
use rayon::prelude::*;

/// Elements of a task, for loops that run over a whole buffer.
const TASK: usize = 1 << 15;

/// `y += x`, on all threads.
pub(crate) fn add(y: &mut [f32], x: &[f32]) {
    y.par_chunks_mut(TASK).zip(x.par_chunks(TASK)).for_each(|(y, x)| add_slice(y, x));
}

simd! {
    pub(crate) fn add_slice<I>(y: &mut [f32], x: &[f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y += x;
        }
    }
}

simd! {
    /// The nearest bf16 of each value, if there is room for them.
    pub(crate) fn narrow<I>(x: &[f32], y: &mut [Bf16]) {
        debug_assert!(y.is_empty() || y.len() == x.len(), "room for all or none");
        for (y, x) in y.iter_mut().zip(x) {
            *y = Bf16::nearest(*x);
        }
    }
}

simd! {
    /// The values.
    pub(crate) fn widen<I>(x: &[Bf16], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = x.value();
        }
    }
}

/// [`widen`], on all threads.
pub(crate) fn widen_all(x: &[Bf16], y: &mut [f32]) {
    y.par_chunks_mut(TASK).zip(x.par_chunks(TASK)).for_each(|(y, x)| widen(x, y));
}

simd! {
    /// `y += a·x`.
    pub(crate) fn axpy<I>(y: &mut [f32], a: f32, x: &[f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = I::fma(a, *x, *y);
        }
    }
}

simd! {
    /// `y = a·x`.
    fn scaled_copy<I>(y: &mut [f32], a: f32, x: &[f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y = a * *x;
        }
    }
}

/// Rows of `x`, of some width, that are named, each times its factor.
pub(crate) fn scaled_rows(
    (x, width): (&[f32], usize),
    rows: &[u32],
    factors: &[f32],
    out: &mut [f32],
) {
    for ((row, factor), out) in rows.iter().zip(factors).zip(out.chunks_mut(width)) {
        scaled_copy(out, *factor, &x[*row as usize * width..][..width]);
    }
}

simd! {
    /// `y *= a`.
    pub(crate) fn scale<I>(y: &mut [f32], a: f32) {
        for y in y {
            *y *= a;
        }
    }
}

simd! {
    /// `y *= a·x`.
    pub(crate) fn scale_by<I>(y: &mut [f32], a: f32, x: &[f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y *= a * x;
        }
    }
}

simd! {
    pub(crate) fn dot<I>(x: &[f32], y: &[f32]) -> f32 {
        super::reduce::dot::<I>(x, y)
    }
}

/// A function that a linear layer applies to its input as it reads it, so that only the value
/// before it is ever stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activation {
    /// x.
    Identity,
    /// The tanh-approximate GELU.
    Gelu,
    /// tanh x.
    Tanh,
    /// 1 / (1 + e⁻ˣ).
    Sigmoid,
    /// max(x, 0); its slope at 0 is 0.
    Relu,
}

/// `y = act(x)`, in a function that is compiled for an instruction set.
#[inline(always)]
pub(super) fn activate_row<I: Isa, S: Stored>(act: Activation, x: &[S], y: &mut [f32]) {
    // Plain loops: the closure of a `for_each` may be compiled without the instruction set.
    let pairs = y.iter_mut().zip(x);
    match act {
        Activation::Identity => {
            for (y, x) in pairs {
                *y = x.value();
            }
        }
        Activation::Gelu => {
            for (y, x) in pairs {
                *y = math::gelu::<I>(x.value());
            }
        }
        Activation::Tanh => {
            for (y, x) in pairs {
                *y = math::tanh::<I>(x.value());
            }
        }
        Activation::Sigmoid => {
            for (y, x) in pairs {
                *y = math::sigmoid::<I>(x.value());
            }
        }
        Activation::Relu => {
            for (y, x) in pairs {
                *y = if x.value() > 0.0 { x.value() } else { 0.0 };
            }
        }
    }
}

/// `d *= act'(x)`, in a function that is compiled for an instruction set.
#[inline(always)]
pub(super) fn scale_by_slope<I: Isa, S: Stored>(act: Activation, x: &[S], d: &mut [f32]) {
    let pairs = d.iter_mut().zip(x);
    match act {
        Activation::Identity => {}
        Activation::Gelu => {
            for (d, x) in pairs {
                *d *= math::gelu_slope::<I>(x.value());
            }
        }
        Activation::Tanh => {
            for (d, x) in pairs {
                let t = math::tanh::<I>(x.value());
                *d *= I::fma(-t, t, 1.0);
            }
        }
        Activation::Sigmoid => {
            for (d, x) in pairs {
                let s = math::sigmoid::<I>(x.value());
                *d *= I::fma(-s, s, s);
            }
        }
        Activation::Relu => {
            for (d, x) in pairs {
                *d = if x.value() > 0.0 { *d } else { 0.0 };
            }
        }
    }
}

simd! {
    /// `y = act(x)`.
    pub(crate) fn activate<I>(act: Activation, x: &[f32], y: &mut [f32]) {
        activate_row::<I, f32>(act, x, y);
    }
}

simd! {
    /// `d *= act'(x)`.
    pub(crate) fn activate_backward<I>(act: Activation, x: &[f32], d: &mut [f32]) {
        scale_by_slope::<I, f32>(act, x, d);
    }
}

simd! {
    /// `y = act(x)` and `slope = act'(x)`.
    pub(crate) fn activate_with_slope<I>(act: Activation, x: &[f32], y: &mut [f32], slope: &mut [f32]) {
        if act == Activation::Gelu {
            for ((x, y), slope) in x.iter().zip(y).zip(slope) {
                (*y, *slope) = math::gelu_with_slope::<I>(*x);
            }
            return;
        }
        activate_row::<I, f32>(act, x, y);
        slope.fill(1.0);
        scale_by_slope::<I, f32>(act, x, slope);
    }
}
