//! Products by `faer`, where there is no kernel of ours.

use super::{Dots, Finish, Left, MatMut, MatRef, Right, Scatter, Start, Values, mat, mat_mut};
use crate::Activation;
use crate::kernel::elementwise::{activate, activate_backward, axpy, dot};
use crate::kernel::scratch::with_scratch;
use crate::precision::{Precision, nearest_bf16};
use faer::linalg::matmul::matmul;
use faer::prelude::{Reborrow, ReborrowMut};
use faer::{Accum, Par};

/// Below this many rows `faer` takes another path, whose sums have other bits.
const MIN_ROWS: usize = 4;

/// [`product_scatter`] by the portable product.
pub(super) fn portable_scatter(
    mut dst: MatMut<'_>,
    (left, right): (Left<'_>, &Right<'_>),
    scatter: Scatter<'_>,
    mut dots: Option<Dots<'_>>,
) {
    let (m, n) = (left.num_rows(), dst.ncols());
    with_scratch(m * n, |out| {
        portable(mat_mut(out, m, n), Start::Zero, left, right, Finish::None);
        for (r, out) in out.chunks(n).enumerate() {
            let row = scatter.row(r);
            if let Some(Dots { at, sums }) = &mut dots {
                let at = at.row(row).try_as_row_major().expect("neighbours");
                sums[r] = dot(at.as_slice(), out);
            }
            let dst = dst.rb_mut().row_mut(row).try_as_row_major_mut().expect("neighbours");
            axpy(dst.as_slice_mut(), scatter.gate(r), out);
        }
    });
}

/// The product by `faer`, which the factors are rounded for where they have to be.
pub(super) fn portable(
    mut dst: MatMut<'_>,
    start: Start<'_>,
    left: Left<'_>,
    right: &Right<'_>,
    finish: Finish<'_>,
) {
    let (m, k) = (left.num_rows(), left.num_inner());
    let (Values::F32(a), None, None) = (left.values, left.rows, left.inner) else {
        return with_scratch(m * k, |rows| {
            for (i, row) in rows.chunks_mut(k.max(1)).enumerate() {
                for (p, x) in row.iter_mut().enumerate() {
                    *x = left.value([i, p]);
                }
            }
            let left = Left::active(mat(rows, m, k), left.act);
            portable(dst, start, left, right, finish);
        });
    };
    let (Values::F32(b), None) = (right.values(), right.rows()) else {
        let n = dst.ncols();
        return with_scratch(k * n, |rows| {
            for (p, row) in rows.chunks_mut(n).enumerate() {
                for (j, x) in row.iter_mut().enumerate() {
                    *x = right.value([p, j]);
                }
            }
            let right = Right::new(mat(rows, k, n), right.precision());
            portable(dst, start, left, &right, finish);
        });
    };
    if left.act != Activation::Identity {
        return with_scratch(m * k, |u| {
            let mut values = mat_mut(u, m, k);
            values.copy_from(a);
            with_scratch(m * k, |x| {
                x.copy_from_slice(u);
                activate(left.act, x, u);
            });
            portable(dst, start, mat(u, m, k).into(), right, finish);
        });
    }
    if right.precision() == Precision::Bf16 {
        return with_rounded(a, |a| {
            with_rounded(b, |b| {
                portable(dst, start, a.into(), &Right::new(b, Precision::F32), finish);
            });
        });
    }
    fill(dst.rb_mut(), start);
    if k > 0 {
        add_by_faer(dst.rb_mut(), a, b);
    }
    if let Finish::Slope { act, at } = finish {
        for i in 0..m {
            for j in 0..dst.ncols() {
                let mut d = [dst[(i, j)]];
                activate_backward(act, &[at.value(i, j)], &mut d);
                dst[(i, j)] = d[0];
            }
        }
    }
}

/// Calls `f` with a copy that is rounded to bf16.
fn with_rounded(a: MatRef<'_>, f: impl FnOnce(MatRef<'_>)) {
    let (rows, cols) = (a.nrows(), a.ncols());
    with_scratch(rows * cols, |values| {
        mat_mut(values, rows, cols).copy_from(a);
        values.iter_mut().for_each(|value| *value = nearest_bf16(*value));
        f(mat(values, rows, cols));
    });
}

fn fill(mut dst: MatMut<'_>, start: Start<'_>) {
    match start {
        Start::Output => {}
        Start::Zero => dst.fill(0.0),
        Start::Terms { bias, residual } => {
            for i in 0..dst.nrows() {
                for j in 0..dst.ncols() {
                    dst[(i, j)] = bias.map_or(0.0, |b| b[j]) + residual.map_or(0.0, |r| r[(i, j)]);
                }
            }
        }
    }
}

fn add_by_faer(mut dst: MatMut<'_>, a: MatRef<'_>, b: MatRef<'_>) {
    let (m, k, n) = (dst.nrows(), a.ncols(), dst.ncols());
    if m >= MIN_ROWS {
        return matmul(dst, Accum::Add, a, b, 1.0, Par::Seq);
    }
    with_scratch(MIN_ROWS * (k + n), |scratch| {
        scratch.fill(0.0);
        let (a_pad, out) = scratch.split_at_mut(MIN_ROWS * k);
        mat_mut(a_pad, MIN_ROWS, k).subrows_mut(0, m).copy_from(a);
        mat_mut(out, MIN_ROWS, n).subrows_mut(0, m).copy_from(dst.rb());
        add_by_faer(mat_mut(out, MIN_ROWS, n), mat(a_pad, MIN_ROWS, k), b);
        dst.copy_from(mat(out, MIN_ROWS, n).subrows(0, m));
    });
}
