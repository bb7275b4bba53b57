//! Dense mixtures within groups of rows: columns of weights make slots out of rows, rows of
//! weights make rows out of slots (Soft MoE, arXiv 2308.00951).

use crate::kernel::gemm::{gemm, gemm_by_rows, mat, mat_mut};
use crate::kernel::isa::simd;
use crate::kernel::math;
use crate::tape::{Var, Write};
use crate::{Error, Result, Shape};
use rayon::prelude::*;
use std::sync::Arc;

/// With fewer groups than this a product is cut for the threads; the cut is not in its bits.
const FEW_GROUPS: usize = 8;

impl<'t> Var<'t> {
    /// Softmax over the rows of each group of `group_rows`, column by column: `[G·S, N]`; the
    /// columns of a group sum to 1.
    ///
    /// # Errors
    /// If the groups do not divide the rows.
    pub fn softmax_columns(&self, group_rows: usize) -> Result<Var<'t>> {
        let [t, n] = self.dims("softmax_columns")?;
        num_groups("softmax_columns", t, group_rows)?;
        let tape = self.tape;
        let mut y = tape.take(t * n);
        let len = (group_rows * n).max(1);
        let groups = y.as_f32_mut().par_chunks_mut(len).zip(self.values().par_chunks(len));
        groups.for_each(|(y, x)| softmax_group(x, y, &mut vec![0.0; 2 * n]));

        let out = tape.grad_id_if(&[self]);
        let var = tape.var(self.shape, y, out);
        let (x, p) = (self.grad, Arc::clone(&var.value));
        tape.record(out, move |backward, mut dy| {
            let groups = dy.as_f32_mut().par_chunks_mut(len).zip(p.as_f32().par_chunks(len));
            groups.for_each(|(dy, p)| softmax_group_backward(p, dy, &mut vec![0.0; n]));
            backward.give(x, dy);
        });
        Ok(var)
    }

    /// Wᵀ x within each group of `group_rows` rows: x `[G·S, D]`, weights `[G·S, N]` → `[G·N, D]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn gather_mix(&self, weights: &Var<'t>, group_rows: usize) -> Result<Var<'t>> {
        let ([t, d], [rows, n]) = (self.dims("gather_mix")?, weights.dims("gather_mix")?);
        let groups = num_groups("gather_mix", t, group_rows)?;
        if rows != t {
            let (expected, got) = (format!("weights [{t}, N]"), format!("{:?}", weights.shape));
            return Err(Error::shape("gather_mix", expected, got));
        }
        let tape = self.tape;
        let extents = Extents { groups, s: group_rows, n, d };
        let mut y = tape.take(groups * n * d);
        extents.products(
            Product::SlotsOfRows,
            Write::Replace,
            y.as_f32_mut(),
            [weights.values(), self.values()],
        );

        let out = tape.grad_id_if(&[self, weights]);
        let (x, w) = (self.clone_saved(), weights.clone_saved());
        tape.record(out, move |backward, dy| {
            let (x_values, w_values) = (x.value.as_f32(), w.value.as_f32());
            backward.contribute(x.grad, x_values.len(), |dx, write| {
                extents.products(Product::RowsOfSlots, write, dx, [w_values, dy.as_f32()]);
            });
            backward.contribute(w.grad, w_values.len(), |dw, write| {
                extents.products(Product::Weights, write, dw, [x_values, dy.as_f32()]);
            });
        });
        Ok(tape.var(Shape::from([groups * n, d]), y, out))
    }

    /// W ỹ + residual within each group of `group_rows` rows: slots ỹ `[G·N, D]`, weights `[G·S, N]`,
    /// residual `[G·S, D]` → `[G·S, D]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn scatter_mix(
        &self,
        weights: &Var<'t>,
        group_rows: usize,
        residual: Option<&Var<'t>>,
    ) -> Result<Var<'t>> {
        let ([slots, d], [t, n]) = (self.dims("scatter_mix")?, weights.dims("scatter_mix")?);
        let groups = num_groups("scatter_mix", t, group_rows)?;
        let shape = Shape::from([t, d]);
        if slots != groups * n || residual.is_some_and(|r| r.shape != shape) {
            let expected = format!("[{}, {d}], residual [{t}, {d}]", groups * n);
            let got = format!("{:?}, residual {:?}", self.shape, residual.map(|r| r.shape));
            return Err(Error::shape("scatter_mix", expected, got));
        }
        let tape = self.tape;
        let extents = Extents { groups, s: group_rows, n, d };
        let mut y = tape.take(t * d);
        let write = match residual {
            Some(residual) => {
                y.as_f32_mut().copy_from_slice(residual.values());
                Write::Add
            }
            None => Write::Replace,
        };
        extents.products(
            Product::RowsOfSlots,
            write,
            y.as_f32_mut(),
            [weights.values(), self.values()],
        );

        let out = match residual {
            Some(residual) => tape.grad_id_if(&[self, weights, residual]),
            None => tape.grad_id_if(&[self, weights]),
        };
        let residual = residual.and_then(|r| r.grad);
        let (y_slots, w) = (self.clone_saved(), weights.clone_saved());
        tape.record(out, move |backward, dy| {
            let (slot_values, w_values) = (y_slots.value.as_f32(), w.value.as_f32());
            backward.contribute(y_slots.grad, slot_values.len(), |d_slots, write| {
                extents.products(Product::SlotsOfRows, write, d_slots, [w_values, dy.as_f32()]);
            });
            backward.contribute(w.grad, w_values.len(), |dw, write| {
                extents.products(Product::Weights, write, dw, [dy.as_f32(), slot_values]);
            });
            backward.give(residual, dy);
        });
        Ok(tape.var(shape, y, out))
    }
}

fn num_groups(op: &'static str, t: usize, group_rows: usize) -> Result<usize> {
    if group_rows == 0 || !t.is_multiple_of(group_rows) {
        return Err(Error::shape(op, format!("a divisor of {t} rows"), format!("{group_rows}")));
    }
    Ok(t / group_rows)
}

/// G groups of S rows and N slots, all of width D.
#[derive(Clone, Copy)]
struct Extents {
    groups: usize,
    s: usize,
    n: usize,
    d: usize,
}

/// A product of each group.
#[derive(Clone, Copy)]
enum Product {
    /// `[N, D]` from weights `[S, N]` and rows `[S, D]`.
    SlotsOfRows,
    /// `[S, D]` from weights `[S, N]` and slots `[N, D]`.
    RowsOfSlots,
    /// `[S, N]` from rows `[S, D]` and slots `[N, D]`.
    Weights,
}

impl Extents {
    /// Computes a product of every group into `dst`.
    fn products(self, product: Product, write: Write, dst: &mut [f32], [a, b]: [&[f32]; 2]) {
        let Extents { groups, s, n, d } = self;
        let ([rows, cols], [a_len, b_len]) = match product {
            Product::SlotsOfRows => ([n, d], [s * n, s * d]),
            Product::RowsOfSlots => ([s, d], [s * n, n * d]),
            Product::Weights => ([s, n], [s * d, n * d]),
        };
        let gemm = if groups < FEW_GROUPS { gemm_by_rows } else { gemm };
        let one = |dst: &mut [f32], a: &[f32], b: &[f32]| {
            let dst = mat_mut(dst, rows, cols);
            match product {
                Product::SlotsOfRows => gemm(dst, write, mat(a, s, n).transpose(), mat(b, s, d)),
                Product::RowsOfSlots => gemm(dst, write, mat(a, s, n), mat(b, n, d)),
                Product::Weights => gemm(dst, write, mat(a, s, d), mat(b, n, d).transpose()),
            }
        };
        let factors = a.par_chunks(a_len.max(1)).zip(b.par_chunks(b_len.max(1)));
        let results = dst.par_chunks_mut((rows * cols).max(1));
        results.zip(factors).for_each(|(dst, (a, b))| one(dst, a, b));
    }
}

simd! {
    /// `[S, N]` to its softmax by columns; `sums` is 2·N of working memory.
    fn softmax_group<I>(x: &[f32], y: &mut [f32], sums: &mut [f32]) {
        let n = sums.len() / 2;
        let (max, sum) = sums.split_at_mut(n);
        max.fill(f32::NEG_INFINITY);
        sum.fill(0.0);
        for x in x.chunks_exact(n) {
            for (max, x) in max.iter_mut().zip(x) {
                *max = if *x > *max { *x } else { *max };
            }
        }
        for (x, y) in x.chunks_exact(n).zip(y.chunks_exact_mut(n)) {
            for i in 0..n {
                y[i] = math::exp::<I>(x[i] - max[i]);
                sum[i] += y[i];
            }
        }
        for sum in sum.iter_mut() {
            *sum = 1.0 / *sum;
        }
        for y in y.chunks_exact_mut(n) {
            for (y, inverse) in y.iter_mut().zip(sum.iter()) {
                *y *= inverse;
            }
        }
    }
}

simd! {
    /// `dp` to p · (dp − Σ_rows p·dp), column by column; `totals` is N of working memory.
    fn softmax_group_backward<I>(p: &[f32], dp: &mut [f32], totals: &mut [f32]) {
        let n = totals.len();
        totals.fill(0.0);
        for (p, dp) in p.chunks_exact(n).zip(dp.chunks_exact(n)) {
            for i in 0..n {
                totals[i] = I::fma(p[i], dp[i], totals[i]);
            }
        }
        for (p, dp) in p.chunks_exact(n).zip(dp.chunks_exact_mut(n)) {
            for i in 0..n {
                dp[i] = p[i] * (dp[i] - totals[i]);
            }
        }
    }
}
