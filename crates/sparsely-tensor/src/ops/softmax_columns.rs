//! Softmax over the rows of a group, column by column.

use super::group_mix::num_groups;
use crate::Result;
use crate::kernel::elementwise::add_slice;
use crate::kernel::isa::simd;
use crate::kernel::math;
use crate::tape::Var;
use rayon::prelude::*;
use std::sync::Arc;

/// Rows of a block; part of the bits of a column's sum.
const ROWS: usize = 256;

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
        groups.for_each(|(y, x)| softmax_group(x, y, n));

        let out = tape.grad_id_if(&[self]);
        let var = tape.var(self.shape, y, out);
        let (x, p) = (self.grad, Arc::clone(&var.value));
        tape.record(out, move |backward, mut dy| {
            let groups = dy.as_f32_mut().par_chunks_mut(len).zip(p.as_f32().par_chunks(len));
            groups.for_each(|(dy, p)| softmax_group_backward(p, dy, n));
            backward.give(x, dy);
        });
        Ok(var)
    }
}

/// `[S, N]` to its softmax by columns. Blocks of rows have sums of their own, which are added in
/// order: a single large group uses every thread too.
fn softmax_group(x: &[f32], y: &mut [f32], n: usize) {
    let blocks = || x.par_chunks(ROWS * n);
    let max = blocks().map(|x| column_max(x, n)).collect::<Vec<_>>();
    let max = max.into_iter().reduce(|mut all, own| {
        column_max_of(&mut all, &own);
        all
    });
    let Some(max) = max else { return };
    let sums = blocks().zip(y.par_chunks_mut(ROWS * n)).map(|(x, y)| exp_sums(x, y, &max));
    let sums = sums.collect::<Vec<_>>().into_iter().reduce(|mut all, own| {
        add_slice(&mut all, &own);
        all
    });
    let inverse: Vec<f32> = sums.into_iter().flatten().map(|sum| 1.0 / sum).collect();
    y.par_chunks_mut(ROWS * n).for_each(|y| scale_columns(y, &inverse));
}

/// `dp` to p · (dp − Σ_rows p·dp), column by column.
fn softmax_group_backward(p: &[f32], dp: &mut [f32], n: usize) {
    let blocks = p.par_chunks(ROWS * n).zip(dp.par_chunks(ROWS * n));
    let totals = blocks.map(|(p, dp)| column_dots(p, dp, n)).collect::<Vec<_>>();
    let totals = totals.into_iter().reduce(|mut all, own| {
        add_slice(&mut all, &own);
        all
    });
    let Some(totals) = totals else { return };
    let blocks = p.par_chunks(ROWS * n).zip(dp.par_chunks_mut(ROWS * n));
    blocks.for_each(|(p, dp)| centre_columns(p, dp, &totals));
}

fn column_max(x: &[f32], n: usize) -> Vec<f32> {
    let mut max = vec![f32::NEG_INFINITY; n];
    column_max_of(&mut max, x);
    max
}

simd! {
    fn column_max_of<I>(max: &mut [f32], x: &[f32]) {
        for x in x.chunks_exact(max.len()) {
            for (max, x) in max.iter_mut().zip(x) {
                *max = if *x > *max { *x } else { *max };
            }
        }
    }
}

fn exp_sums(x: &[f32], y: &mut [f32], max: &[f32]) -> Vec<f32> {
    let mut sums = vec![0.0; max.len()];
    add_exps(x, y, max, &mut sums);
    sums
}

simd! {
    fn add_exps<I>(x: &[f32], y: &mut [f32], max: &[f32], sums: &mut [f32]) {
        let n = sums.len();
        let max = &max[..n];
        for (x, y) in x.chunks_exact(n).zip(y.chunks_exact_mut(n)) {
            for i in 0..n {
                y[i] = math::exp::<I>(x[i] - max[i]);
                sums[i] += y[i];
            }
        }
    }
}

simd! {
    fn scale_columns<I>(y: &mut [f32], factors: &[f32]) {
        for y in y.chunks_exact_mut(factors.len()) {
            for (y, factor) in y.iter_mut().zip(factors) {
                *y *= factor;
            }
        }
    }
}

fn column_dots(p: &[f32], dp: &[f32], n: usize) -> Vec<f32> {
    let mut totals = vec![0.0; n];
    add_column_dots(p, dp, &mut totals);
    totals
}

simd! {
    fn add_column_dots<I>(p: &[f32], dp: &[f32], totals: &mut [f32]) {
        let n = totals.len();
        for (p, dp) in p.chunks_exact(n).zip(dp.chunks_exact(n)) {
            for i in 0..n {
                totals[i] = I::fma(p[i], dp[i], totals[i]);
            }
        }
    }
}

simd! {
    fn centre_columns<I>(p: &[f32], dp: &mut [f32], totals: &[f32]) {
        let n = totals.len();
        for (p, dp) in p.chunks_exact(n).zip(dp.chunks_exact_mut(n)) {
            for i in 0..n {
                dp[i] = p[i] * (dp[i] - totals[i]);
            }
        }
    }
}
