//! Dense mixtures within groups of rows: columns of weights make slots out of rows, rows of
//! weights make rows out of slots (Soft MoE, arXiv 2308.00951).

use crate::kernel::gemm::{MatMut, MatRef, Right, gemm, gemm_by_rows, mat, mat_mut};
use crate::tape::{Var, Write};
use crate::{Error, Precision, Result, Shape};
use rayon::prelude::*;

/// With fewer groups than this a product is cut for the threads; the cut is not in its bits.
const FEW_GROUPS: usize = 8;

impl<'t> Var<'t> {
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
        let extents = Extents { groups, s: group_rows, n, d, precision: tape.precision() };
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
        let extents = Extents { groups, s: group_rows, n, d, precision: tape.precision() };
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

pub(super) fn num_groups(op: &'static str, t: usize, group_rows: usize) -> Result<usize> {
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
    precision: Precision,
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
        let Extents { groups, s, n, d, precision } = self;
        let ([rows, cols], [a_len, b_len]) = match product {
            Product::SlotsOfRows => ([n, d], [s * n, s * d]),
            Product::RowsOfSlots => ([s, d], [s * n, n * d]),
            Product::Weights => ([s, n], [s * d, n * d]),
        };
        let gemm = |dst: MatMut<'_>, a: MatRef<'_>, b: MatRef<'_>| {
            let b = Right::new(b, precision);
            if groups < FEW_GROUPS {
                gemm_by_rows(dst, write.into(), a.into(), b);
            } else {
                gemm(dst, write, a, b);
            }
        };
        let one = |dst: &mut [f32], a: &[f32], b: &[f32]| {
            let dst = mat_mut(dst, rows, cols);
            match product {
                Product::SlotsOfRows => gemm(dst, mat(a, s, n).transpose(), mat(b, s, d)),
                Product::RowsOfSlots => gemm(dst, mat(a, s, n), mat(b, n, d)),
                Product::Weights => gemm(dst, mat(a, s, d), mat(b, n, d).transpose()),
            }
        };
        let factors = a.par_chunks(a_len.max(1)).zip(b.par_chunks(b_len.max(1)));
        let results = dst.par_chunks_mut((rows * cols).max(1));
        results.zip(factors).for_each(|(dst, (a, b))| one(dst, a, b));
    }
}
