//! What the factors of a matrix product are rounded to.

/// Precision of matrix products. Sums are f32 in both, and so is all that is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Factors as they are.
    #[default]
    F32,
    /// Factors rounded to the nearest bf16, ties to even.
    Bf16,
}

/// The nearest bf16, ties to even. NaN stays NaN; what is beyond the largest bf16 becomes infinite.
pub(crate) fn nearest_bf16(x: f32) -> f32 {
    if x.is_nan() {
        return x;
    }
    let bits = x.to_bits();
    // Half a unit of the last kept place, less one where that place is even.
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    f32::from_bits(rounded & 0xffff_0000)
}

#[cfg(test)]
mod tests {
    use super::nearest_bf16;

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
}
