//! Weighted sums of rows by index.

use super::grouped_linear::{RowGroups, combine};
use crate::kernel::elementwise::{axpy, dot};
use crate::tape::{Var, Write};
use crate::{DType, Error, Result, Shape};
use rayon::prelude::*;
use std::sync::Arc;

impl<'t> Var<'t> {
    /// y_t = residual_t + Σ_{n: row(n) = t} g_n x_n: x `[N, D]`, one row an entry, g `[N]`, residual
    /// `[T, D]` → `[T, D]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn scatter_rows(
        &self,
        groups: &Arc<RowGroups>,
        gates: &Var<'t>,
        residual: Option<&Var<'t>>,
    ) -> Result<Var<'t>> {
        let [n, d] = self.dims("scatter_rows")?;
        let shape = Shape::from([groups.num_rows(), d]);
        let fits = n == groups.num_entries()
            && gates.shape.len() == n
            && residual.is_none_or(|r| r.shape == shape);
        if !fits {
            let expected =
                format!("[{0}, {d}], gates [{0}], residual {shape:?}", groups.num_entries());
            let residual = residual.map(|r| r.shape);
            let got = format!("{:?}, gates {:?}, residual {residual:?}", self.shape, gates.shape);
            return Err(Error::shape("scatter_rows", expected, got));
        }
        let tape = self.tape;
        let mut y = tape.take(shape.len());
        let write = match residual {
            Some(residual) => {
                y.as_f32_mut().copy_from_slice(residual.values());
                Write::Add
            }
            None => Write::Replace,
        };
        combine(groups, self.floats(), Some(gates.values()), y.as_f32_mut(), d, write);

        let out = match residual {
            Some(residual) => tape.grad_id_if(&[self, gates, residual]),
            None => tape.grad_id_if(&[self, gates]),
        };
        let residual = residual.and_then(|r| r.grad);
        let (x, gates, groups) = (self.clone_saved(), gates.clone_saved(), Arc::clone(groups));
        tape.record(out, move |backward, dy| {
            let dy_row = |n: usize| &dy.as_f32()[groups.rows()[n] as usize * d..][..d];
            backward.contribute(x.grad, n * d, |dx, write| {
                let rows = dx.par_chunks_mut(d.max(1)).zip(gates.value.as_f32());
                rows.enumerate().for_each(|(n, (dx, gate))| {
                    if write == Write::Replace {
                        dx.fill(0.0);
                    }
                    axpy(dx, *gate, dy_row(n));
                });
            });
            let mut dg = backward.pool.take(DType::F32, n);
            let rows = dg.as_f32_mut().par_iter_mut().zip(x.value.as_f32().par_chunks(d.max(1)));
            rows.enumerate().for_each(|(n, (dg, x))| *dg = dot(x, dy_row(n)));
            backward.give(gates.grad, dg);
            backward.give(residual, dy);
        });
        Ok(tape.var(shape, y, out))
    }
}
