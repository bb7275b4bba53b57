//! Operations along the middle axis of `[B, L, D]`: prepend, add, select, average, repeat.

use super::column_sum::add_column_sums;
use crate::kernel::elementwise::{add_slice, axpy};
use crate::slab::Param;
use crate::tape::{Var, Write};
use crate::{DType, Error, Result, Shape};
use rayon::prelude::*;

impl<'t> Var<'t> {
    /// Puts `row` `[…, D]` (D elements) before the rows of each sequence: `[B, L, D]` → `[B, L+1, D]`.
    ///
    /// # Errors
    /// If `row` does not have D elements.
    pub fn prepend(&self, row: &Param) -> Result<Var<'t>> {
        let [b, l, d] = self.dims("prepend")?;
        if row.shape().len() != d {
            return Err(Error::shape(
                "prepend",
                format!("a row of {d}"),
                format!("{:?}", row.shape()),
            ));
        }
        let tape = self.tape;
        let first = tape.params().view(row);
        let mut y = tape.take(b * (l + 1) * d);
        let images =
            y.as_f32_mut().par_chunks_mut((l + 1) * d).zip(self.values().par_chunks(l * d));
        images.for_each(|(y, x)| {
            y[..d].copy_from_slice(first);
            y[d..].copy_from_slice(x);
        });
        let out = tape.grad_id();
        let (x, row) = (self.grad, *row);
        tape.record(out, move |backward, dy| {
            let mut dx = backward.pool.take(DType::F32, b * l * d);
            let images = dx.as_f32_mut().chunks_mut(l * d).zip(dy.as_f32().chunks((l + 1) * d));
            let d_row = backward.param_grad(&row);
            images.for_each(|(dx, dy)| {
                add_slice(d_row, &dy[..d]);
                dx.copy_from_slice(&dy[d..]);
            });
            backward.give(x, dx);
        });
        Ok(tape.var(Shape::from([b, l + 1, d]), y, out))
    }

    /// The rows of `after` behind those of each sequence: `[B, L, D]`, `[B, M, D]` → `[B, L+M, D]`.
    ///
    /// # Errors
    /// If batch or width differ.
    pub fn append(&self, after: &Var<'t>) -> Result<Var<'t>> {
        let [b, l, d] = self.dims("append")?;
        let [b_after, m, d_after] = after.dims("append")?;
        if b != b_after || d != d_after {
            let expected = format!("[{b}, M, {d}]");
            return Err(Error::shape("append", expected, format!("{:?}", after.shape)));
        }
        let tape = self.tape;
        let mut y = tape.take(b * (l + m) * d);
        let sequences = y.as_f32_mut().chunks_mut(((l + m) * d).max(1)).enumerate();
        sequences.for_each(|(i, y)| {
            y[..l * d].copy_from_slice(&self.values()[i * l * d..(i + 1) * l * d]);
            y[l * d..].copy_from_slice(&after.values()[i * m * d..(i + 1) * m * d]);
        });
        let out = tape.grad_id_if(&[self, after]);
        let (x, after) = (self.grad, after.grad);
        tape.record(out, move |backward, dy| {
            for (to, [first, rows]) in [(x, [0, l]), (after, [l, m])] {
                if to.is_none() {
                    continue;
                }
                let mut dx = backward.pool.take(DType::F32, b * rows * d);
                let sequences = dx.as_f32_mut().chunks_mut((rows * d).max(1));
                for (dx, dy) in sequences.zip(dy.as_f32().chunks(((l + m) * d).max(1))) {
                    dx.copy_from_slice(&dy[first * d..(first + rows) * d]);
                }
                backward.give(to, dx);
            }
        });
        Ok(tape.var(Shape::from([b, l + m, d]), y, out))
    }

    /// x + p with p repeated over the batch: `[B, L, D]`, p of L·D elements.
    ///
    /// # Errors
    /// If `p` does not have L·D elements.
    pub fn add_positions(&self, p: &Param) -> Result<Var<'t>> {
        let [b, l, d] = self.dims("add_positions")?;
        if p.shape().len() != l * d {
            let expected = format!("positions for {l} tokens of width {d}");
            return Err(Error::shape("add_positions", expected, format!("{:?}", p.shape())));
        }
        let tape = self.tape;
        let mut y = tape.pool().copy_of(self.values());
        let positions = tape.params().view(p);
        y.as_f32_mut().par_chunks_mut(l * d).for_each(|y| add_slice(y, positions));
        let out = tape.grad_id();
        let (x, p) = (self.grad, *p);
        tape.record(out, move |backward, dy| {
            debug_assert_eq!(dy.len(), b * l * d);
            add_column_sums(backward.param_grad(&p), &dy);
            backward.give(x, dy);
        });
        Ok(tape.var(self.shape, y, out))
    }

    /// The row `index` of each sequence: `[B, L, D]` → `[B, D]`.
    ///
    /// # Errors
    /// If there is no such row.
    pub fn select_token(&self, index: usize) -> Result<Var<'t>> {
        let [b, l, d] = self.dims("select_token")?;
        if index >= l {
            return Err(Error::shape(
                "select_token",
                format!("an index below {l}"),
                format!("{index}"),
            ));
        }
        let mut weights = vec![0.0; l];
        weights[index] = 1.0;
        Ok(self.pool_tokens(weights, [b, l, d]))
    }

    /// The mean row of each sequence: `[B, L, D]` → `[B, D]`.
    ///
    /// # Errors
    /// If there are not three axes.
    pub fn mean_tokens(&self) -> Result<Var<'t>> {
        let [b, l, d] = self.dims("mean_tokens")?;
        Ok(self.pool_tokens(vec![1.0 / l as f32; l], [b, l, d]))
    }

    /// y_b = Σ_l w_l x_bl.
    fn pool_tokens(&self, weights: Vec<f32>, [b, l, d]: [usize; 3]) -> Var<'t> {
        let tape = self.tape;
        let mut y = tape.take(b * d);
        y.as_f32_mut().fill(0.0);
        for (y, x) in y.as_f32_mut().chunks_mut(d).zip(self.values().chunks(l * d)) {
            for (w, x) in weights.iter().zip(x.chunks(d)).filter(|(w, _)| **w != 0.0) {
                axpy(y, *w, x);
            }
        }
        let out = tape.grad_id_if(&[self]);
        let x = self.grad;
        tape.record(out, move |backward, dy| {
            backward.contribute(x, b * l * d, |dx, write| {
                if write == Write::Replace {
                    dx.fill(0.0);
                }
                for (dx, dy) in dx.chunks_mut(l * d).zip(dy.as_f32().chunks(d)) {
                    for (w, dx) in weights.iter().zip(dx.chunks_mut(d)).filter(|(w, _)| **w != 0.0)
                    {
                        axpy(dx, *w, dy);
                    }
                }
            });
        });
        tape.var(Shape::from([b, d]), y, out)
    }

    /// The same rows for each of `batch` sequences: `[L, D]` → `[B, L, D]`.
    ///
    /// # Errors
    /// If there are not two axes.
    pub fn repeat(&self, batch: usize) -> Result<Var<'t>> {
        let [l, d] = self.dims("repeat")?;
        let tape = self.tape;
        let mut y = tape.take(batch * l * d);
        y.as_f32_mut().chunks_mut(l * d).for_each(|y| y.copy_from_slice(self.values()));
        let out = tape.grad_id_if(&[self]);
        let x = self.grad;
        tape.record(out, move |backward, dy| {
            let mut dx = backward.pool.zeros(l * d);
            add_column_sums(dx.as_f32_mut(), &dy);
            backward.give(x, dx);
        });
        Ok(tape.var(Shape::from([batch, l, d]), y, out))
    }
}
