//! Layer normalisation over the last axis.

use super::column_sum::add_row_blocks;
use super::saved::Output;
use crate::buffer::Buffer;
use crate::kernel::isa::simd;
use crate::kernel::reduce;
use crate::slab::Param;
use crate::tape::{Var, Write};
use crate::{DType, Error, Result};
use rayon::prelude::*;

const ROWS: usize = 64;

impl<'t> Var<'t> {
    /// y = (x − mean) / √(var + eps) · scale + bias over the last axis: `[…, D]` → `[…, D]`.
    ///
    /// # Errors
    /// If scale or bias are not `[D]`.
    pub fn layer_norm(&self, scale: &Param, bias: Option<&Param>, eps: f32) -> Result<Var<'t>> {
        self.layer_norm_into(self.tape.take(self.shape.len()), scale, bias, eps)
    }

    /// [`Var::layer_norm`] for what only products read: in bf16 it is stored rounded.
    ///
    /// # Errors
    /// As [`Var::layer_norm`].
    pub fn layer_norm_rounded(
        &self,
        scale: &Param,
        bias: Option<&Param>,
        eps: f32,
    ) -> Result<Var<'t>> {
        let y = self.tape.take_rounded(self.tape.precision(), self.shape.len());
        self.layer_norm_into(y, scale, bias, eps)
    }

    fn layer_norm_into(
        &self,
        mut y: Buffer,
        scale: &Param,
        bias: Option<&Param>,
        eps: f32,
    ) -> Result<Var<'t>> {
        let d = self.shape.width();
        if scale.shape().len() != d || bias.is_some_and(|b| b.shape().len() != d) {
            let got = format!("scale {:?}, bias {:?}", scale.shape(), bias.map(Param::shape));
            return Err(Error::shape("layer_norm", format!("scale and bias [{d}]"), got));
        }
        let tape = self.tape;
        let mut stats = tape.take(2 * self.shape.rows());
        let zeros = vec![0.0; d];
        let beta = bias.map_or(&zeros[..], |b| tape.params().view(b));
        let gamma = tape.params().view(scale);
        let blocks = Output::of(&mut y).chunks(ROWS * d).into_par_iter();
        let blocks = blocks.zip(self.values().par_chunks(ROWS * d));
        blocks
            .zip(stats.as_f32_mut().par_chunks_mut(ROWS * 2))
            .for_each(|((y, x), stats)| y.write(|y| normalise(x, y, stats, gamma, beta, eps)));

        let out = tape.grad_id();
        let (x, scale, bias) = (self.clone_saved(), *scale, bias.copied());
        tape.record(out, move |backward, dy| {
            let (x_values, stats, dy) = (x.value.as_f32(), stats.as_f32(), dy.as_f32());
            let mut sums = backward.pool.take(DType::F32, 2 * d);
            sums.as_f32_mut().fill(0.0);
            add_row_blocks(sums.as_f32_mut(), x_values.len() / d, |rows, sums| {
                let (d_scale, d_bias) = sums.split_at_mut(d);
                let elements = rows.start * d..rows.end * d;
                let stats = &stats[2 * rows.start..2 * rows.end];
                parameter_sums(&x_values[elements.clone()], &dy[elements], stats, d_scale, d_bias);
            });
            let (d_scale, d_bias) = sums.as_f32().split_at(d);
            crate::kernel::elementwise::add_slice(backward.param_grad(&scale), d_scale);
            if let Some(bias) = bias {
                crate::kernel::elementwise::add_slice(backward.param_grad(&bias), d_bias);
            }
            let gamma = backward.params.view(&scale);
            backward.contribute(x.grad, x_values.len(), |dx, write| {
                let blocks = dx.par_chunks_mut(ROWS * d).zip(x_values.par_chunks(ROWS * d));
                blocks.zip(dy.par_chunks(ROWS * d)).zip(stats.par_chunks(ROWS * 2)).for_each(
                    |(((dx, x), dy), stats)| input_gradient(dx, write, x, dy, stats, gamma),
                );
            });
        });
        Ok(tape.var(self.shape, y, out))
    }
}

simd! {
    /// Rows of `x` to rows of `y`; `stats` gets mean and 1/σ of each.
    pub(super) fn normalise<I>(x: &[f32], y: &mut [f32], stats: &mut [f32], gamma: &[f32], beta: &[f32], eps: f32) {
        let d = gamma.len();
        for ((x, y), stats) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)).zip(stats.chunks_exact_mut(2)) {
            let mean = reduce::sum(x) / d as f32;
            let variance = reduce::sum_squares_around::<I>(x, mean) / d as f32;
            let rstd = 1.0 / (variance + eps).sqrt();
            for i in 0..d {
                y[i] = I::fma((x[i] - mean) * rstd, gamma[i], beta[i]);
            }
            stats[0] = mean;
            stats[1] = rstd;
        }
    }
}

simd! {
    /// d_scale += Σ dy·x̂, d_bias += Σ dy over the given rows.
    pub(super) fn parameter_sums<I>(x: &[f32], dy: &[f32], stats: &[f32], d_scale: &mut [f32], d_bias: &mut [f32]) {
        let d = d_scale.len();
        let d_bias = &mut d_bias[..d];
        for ((x, dy), stats) in x.chunks_exact(d).zip(dy.chunks_exact(d)).zip(stats.chunks_exact(2)) {
            for i in 0..d {
                d_scale[i] = I::fma(dy[i], (x[i] - stats[0]) * stats[1], d_scale[i]);
                d_bias[i] += dy[i];
            }
        }
    }
}

simd! {
    /// dx (+)= (g − mean(g) − x̂ · mean(g·x̂)) / σ with g = dy · scale.
    pub(super) fn input_gradient<I>(dx: &mut [f32], write: Write, x: &[f32], dy: &[f32], stats: &[f32], gamma: &[f32]) {
        let d = gamma.len();
        let rows = dx.chunks_exact_mut(d).zip(x.chunks_exact(d)).zip(dy.chunks_exact(d));
        for (((dx, x), dy), stats) in rows.zip(stats.chunks_exact(2)) {
            let (mean, rstd) = (stats[0], stats[1]);
            let (mut g_lanes, mut gx_lanes) = ([0.0_f32; 16], [0.0_f32; 16]);
            let whole = d / 16 * 16;
            for start in (0..whole).step_by(16) {
                let (x, dy, gamma) = (&x[start..start + 16], &dy[start..start + 16], &gamma[start..start + 16]);
                for lane in 0..16 {
                    let g = dy[lane] * gamma[lane];
                    g_lanes[lane] += g;
                    gx_lanes[lane] = I::fma(g, (x[lane] - mean) * rstd, gx_lanes[lane]);
                }
            }
            for i in whole..d {
                let g = dy[i] * gamma[i];
                g_lanes[i - whole] += g;
                gx_lanes[i - whole] = I::fma(g, (x[i] - mean) * rstd, gx_lanes[i - whole]);
            }
            let g_mean = reduce::sum(&g_lanes) / d as f32;
            let gx_mean = reduce::sum(&gx_lanes) / d as f32;
            for i in 0..d {
                let centred = I::fma(dy[i], gamma[i], -g_mean);
                let gradient = rstd * I::fma(-(x[i] - mean) * rstd, gx_mean, centred);
                dx[i] = if write == Write::Replace { gradient } else { dx[i] + gradient };
            }
        }
    }
}
