//! The f32 product of a few rows: the right factor is read once, where it lies.
//!
//! With so few rows the time is that of reading weights from memory, and packing them would read and
//! write them once more. Each element of the result is the same chain of multiply-adds as in
//! [`super::product`], so a row has the same bits.

use super::elementwise::{activate, activate_backward, add_slice, axpy, dot};
use super::gemm::{Dots, Finish, Left, MatMut, MatRef, Right, Scatter, Start};
use super::isa::{Isa, simd};
use super::scratch::with_scratch;
use crate::Precision;
use faer::prelude::ReborrowMut;
use rayon::prelude::*;

/// Most rows for which packing costs more than it gives.
pub(super) const FEW: usize = 6;

/// Elements of a right factor that are worth more than one thread.
const MUCH: usize = 1 << 16;

/// Rows of the right factor that are read side by side.
const TOGETHER: usize = 4;

/// The right factor, if this is how to compute a product of `m` rows with it.
pub(super) fn as_it_lies<'a>(m: usize, right: &Right<'a>) -> Option<MatRef<'a>> {
    let is_whole = right.panels().is_none() && right.rows().is_none();
    let values = right.values().floats()?;
    let fits = m <= FEW && is_whole && right.precision() == Precision::F32;
    (fits && values.col_stride() == 1).then_some(values)
}

/// `dst = finish(start + act(a)·b)`, summed in blocks of `block` of the inner dimension: neighbours in memory,
/// which threads read beside one another where there is much to read.
pub(super) fn compute(
    mut dst: MatMut<'_>,
    start: Start<'_>,
    left: Left<'_>,
    right: MatRef<'_>,
    (block, finish): (usize, Finish<'_>),
) {
    let (m, n) = (dst.nrows(), dst.ncols());
    with_sums((left, right), block, |sums| {
        let (first, others) = sums.split_at_mut(m * n);
        for (i, sums) in first.chunks_mut(n).enumerate() {
            add_start(sums, start, &dst, i);
            others.chunks(m * n).for_each(|more| add_slice(sums, &more[i * n..][..n]));
            for (j, sum) in sums.iter().enumerate() {
                dst[(i, j)] = *sum;
            }
        }
        if let Finish::Slope { act, at } = finish {
            for i in 0..m {
                for j in 0..n {
                    let mut d = [dst[(i, j)]];
                    activate_backward(act, &[at.value(i, j)], &mut d);
                    dst[(i, j)] = d[0];
                }
            }
        }
    });
}

/// [`super::gemm::product_scatter`], block after block of the inner dimension as its kernels add them.
pub(super) fn scatter(
    mut dst: MatMut<'_>,
    factors: (Left<'_>, MatRef<'_>),
    block: usize,
    scatter: Scatter<'_>,
    mut dots: Option<Dots<'_>>,
) {
    let (m, n) = (scatter.rows.len(), dst.ncols());
    if let Some(Dots { sums, .. }) = &mut dots {
        sums.fill(0.0);
    }
    with_sums(factors, block, |sums| {
        for sums in sums.chunks(m * n) {
            for (r, sums) in sums.chunks(n).enumerate() {
                let row = scatter.row(r);
                if let Some(Dots { at, sums: dots }) = &mut dots {
                    let at = at.row(row).try_as_row_major().expect("neighbours").as_slice();
                    dots[r] += dot(at, sums);
                }
                let dst = dst.rb_mut().row_mut(row).try_as_row_major_mut().expect("neighbours");
                axpy(dst.as_slice_mut(), scatter.gate(r), sums);
            }
        }
    });
}

/// Calls `f` with the sums of each block of the inner dimension, `[blocks, m, n]`.
fn with_sums((left, right): (Left<'_>, MatRef<'_>), block: usize, f: impl FnOnce(&mut [f32])) {
    let (m, k, n) = (left.num_rows(), left.num_inner(), right.ncols());
    with_scratch(m * (2 * k + k.div_ceil(block) * n), |scratch| {
        let (x, rest) = scratch.split_at_mut(m * k);
        let (raw, sums) = rest.split_at_mut(m * k);
        for (i, raw) in raw.chunks_mut(k).enumerate() {
            for (p, raw) in raw.iter_mut().enumerate() {
                *raw = left.value([i, p]);
            }
        }
        activate(left.act, raw, x);
        let sum_block = |(b, sums): (usize, &mut [f32])| {
            sums.fill(0.0);
            add_block(sums, x, right, [b * block, ((b + 1) * block).min(k)]);
        };
        if k * n < MUCH {
            sums.chunks_mut(m * n).enumerate().for_each(sum_block);
        } else {
            sums.par_chunks_mut(m * n).enumerate().for_each(sum_block);
        }
        f(sums);
    });
}

/// `sums += x[:, k0..k1]·right[k0..k1, :]`.
fn add_block(sums: &mut [f32], x: &[f32], right: MatRef<'_>, [k0, k1]: [usize; 2]) {
    let (k, n) = (right.nrows(), right.ncols());
    let row = |p: usize| right.row(p).try_as_row_major().expect("contiguous").as_slice();
    let mut p = k0;
    while p + TOGETHER <= k1 {
        let rows = [row(p), row(p + 1), row(p + 2), row(p + 3)];
        let own = |x: &[f32]| [x[p], x[p + 1], x[p + 2], x[p + 3]];
        // In one pass: in a second one memory would wait.
        for (x, sums) in x.chunks(4 * k).zip(sums.chunks_mut(4 * n)) {
            if sums.len() == 4 * n {
                let xs = [own(x), own(&x[k..]), own(&x[2 * k..]), own(&x[3 * k..])];
                four_of_four(sums, rows, xs);
                continue;
            }
            for (x, sums) in x.chunks(k).zip(sums.chunks_mut(n)) {
                four(sums, rows, own(x));
            }
        }
        p += TOGETHER;
    }
    for p in p..k1 {
        for (x, sums) in x.chunks(k).zip(sums.chunks_mut(n)) {
            one(sums, row(p), x[p]);
        }
    }
}

/// Adds what the product is added to, in the order of the tiles of [`super::product`].
fn add_start(sums: &mut [f32], start: Start<'_>, dst: &MatMut<'_>, i: usize) {
    match start {
        Start::Zero => {}
        Start::Output => {
            for (j, sum) in sums.iter_mut().enumerate() {
                *sum += dst[(i, j)];
            }
        }
        Start::Terms { bias, residual } => {
            if let Some(bias) = bias {
                add_slice(sums, bias);
            }
            if let Some(residual) = residual {
                for (j, sum) in sums.iter_mut().enumerate() {
                    *sum += residual[(i, j)];
                }
            }
        }
    }
}

/// `sum + Σ x·w`, one after the other.
#[inline(always)]
fn chain<I: Isa>(x: [f32; 4], w: [f32; 4], sum: f32) -> f32 {
    let sum = I::fma(x[1], w[1], I::fma(x[0], w[0], sum));
    I::fma(x[3], w[3], I::fma(x[2], w[2], sum))
}

simd! {
    /// `sums += Σ x·rows`, row after row.
    fn four<I>(sums: &mut [f32], rows: [&[f32]; 4], x: [f32; 4]) {
        let n = sums.len();
        let [a, b, c, d] = rows;
        let (a, b, c, d) = (&a[..n], &b[..n], &c[..n], &d[..n]);
        for j in 0..n {
            sums[j] = chain::<I>(x, [a[j], b[j], c[j], d[j]], sums[j]);
        }
    }
}

simd! {
    /// [`four`] of four rows of sums.
    fn four_of_four<I>(sums: &mut [f32], rows: [&[f32]; 4], x: [[f32; 4]; 4]) {
        let n = rows[0].len();
        let (s0, sums) = sums.split_at_mut(n);
        let (s1, sums) = sums.split_at_mut(n);
        let (s2, s3) = sums.split_at_mut(n);
        let s3 = &mut s3[..n];
        let [a, b, c, d] = rows;
        let (a, b, c, d) = (&a[..n], &b[..n], &c[..n], &d[..n]);
        for j in 0..n {
            let w = [a[j], b[j], c[j], d[j]];
            s0[j] = chain::<I>(x[0], w, s0[j]);
            s1[j] = chain::<I>(x[1], w, s1[j]);
            s2[j] = chain::<I>(x[2], w, s2[j]);
            s3[j] = chain::<I>(x[3], w, s3[j]);
        }
    }
}

simd! {
    /// `sums += x·row`.
    fn one<I>(sums: &mut [f32], row: &[f32], x: f32) {
        for (sum, row) in sums.iter_mut().zip(row) {
            *sum = I::fma(x, *row, *sum);
        }
    }
}
