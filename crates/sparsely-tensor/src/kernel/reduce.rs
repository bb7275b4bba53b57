//! Sums whose order is fixed: sixteen lanes, then the lanes from first to last.
//!
//! The compiler may not reorder floating-point sums, so a plain loop would not vectorise.

use super::isa::Isa;

const LANES: usize = 16;

#[inline(always)]
fn lanes(
    f: impl Fn(usize) -> f32,
    len: usize,
    mut add: impl FnMut(f32, f32) -> f32,
    zero: f32,
) -> f32 {
    let mut acc = [zero; LANES];
    let whole = len / LANES * LANES;
    let mut i = 0;
    while i < whole {
        for (lane, a) in acc.iter_mut().enumerate() {
            *a = add(*a, f(i + lane));
        }
        i += LANES;
    }
    for (lane, a) in acc.iter_mut().enumerate() {
        if whole + lane < len {
            *a = add(*a, f(whole + lane));
        }
    }
    acc.into_iter().reduce(&mut add).unwrap_or(zero)
}

#[inline(always)]
pub(crate) fn sum(x: &[f32]) -> f32 {
    lanes(|i| x[i], x.len(), |a, b| a + b, 0.0)
}

#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    lanes(|i| x[i], x.len(), |a, b| if b > a { b } else { a }, f32::NEG_INFINITY)
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
