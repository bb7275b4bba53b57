//! Sums whose order is fixed: sixteen lanes, then the lanes from first to last.
//!
//! The compiler may not reorder floating-point sums, so a plain loop would not vectorise.

use super::isa::Isa;

const LANES: usize = 16;

/// Folds sixteen lanes, then the lanes from first to last.
#[inline(always)]
fn fold(x: &[f32], zero: f32, f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut acc = [zero; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for lane in 0..LANES {
            acc[lane] = f(acc[lane], chunk[lane]);
        }
    }
    for lane in 0..rest.len() {
        acc[lane] = f(acc[lane], rest[lane]);
    }
    acc.into_iter().reduce(f).unwrap_or(zero)
}

#[inline(always)]
pub(crate) fn sum(x: &[f32]) -> f32 {
    fold(x, 0.0, |a, b| a + b)
}

#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    fold(x, f32::NEG_INFINITY, |a, b| if b > a { b } else { a })
}

#[inline(always)]
pub(crate) fn dot<I: Isa>(x: &[f32], y: &[f32]) -> f32 {
    let y = &y[..x.len()];
    let mut acc = [0.0_f32; LANES];
    let (xs, ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let (xr, yr) = (xs.remainder(), ys.remainder());
    for (xc, yc) in xs.zip(ys) {
        for lane in 0..LANES {
            acc[lane] = I::fma(xc[lane], yc[lane], acc[lane]);
        }
    }
    for lane in 0..xr.len() {
        acc[lane] = I::fma(xr[lane], yr[lane], acc[lane]);
    }
    sum(&acc)
}

/// Σ (x − mean)².
#[inline(always)]
pub(crate) fn sum_squares_around<I: Isa>(x: &[f32], mean: f32) -> f32 {
    let mut acc = [0.0_f32; LANES];
    let xs = x.chunks_exact(LANES);
    let rest = xs.remainder();
    for xc in xs {
        for lane in 0..LANES {
            let centred = xc[lane] - mean;
            acc[lane] = I::fma(centred, centred, acc[lane]);
        }
    }
    for lane in 0..rest.len() {
        let centred = rest[lane] - mean;
        acc[lane] = I::fma(centred, centred, acc[lane]);
    }
    sum(&acc)
}
