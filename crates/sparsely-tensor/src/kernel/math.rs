//! exp, tanh, erf and the GELUs without branches, so that loops over them vectorise.
//!
//! libm's versions are accurate to half an ulp and scalar; in a training step of a small
//! transformer they would take a tenth of the time. These are within a few ulp.

use super::isa::Isa;

const LOG2_E: f32 = std::f32::consts::LOG2_E;
// ln 2 in two parts: the first has few enough bits that n·LN2_HI is exact.
const LN2_HI: f32 = 0.693_359_4;
const LN2_LO: f32 = -2.121_944_4e-4;
// Adding and subtracting 1.5·2²³ rounds to the nearest integer.
const ROUND: f32 = 12_582_912.0;

/// 2ᵗ for |t| ≤ 125, within 1 ulp. A NaN gives anything: callers let it through themselves.
#[inline(always)]
fn exp2<I: Isa>(t: f32) -> f32 {
    let shifted = t + ROUND;
    let r = t - (shifted - ROUND);
    // Relative minimax polynomial on |r| ≤ ½.
    let p = I::fma(1.534_581_2e-4, r, 1.339_993_1e-3);
    let p = I::fma(p, r, 9.618_489e-3);
    let p = I::fma(p, r, 5.550_328_6e-2);
    let p = I::fma(p, r, 2.402_264_6e-1);
    let p = I::fma(p, r, 6.931_472e-1);
    let p = I::fma(p, r, 1.0);
    // The low mantissa bits of `shifted` are the exponent.
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// eˣ for x ≤ 0, as softmax needs it: within 1 ulp and |x| half ulps (the product with log₂ e is
/// rounded), 0 below −86; NaN stays NaN.
#[inline(always)]
pub(crate) fn exp_of_negative<I: Isa>(x: f32) -> f32 {
    let clamped = if x < -86.0 { -86.0 } else { x };
    let y = exp2::<I>(clamped * LOG2_E);
    let y = if x < -86.0 { 0.0 } else { y };
    if x.is_nan() { x } else { y }
}

/// eˣ, within 2 ulp on [−87.3, 88.7]; 0 below, +∞ above; NaN stays NaN.
#[inline(always)]
pub(crate) fn exp<I: Isa>(x: f32) -> f32 {
    let clamped = if x < -87.3 { -87.3 } else { x };
    let clamped = if clamped > 88.7 { 88.7 } else { clamped };
    let shifted = I::fma(clamped, LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = I::fma(n, -LN2_LO, I::fma(n, -LN2_HI, clamped));
    // Cephes' polynomial for (eʳ − 1 − r)/r² on |r| ≤ ln2/2.
    let p = I::fma(1.987_569_1e-4, r, 1.398_199_9e-3);
    let p = I::fma(p, r, 8.333_452e-3);
    let p = I::fma(p, r, 4.166_579_6e-2);
    let p = I::fma(p, r, 1.666_666_5e-1);
    let p = I::fma(p, r, 0.5);
    let p = I::fma(p * r, r, r) + 1.0;
    // The low mantissa bits of `shifted` are n: 2ⁿ in two factors, since n may be 128.
    let bits = shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let half = bits >> 1;
    let pow2 = |e: i32| f32::from_bits(((e + 127) as u32) << 23);
    let y = p * pow2(half) * pow2(bits - half);
    let y = if x < -87.3 { 0.0 } else { y };
    if x > 88.7 { f32::INFINITY } else { y }
}

/// tanh, within 4 ulp: a rational approximation (odd 13 over even 6), ±1 beyond ±7.905.
///
/// Exactly ±1: the slopes of tanh and GELU multiply 1 − tanh² by powers of a large x.
#[inline(always)]
pub(crate) fn tanh<I: Isa>(x: f32) -> f32 {
    const LIMIT: f32 = 7.905_311;
    let c = if x > LIMIT { LIMIT } else { x };
    let c = if c < -LIMIT { -LIMIT } else { c };
    let c2 = c * c;
    let p = I::fma(c2, -2.760_768_5e-16, 2.000_188e-13);
    let p = I::fma(c2, p, -8.604_672e-11);
    let p = I::fma(c2, p, 5.122_297e-8);
    let p = I::fma(c2, p, 1.485_722_4e-5);
    let p = I::fma(c2, p, 6.372_619e-4);
    let p = I::fma(c2, p, 4.893_524_6e-3);
    let q = I::fma(c2, 1.198_258_4e-6, 1.185_347_1e-4);
    let q = I::fma(c2, q, 2.268_434_6e-3);
    let q = I::fma(c2, q, 4.893_525e-3);
    let y = c * p / q;
    let y = if x > LIMIT { 1.0 } else { y };
    if x < -LIMIT { -1.0 } else { y }
}

/// 1 / (1 + e⁻ˣ), within 4 ulp; 0 and 1 where e⁻ˣ leaves the range of f32.
#[inline(always)]
pub(crate) fn sigmoid<I: Isa>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<I>(-x))
}

/// erf, absolute error below 5e-7: a rational approximation (odd 13 over even 8) on [−4, 4].
#[inline(always)]
pub(crate) fn erf<I: Isa>(x: f32) -> f32 {
    let c = if x > 4.0 { 4.0 } else { x };
    let c = if c < -4.0 { -4.0 } else { c };
    let c2 = c * c;
    let p = I::fma(c2, -2.726_142_3e-10, 2.770_681_4e-8);
    let p = I::fma(c2, p, -2.101_024e-6);
    let p = I::fma(c2, p, -5.692_506_5e-5);
    let p = I::fma(c2, p, -7.349_906_4e-4);
    let p = I::fma(c2, p, -2.954_6e-3);
    let p = I::fma(c2, p, -1.609_603_3e-2);
    let q = I::fma(c2, -1.456_607_2e-5, -2.133_740_6e-4);
    let q = I::fma(c2, q, -1.682_827e-3);
    let q = I::fma(c2, q, -7.373_329e-3);
    let q = I::fma(c2, q, -1.426_473_9e-2);
    c * p / q
}

const GELU_C: f32 = 0.797_884_6; // √(2/π)
const GELU_A: f32 = 0.044_715;

/// Beyond ±this GELU is x or 0 and its slope 1 or 0, to every bit but a denormal's.
const GELU_LIMIT: f32 = 9.95;

/// The tanh-approximate GELU: x/2 · (1 + tanh(√(2/π)(x + 0.044715 x³))), as x / (1 + e^(−2·…)).
#[inline(always)]
pub(crate) fn gelu<I: Isa>(x: f32) -> f32 {
    x / (1.0 + gelu_exp::<I>(gelu_clamped(x)))
}

/// The derivative of [`gelu`].
#[inline(always)]
pub(crate) fn gelu_slope<I: Isa>(x: f32) -> f32 {
    gelu_with_slope::<I>(x).1
}

/// [`gelu`], within an ulp of it, and its derivative.
#[inline(always)]
pub(crate) fn gelu_with_slope<I: Isa>(x: f32) -> (f32, f32) {
    let c = gelu_clamped(x);
    let e = gelu_exp::<I>(c);
    let s = 1.0 / (1.0 + e);
    // σ' = e·σ²: no difference of nearly equal numbers.
    let inner = 2.0 * GELU_C * I::fma(3.0 * GELU_A * c, c, 1.0);
    (x * s, I::fma(c * inner, e * s * s, s))
}

#[inline(always)]
fn gelu_clamped(x: f32) -> f32 {
    let c = if x > GELU_LIMIT { GELU_LIMIT } else { x };
    if c < -GELU_LIMIT { -GELU_LIMIT } else { c }
}

/// e^(−2 √(2/π)(c + 0.044715 c³)).
#[inline(always)]
fn gelu_exp<I: Isa>(c: f32) -> f32 {
    const SCALE: f32 = -2.0 * GELU_C * LOG2_E;
    exp2::<I>(c * I::fma(c * c, SCALE * GELU_A, SCALE))
}

#[cfg(test)]
mod tests {
    use super::super::isa::{Fused, Plain};
    use super::*;

    fn worst(f: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64, range: (f32, f32)) -> (f64, f64) {
        let (mut relative, mut absolute) = (0.0_f64, 0.0_f64);
        for i in 0..=200_000 {
            let x = range.0 + (range.1 - range.0) * i as f32 / 200_000.0;
            let (got, want) = (f64::from(f(x)), exact(f64::from(x)));
            absolute = absolute.max((got - want).abs());
            relative = relative.max((got - want).abs() / want.abs().max(1e-30));
        }
        (relative, absolute)
    }

    #[test]
    fn exp_is_within_two_ulp_of_the_true_value() {
        for f in [exp::<Fused>, exp::<Plain>] {
            assert!(worst(f, f64::exp, (-87.0, 88.0)).0 < 2.0 * 1.2e-7);
        }
    }

    #[test]
    fn exp_saturates_and_keeps_nan() {
        assert_eq!(exp::<Fused>(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp::<Fused>(-1e9), 0.0);
        assert_eq!(exp::<Fused>(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp::<Fused>(0.0), 1.0);
        assert!(exp::<Fused>(f32::NAN).is_nan());
    }

    #[test]
    fn exp_of_negative_is_close_where_it_matters_and_saturates() {
        for f in [exp_of_negative::<Fused>, exp_of_negative::<Plain>] {
            assert!(worst(f, f64::exp, (-1.0, 0.0)).0 < 2.0 * 1.2e-7);
            assert!(worst(f, f64::exp, (-16.0, 0.0)).0 < 9.0 * 1.2e-7);
            assert!(worst(f, f64::exp, (-86.0, 0.0)).0 < 44.0 * 1.2e-7);
            assert_eq!([f(0.0), f(-0.0), f(-87.0), f(f32::NEG_INFINITY)], [1.0, 1.0, 0.0, 0.0]);
            assert!(f(f32::NAN).is_nan());
        }
    }

    #[test]
    fn gelu_saturates_and_keeps_nan() {
        type Function = fn(f32) -> f32;
        let fused: [Function; 2] = [gelu::<Fused>, gelu_slope::<Fused>];
        for [f, slope] in [fused, [gelu::<Plain>, gelu_slope::<Plain>]] {
            for x in [9.94_f32, 9.95, 10.0, 100.0, 1e30] {
                assert_eq!([f(x), slope(x)], [x, 1.0]);
                assert!(f(-x).abs() < 1e-7 && slope(-x).abs() < 1e-33, "{x}");
            }
            assert_eq!([f(0.0), slope(0.0)], [0.0, 0.5]);
            assert!(f(f32::NAN).is_nan() && slope(f32::NAN).is_nan());
        }
    }

    #[test]
    fn tanh_is_within_four_ulp_of_the_true_value() {
        for f in [tanh::<Fused>, tanh::<Plain>] {
            assert!(worst(f, f64::tanh, (-12.0, 12.0)).0 < 4.0 * 1.2e-7);
        }
        assert!(tanh::<Fused>(f32::NAN).is_nan());
    }

    #[test]
    fn sigmoid_is_within_four_ulp_of_the_true_value() {
        for f in [sigmoid::<Fused>, sigmoid::<Plain>] {
            assert!(worst(f, |x| 1.0 / (1.0 + (-x).exp()), (-80.0, 80.0)).0 < 4.0 * 1.2e-7);
        }
        assert_eq!([sigmoid::<Fused>(-1e9), sigmoid::<Fused>(1e9)], [0.0, 1.0]);
    }

    #[test]
    fn erf_is_within_5e_7_of_its_series() {
        // erf x = 2/√π Σ (−1)ⁿ x²ⁿ⁺¹ / (n! (2n+1)), summed in f64.
        let series = |x: f64| {
            let (mut term, mut sum) = (x, x);
            for n in 1..200 {
                term *= -x * x / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            sum * 2.0 / std::f64::consts::PI.sqrt()
        };
        assert!(worst(erf::<Fused>, series, (-4.5, 4.5)).1 < 5e-7);
        assert!((erf::<Fused>(50.0) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn gelu_slope_is_the_central_difference_of_gelu() {
        let exact =
            |x: f64| 0.5 * x * (1.0 + (0.797_884_560_8 * (x + 0.044_715 * x * x * x)).tanh());
        let slope = |x: f64| (exact(x + 1e-5) - exact(x - 1e-5)) / 2e-5;
        assert!(worst(gelu::<Fused>, exact, (-6.0, 6.0)).1 < 2e-6);
        // 1 − t² keeps tanh's 4 ulp of 1 and is multiplied by up to 5 where it is not yet 0.
        assert!(worst(gelu_slope::<Fused>, slope, (-6.0, 6.0)).1 < 5e-6);
    }
}
