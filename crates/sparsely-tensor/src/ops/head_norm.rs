//! Layer normalisation of queries and keys over the width of a head.

use super::column_sum::add_row_blocks;
use super::layer_norm::{input_gradient, normalise, parameter_sums};
use crate::slab::Param;
use crate::tape::{Var, Write};
use crate::{DType, Error, Result};
use rayon::prelude::*;

impl<'t> Var<'t> {
    /// Normalises the leading heads of each row, scale only: `[…, n·H·A]` → same shape.
    ///
    /// The row is cut into parts of H·A columns; part i has its heads normalised with
    /// `scales[i]` `[A]`, parts beyond the last scale (values) are copied.
    ///
    /// # Errors
    /// If the scales do not fit the row.
    pub fn head_norm(&self, heads: usize, scales: &[&Param], eps: f32) -> Result<Var<'t>> {
        let width = self.shape.width();
        let a = scales.first().map_or(0, |scale| scale.shape().len());
        let part = heads * a;
        let fits = part > 0
            && width.is_multiple_of(part)
            && scales.len() * part <= width
            && scales.iter().all(|scale| scale.shape().len() == a);
        if !fits {
            let expected = format!("{} scales [A] and rows of n·{heads}·A", scales.len());
            let got = format!("A {a}, rows of {width}");
            return Err(Error::shape("head_norm", expected, got));
        }
        let tape = self.tape;
        let mut y = tape.pool().copy_of(self.values());
        let per_row = 2 * scales.len() * heads;
        let mut stats = tape.take(self.shape.rows() * per_row);
        let zeros = vec![0.0; a];
        let gammas: Vec<&[f32]> = scales.iter().map(|scale| tape.params().view(scale)).collect();
        let rows = y.as_f32_mut().par_chunks_mut(width).zip(self.values().par_chunks(width));
        rows.zip(stats.as_f32_mut().par_chunks_mut(per_row)).for_each(|((y, x), stats)| {
            let parts = x.chunks(part).zip(y.chunks_mut(part)).zip(stats.chunks_mut(2 * heads));
            for (((x, y), stats), gamma) in parts.zip(&gammas) {
                normalise(x, y, stats, gamma, &zeros, eps);
            }
        });

        let out = tape.grad_id();
        let x = self.clone_saved();
        let scales: Vec<Param> = scales.iter().map(|scale| **scale).collect();
        tape.record(out, move |backward, dy| {
            let (x_values, stats, dy) = (x.value.as_f32(), stats.as_f32(), dy.as_f32());
            for (i, scale) in scales.iter().enumerate() {
                let d_scale = backward.param_grad(scale);
                add_row_blocks(d_scale, x_values.len() / width, |rows, d_scale| {
                    let mut unused = vec![0.0; a];
                    for row in rows {
                        let part = row * width + i * part..row * width + (i + 1) * part;
                        let stats = &stats[row * per_row + 2 * i * heads..][..2 * heads];
                        parameter_sums(
                            &x_values[part.clone()],
                            &dy[part],
                            stats,
                            d_scale,
                            &mut unused,
                        );
                    }
                });
            }
            let mut dx = backward.pool.take(DType::F32, dy.len());
            dx.as_f32_mut().copy_from_slice(dy);
            let gammas: Vec<&[f32]> = scales.iter().map(|s| backward.params.view(s)).collect();
            let rows = dx.as_f32_mut().par_chunks_mut(width).zip(x_values.par_chunks(width));
            rows.zip(dy.par_chunks(width)).zip(stats.par_chunks(per_row)).for_each(
                |(((dx, x), dy), stats)| {
                    let inputs = x.chunks(part).zip(dy.chunks(part)).zip(stats.chunks(2 * heads));
                    for ((dx, ((x, dy), stats)), gamma) in
                        dx.chunks_mut(part).zip(inputs).zip(&gammas)
                    {
                        input_gradient(dx, Write::Replace, x, dy, stats, gamma);
                    }
                },
            );
            backward.give(x.grad, dx);
        });
        Ok(tape.var(self.shape, y, out))
    }
}
