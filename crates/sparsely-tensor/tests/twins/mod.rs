//! Slow twins: every operation as plain loops, forward and backward, from its formula alone.
//!
//! A twin has no options: a missing bias or residual is one of zeros. Values are flat and
//! row-major, as on the tape.

#![allow(clippy::needless_range_loop, reason = "the indices are those of the formulas")]

pub(crate) mod attention;
pub(crate) mod block;
pub(crate) mod dense;
pub(crate) mod graph;
pub(crate) mod grouped;
pub(crate) mod language;
pub(crate) mod mixing;
pub(crate) mod norm;
pub(crate) mod routed;
pub(crate) mod scalar;
pub(crate) mod statistics;
pub(crate) mod tokens;
pub(crate) mod transport;

use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub, SubAssign};

/// The numbers that twins compute with: f64 for the truth, f32 for what rounding may cost.
pub(crate) trait Real:
    Copy
    + PartialOrd
    + Sum
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
{
    fn of(x: f64) -> Self;
    fn exp(self) -> Self;
    fn ln(self) -> Self;
    fn tanh(self) -> Self;
    fn sqrt(self) -> Self;
    /// Φ, the distribution function of the standard normal.
    fn normal_cdf(self) -> Self;
}

macro_rules! real {
    ($float:ident) => {
        impl Real for $float {
            fn of(x: f64) -> Self {
                x as $float
            }
            fn exp(self) -> Self {
                $float::exp(self)
            }
            fn ln(self) -> Self {
                $float::ln(self)
            }
            fn tanh(self) -> Self {
                $float::tanh(self)
            }
            fn sqrt(self) -> Self {
                $float::sqrt(self)
            }
            fn normal_cdf(self) -> Self {
                normal_cdf(f64::from(self)) as $float
            }
        }
    };
}
real!(f32);
real!(f64);

/// Φ(x) = ½ + φ(x) (x + x³/3 + x⁵/(3·5) + …).
fn normal_cdf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, 0.0);
    for n in 0..300 {
        sum += term;
        term *= x * x / f64::from(2 * n + 3);
    }
    0.5 + sum * density(x)
}

/// φ(x) = exp(−x²/2) / √(2π).
fn density<R: Real>(x: R) -> R {
    (-x * x * R::of(0.5)).exp() / R::of(std::f64::consts::TAU.sqrt())
}

/// An operation on flat inputs.
pub(crate) trait Twin<R: Real> {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R>;

    /// The gradients of ⟨dy, forward(inputs)⟩ with respect to each input.
    fn backward(&self, inputs: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>>;
}

/// A twin in both precisions.
pub(crate) trait Both: Twin<f64> + Twin<f32> {}
impl<T: Twin<f64> + Twin<f32>> Both for T {}

fn zeros<R: Real>(len: usize) -> Vec<R> {
    vec![R::of(0.0); len]
}

fn indicator<R: Real>(holds: bool) -> R {
    R::of(f64::from(u8::from(holds)))
}

#[test]
fn the_normal_distribution_has_its_tabulated_values() {
    for (x, p) in [(0.0, 0.5), (1.0, 0.841_344_746), (-1.959_963_985, 0.025), (3.0, 0.998_650_102)]
    {
        assert!((normal_cdf(x) - p).abs() < 1e-9, "Φ({x}) = {}", normal_cdf(x));
    }
}
