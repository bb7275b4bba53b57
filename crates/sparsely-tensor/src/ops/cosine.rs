//! Logits by direction: rows against columns of unit length (Soft MoE, arXiv 2308.00951, section 2.1).

use super::column_sum::add_row_blocks;
use crate::kernel::elementwise::{axpy, dot, scale as scale_slice};
use crate::kernel::gemm::{Right, Start, add_outer, gemm_by_rows, mat, mat_mut};
use crate::slab::Param;
use crate::tape::Var;
use crate::{DType, Error, Precision, Result, Shape};
use rayon::prelude::*;

const ROWS: usize = 64;

impl<'t> Var<'t> {
    /// scale · ⟨x̂_t, μ̂_n⟩ with x̂ = x/√(Σx² + eps), μ̂ likewise by column: x `[T, D]`, mu `[D, …]` of
    /// N columns, scale of one element → `[T, N]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn cosine_logits(&self, mu: &Param, scale: &Param, eps: f32) -> Result<Var<'t>> {
        let [t, d] = self.dims("cosine_logits")?;
        let axes = mu.shape();
        let n = axes.len() / axes.axes()[0].max(1);
        if axes.axes()[0] != d || scale.shape().len() != 1 {
            let expected = format!("mu [{d}, …] and one scale");
            let got = format!("mu {axes:?}, scale {:?}", scale.shape());
            return Err(Error::shape("cosine_logits", expected, got));
        }
        let tape = self.tape;
        let mut y = tape.take(t * n);
        let (x, mu_values) = (self.values(), tape.params().view(mu));
        gemm_by_rows(
            mat_mut(y.as_f32_mut(), t, n),
            Start::Zero,
            mat(x, t, d).into(),
            Right::new(mat(mu_values, d, n), Precision::F32),
        );
        let inverse_x = inverse_row_norms(x, d, eps);
        let mut columns = inverse_column_norms(mu_values, n, eps);
        scale_by(y.as_f32_mut(), &inverse_x, &columns, tape.params().view(scale)[0]);

        let out = tape.grad_id();
        let (x, mu, scale) = (self.clone_saved(), *mu, *scale);
        tape.record(out, move |backward, mut dy| {
            let factor = backward.params.view(&scale)[0];
            let x_values = x.value.as_f32();
            // The gradient of the plain products, but for the scale.
            scale_by(dy.as_f32_mut(), &inverse_x, &columns, 1.0);
            if x.grad.is_some() {
                let mut dx = backward.pool.take(DType::F32, t * d);
                let mu_t = mat(backward.params.view(&mu), d, n).transpose();
                gemm_by_rows(
                    mat_mut(dx.as_f32_mut(), t, d),
                    Start::Zero,
                    mat(dy.as_f32(), t, n).into(),
                    Right::new(mu_t, Precision::F32),
                );
                let rows = dx.as_f32_mut().par_chunks_mut(d).zip(x_values.par_chunks(d));
                rows.zip(&inverse_x).with_min_len(ROWS).for_each(|((dx, x), inverse)| {
                    // d(1/‖x‖) = −x/‖x‖³: the part along x goes.
                    let along = dot(x, dx);
                    axpy(dx, -along * inverse * inverse, x);
                    scale_slice(dx, factor);
                });
                backward.give(x.grad, dx);
            }
            let mut d_mu = backward.pool.take(DType::F32, d * n);
            d_mu.as_f32_mut().fill(0.0);
            let (x, dy) = (mat(x_values, t, d), mat(dy.as_f32(), t, n));
            let dy = Right::new(dy, Precision::F32);
            add_outer(d_mu.as_f32_mut(), x.into(), dy);
            let along = column_dots(backward.params.view(&mu), d_mu.as_f32(), n);
            backward.param_grad(&scale)[0] +=
                along.iter().map(|a| f64::from(*a)).sum::<f64>() as f32;
            columns
                .iter_mut()
                .zip(&along)
                .for_each(|(inverse, along)| *inverse = inverse.powi(2) * along);
            let mu_values = backward.params.view(&mu);
            let rows = backward.param_grad(&mu).chunks_mut(n).zip(d_mu.as_f32().chunks(n));
            for ((grad, products), mu) in rows.zip(mu_values.chunks(n)) {
                for c in 0..n {
                    grad[c] += factor * (products[c] - columns[c] * mu[c]);
                }
            }
        });
        Ok(tape.var(Shape::from([t, n]), y, out))
    }
}

fn inverse_row_norms(x: &[f32], d: usize, eps: f32) -> Vec<f32> {
    let inverse = |row: &[f32]| 1.0 / (dot(row, row) + eps).sqrt();
    x.par_chunks(d).with_min_len(ROWS).map(inverse).collect()
}

fn inverse_column_norms(mu: &[f32], n: usize, eps: f32) -> Vec<f32> {
    column_dots(mu, mu, n).into_iter().map(|sum| 1.0 / (sum + eps).sqrt()).collect()
}

/// Σ_d a_dn b_dn.
fn column_dots(a: &[f32], b: &[f32], n: usize) -> Vec<f32> {
    let mut sums = vec![0.0; n];
    add_row_blocks(&mut sums, a.len() / n.max(1), |rows, sums| {
        let elements = rows.start * n..rows.end * n;
        for (a, b) in a[elements.clone()].chunks(n).zip(b[elements].chunks(n)) {
            for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
                *sum += a * b;
            }
        }
    });
    sums
}

/// y_tn ·= factor · rows_t · columns_n.
fn scale_by(y: &mut [f32], rows: &[f32], columns: &[f32], factor: f32) {
    let n = columns.len();
    y.par_chunks_mut(n).zip(rows).with_min_len(ROWS).for_each(|(y, row)| {
        let row = factor * row;
        for (y, column) in y.iter_mut().zip(columns) {
            *y *= row * column;
        }
    });
}
