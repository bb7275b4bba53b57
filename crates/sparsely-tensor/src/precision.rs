//! What the factors of a matrix product are rounded to.

use crate::DType;

/// Precision of matrix products. Sums are f32 in both, and so are residuals, logits, gradients of parameters and whatever may
/// have other readers than products. In bf16 what only products and the activations before them read is stored rounded (what
/// [`Var::linear_rounded`], [`Var::layer_norm_rounded`], [`Var::self_attention`] and [`Var::gather_linear`] give), its gradient
/// too if a product reads that, and other factors are kept so for the way back; the slope of an activation is that at the
/// rounded value. What a row gets from each of its experts ([`Var::scatter_linear`], and back) is rounded before it is added up
/// in f32.
///
/// [`Var::linear_rounded`]: crate::Var::linear_rounded
/// [`Var::layer_norm_rounded`]: crate::Var::layer_norm_rounded
/// [`Var::self_attention`]: crate::Var::self_attention
/// [`Var::gather_linear`]: crate::Var::gather_linear
/// [`Var::scatter_linear`]: crate::Var::scatter_linear
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Factors as they are.
    #[default]
    F32,
    /// Factors rounded to the nearest bf16, ties to even.
    Bf16,
}

impl Precision {
    /// How values are stored that products alone read.
    pub(crate) fn stored(self) -> DType {
        match self {
            Precision::F32 => DType::F32,
            Precision::Bf16 => DType::Bf16,
        }
    }
}

/// The upper half of an f32, as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(transparent)]
pub(crate) struct Bf16(u16);

/// How a value is stored.
pub(crate) trait Stored: Copy {
    /// The value.
    fn value(self) -> f32;
}

impl Stored for f32 {
    #[inline(always)]
    fn value(self) -> f32 {
        self
    }
}

impl Stored for Bf16 {
    #[inline(always)]
    fn value(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }
}

impl Bf16 {
    /// As [`nearest_bf16`]; what is below the normal range rounds here, where AVX-512 takes it as zero.
    #[inline(always)]
    pub(crate) fn nearest(x: f32) -> Bf16 {
        // The upper half of a NaN may be that of an infinity. Chosen before it is cut, as vectors do it best.
        let bits = if x.is_nan() { 0x7fc0_0000 } else { round_bits(x.to_bits()) };
        Bf16((bits >> 16) as u16)
    }
}

/// The nearest bf16, ties to even. NaN stays NaN; what is beyond the largest bf16 becomes infinite.
#[inline(always)]
pub(crate) fn nearest_bf16(x: f32) -> f32 {
    if x.is_nan() {
        return x;
    }
    f32::from_bits(round_bits(x.to_bits()) & 0xffff_0000)
}

/// The bits of a number whose upper half is the nearest bf16.
#[inline(always)]
fn round_bits(bits: u32) -> u32 {
    // Half a unit of the last kept place, less one where that place is even.
    bits.wrapping_add(0x7fff + (bits >> 16 & 1))
}

#[cfg(test)]
mod tests {
    use super::{Bf16, Stored, nearest_bf16};

    #[test]
    fn a_bf16_keeps_seven_bits_after_the_point() {
        // 1 + 1/256 is half way between 1 and 1 + 1/128: the even one is 1. Three halves go up.
        assert_eq!(nearest_bf16(1.0 + 1.0 / 256.0), 1.0);
        assert_eq!(nearest_bf16(1.0 + 3.0 / 256.0), 1.0 + 2.0 / 128.0);
        assert_eq!(nearest_bf16(-1.0 - 1.01 / 256.0), -1.0 - 1.0 / 128.0);
        assert_eq!(nearest_bf16(0.0).to_bits(), 0);
        assert_eq!(nearest_bf16(f32::MAX), f32::INFINITY);
        assert!(nearest_bf16(f32::NAN).is_nan());
    }

    #[test]
    fn half_the_bytes_hold_the_nearest_bf16() {
        for x in [0.0, -0.0, 1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, -3.3e-39, f32::MAX, f32::MIN] {
            assert_eq!(Bf16::nearest(x).value().to_bits(), nearest_bf16(x).to_bits());
        }
        assert!(Bf16::nearest(f32::from_bits(0x7f80_0001)).value().is_nan());
    }
}
