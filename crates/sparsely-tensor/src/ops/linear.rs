//! The dense layer: activation of its input, product, bias and residual in one pass.

use super::column_sum::add_column_sums;
use super::saved::{Saved, parts};
use crate::kernel::elementwise::{Activation, add_slice, narrow};
use crate::kernel::gemm::{
    Finish, Left, ROW_BLOCK, Right, Start, add_outer, gemm_by_rows, mat, mat_mut, product,
    reads_as_it_lies, with_packed,
};
use crate::kernel::scratch::with_scratch;
use crate::precision::Bf16;
use crate::slab::Param;
use crate::tape::{Backward, Var, Write};
use crate::{Error, Precision, Result};
use rayon::prelude::*;

/// Rows that are worth a task of their own.
const MIN_ROWS: usize = 24;
/// Blocks of a thread that few rows are cut into at most.
const PIECES: usize = 2;
/// Rows that are computed together, or a divisor of them, on AVX-512 and AMX.
pub(super) const TILE_ROWS: usize = 8;

impl<'t> Var<'t> {
    /// y = act(x) W + b + residual: `[…, I]`, W `[I, O]`, b `[O]`, residual `[…, O]` → `[…, O]`.
    ///
    /// The activation is applied as the input is read, here and again in the backward pass, so
    /// that only the value before it is kept. In bf16 it is kept rounded: with an activation, the way back has the
    /// slope at the rounded value.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn linear(
        &self,
        act: Activation,
        w: &Param,
        b: Option<&Param>,
        residual: Option<&Var<'t>>,
    ) -> Result<Var<'t>> {
        self.linear_at(self.tape.precision(), act, (w, b), residual)
    }

    /// y = x W + residual in f32, whatever the tape's precision: for what chooses, a router's logits.
    ///
    /// # Errors
    /// As [`Var::linear`].
    pub fn linear_f32(&self, w: &Param, residual: Option<&Var<'t>>) -> Result<Var<'t>> {
        self.linear_at(Precision::F32, Activation::Identity, (w, None), residual)
    }

    fn linear_at(
        &self,
        precision: Precision,
        act: Activation,
        (w, b): (&Param, Option<&Param>),
        residual: Option<&Var<'t>>,
    ) -> Result<Var<'t>> {
        let [i, o] = w.shape().dims("linear")?;
        let shape = self.shape.with_width(o);
        let fits = self.shape.width() == i
            && b.is_none_or(|b| b.shape().len() == o)
            && residual.is_none_or(|r| r.shape.len() == shape.len());
        if !fits {
            let expected = format!("x […, {i}], b [{o}], residual […, {o}] for w [{i}, {o}]");
            let residual = residual.map(|r| r.shape);
            let got =
                format!("x {:?}, b {:?}, residual {residual:?}", self.shape, b.map(Param::shape));
            return Err(Error::shape("linear", expected, got));
        }
        let tape = self.tape;
        let rows = shape.rows();
        let mut y = tape.take(shape.len());
        let terms =
            Terms { b: b.map(|b| tape.params().view(b)), residual: residual.map(Var::values) };
        let factors = (act, self.values(), &tape.params().kernel(w, 0, precision)?);
        let out = tape.grad_id();
        let mut x = self.factor(out.is_some(), precision, act == Activation::Identity);
        forward(factors, (y.as_f32_mut(), x.copy()), [rows, i, o], terms);

        let (x, w, b) = (x.saved(), *w, b.copied());
        let residual = residual.and_then(|r| r.grad);
        tape.record(out, move |backward, dy| {
            let w_t = mat(backward.params.view(&w), i, o).transpose();
            let w_t = Right::new(w_t, precision);
            backward_input(backward, &x, act, &w_t, dy.as_f32(), [rows, i, o]);
            let (x, dy_ro) = (x.mat(rows, i), mat(dy.as_f32(), rows, o));
            add_outer(backward.param_grad(&w), Left::active(x, act), Right::new(dy_ro, precision));
            if let Some(b) = b {
                add_column_sums(backward.param_grad(&b), dy.as_f32());
            }
            backward.give(residual, dy);
        });
        Ok(tape.var(shape, y, out))
    }
}

/// What the product is added to.
#[derive(Clone, Copy)]
struct Terms<'a> {
    b: Option<&'a [f32]>,
    residual: Option<&'a [f32]>,
}

impl<'a> Terms<'a> {
    /// For `rows` rows of the output, from row `first` on.
    fn start(self, first: usize, rows: usize, width: usize) -> Start<'a> {
        let residual = self.residual.map(|r| mat(&r[first * width..], rows, width));
        match (self.b, residual) {
            (None, None) => Start::Zero,
            (bias, residual) => Start::Terms { bias, residual },
        }
    }
}

/// y = x W, as the layer computes it.
pub(crate) fn linear_forward(y: &mut [f32], x: &[f32], w: &Right<'_>) {
    let (i, o) = (w.values().nrows(), w.values().ncols());
    forward(
        (Activation::Identity, x, w),
        (y, &mut []),
        [x.len() / i, i, o],
        Terms { b: None, residual: None },
    );
}

fn forward(
    (act, x, w): (Activation, &[f32], &Right<'_>),
    (y, copy): (&mut [f32], &mut [Bf16]),
    [rows, i, o]: [usize; 3],
    terms: Terms<'_>,
) {
    let by_blocks = |y: &mut [f32], copy: &mut [Bf16], w: &Right<'_>, len: usize| {
        let copies = parts(copy, len * i, rows.div_ceil(len));
        let blocks = y.par_chunks_mut(len * o).zip(x.par_chunks(len * i)).zip(copies);
        blocks.enumerate().for_each(|(block, ((y, x), copy))| {
            narrow(x, copy);
            let rows = y.len() / o;
            let start = terms.start(block * len, rows, o);
            let x = Left::active(mat(x, rows, i), act);
            product(mat_mut(y, rows, o), start, x, w, Finish::None);
        });
    };
    if w.is_packed() {
        by_blocks(y, copy, w, row_block(rows));
    } else if reads_as_it_lies(rows, w) || act == Activation::Identity && rows <= 2 * ROW_BLOCK {
        narrow(x, copy);
        let left = Left::active(mat(x, rows, i), act);
        gemm_by_rows(mat_mut(y, rows, o), terms.start(0, rows, o), left, *w);
    } else {
        with_packed(w, |w| by_blocks(y, copy, w, ROW_BLOCK));
    }
}

fn backward_input(
    backward: &mut Backward<'_>,
    x: &Saved,
    act: Activation,
    w_t: &Right<'_>,
    dy: &[f32],
    [rows, i, o]: [usize; 3],
) {
    backward.contribute(x.grad, rows * i, |dx, write| {
        if act == Activation::Identity && rows <= 2 * ROW_BLOCK {
            let dy = mat(dy, rows, o).into();
            return gemm_by_rows(mat_mut(dx, rows, i), write.into(), dy, *w_t);
        }
        with_packed(w_t, |w_t| {
            let x = x.mat(rows, i);
            let blocks = dx.par_chunks_mut(ROW_BLOCK * i).zip(dy.par_chunks(ROW_BLOCK * o));
            blocks.enumerate().for_each(|(block, (dx, dy))| {
                let rows = dx.len() / i;
                let dy = mat(dy, rows, o).into();
                let finish = match act {
                    Activation::Identity => Finish::None,
                    act => Finish::Slope { act, at: x.part([block * ROW_BLOCK, rows], [0, i]) },
                };
                if write == Write::Replace || act == Activation::Identity {
                    return product(mat_mut(dx, rows, i), write.into(), dy, w_t, finish);
                }
                // The slope is the product's alone.
                with_scratch(dx.len(), |du| {
                    product(mat_mut(du, rows, i), Start::Zero, dy, w_t, finish);
                    add_slice(dx, du);
                });
            });
        });
    });
}

/// Rows of a block where the weights are packed: whole blocks where there are many rows, a few equal ones of
/// whole tiles where there is an image or two, which more than one thread then computes. A row's bits do not depend
/// on the cut, so it may depend on the threads: each block reads all weights.
pub(super) fn row_block(rows: usize) -> usize {
    let pieces = (rows / MIN_ROWS).clamp(1, PIECES * rayon::current_num_threads());
    rows.div_ceil(pieces).next_multiple_of(TILE_ROWS).clamp(1, ROW_BLOCK)
}

/// Rows of a weight gradient `[i, o]` that a task owns: about four tasks, none too small or large.
pub(super) fn panel_rows(i: usize, o: usize) -> usize {
    ((i * o / 4).clamp(96 * 96, 256 * 256) / o).clamp(1, i)
}
