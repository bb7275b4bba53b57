//! The dense layer: activation of its input, product, bias and residual in one pass.

use super::blocks::{num_blocks, row_blocks};
use super::column_sum::add_column_sums;
use super::saved::{Output, Saved, matrix, parts};
use crate::buffer::Buffer;
use crate::kernel::elementwise::{Activation, activate, add_slice, narrow};
use crate::kernel::gemm::{
    Finish, Left, ROW_BLOCK, Right, Start, Values, add_outer, gemm_by_rows, has_columns_for_all,
    mat, mat_mut, product, reads_as_it_lies, with_packed,
};
use crate::kernel::scratch::with_scratch;
use crate::precision::Bf16;
use crate::slab::Param;
use crate::tape::{Backward, Var, Write};
use crate::{Error, Precision, Result};
use rayon::prelude::*;

/// Rows that are activated by one task.
const ROWS_OF_A_TASK: usize = 8;

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
        let y = self.tape.take(self.shape.with_width(w.shape().width()).len());
        self.linear_at((self.tape.precision(), y), act, (w, b), residual)
    }

    /// act(x) W + b for what only products and activations read: as [`Var::linear`], but in bf16 it is stored rounded.
    ///
    /// # Errors
    /// As [`Var::linear`].
    pub fn linear_rounded(&self, act: Activation, w: &Param, b: Option<&Param>) -> Result<Var<'t>> {
        let (precision, shape) = (self.tape.precision(), self.shape.with_width(w.shape().width()));
        let y = self.tape.take_rounded(precision, shape.len());
        self.linear_at((precision, y), act, (w, b), None)
    }

    /// y = x W + residual in f32, whatever the tape's precision: for what chooses, a router's logits.
    ///
    /// # Errors
    /// As [`Var::linear`].
    pub fn linear_f32(&self, w: &Param, residual: Option<&Var<'t>>) -> Result<Var<'t>> {
        let y = self.tape.take(self.shape.with_width(w.shape().width()).len());
        self.linear_at((Precision::F32, y), Activation::Identity, (w, None), residual)
    }

    /// Into `y`, by products of `precision`.
    fn linear_at(
        &self,
        (precision, mut y): (Precision, Buffer),
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
        let terms =
            Terms { b: b.map(|b| tape.params().view(b)), residual: residual.map(Var::values) };
        let kernel = tape.params().kernel(w, 0, precision)?;
        let factors = (Left::active(matrix(&self.value, rows, i), act), &kernel);
        let out = tape.grad_id_as(y.dtype());
        let mut x = self.factor(out.is_some(), precision, act == Activation::Identity);
        forward(factors, (Output::of(&mut y), x.copy()), [rows, i, o], terms);

        let (x, w, b) = (x.saved(), *w, b.copied());
        let residual = residual.and_then(|r| r.grad);
        tape.record(out, move |backward, dy| {
            let w_t = mat(backward.params.view(&w), i, o).transpose();
            let w_t = Right::new(w_t, precision);
            let dy_ro = matrix(&dy, rows, o);
            backward_input(backward, &x, act, &w_t, dy_ro, [rows, i, o]);
            let x = Left::active(x.mat(rows, i), act);
            add_outer(backward.param_grad(&w), x, Right::new(dy_ro, precision));
            if let Some(b) = b {
                add_column_sums(backward.param_grad(&b), &dy);
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

/// y = x W, as the layer computes it, both as they are stored.
pub(crate) fn linear_forward(y: &mut Buffer, x: &Buffer, w: &Right<'_>) {
    let [i, o] = w.extents();
    let rows = x.len() / i;
    let x = Left::from(matrix(x, rows, i));
    let terms = Terms { b: None, residual: None };
    forward((x, w), (Output::of(y), (&[], &mut [])), [rows, i, o], terms);
}

fn forward(
    (x, w): (Left<'_>, &Right<'_>),
    (y, copy): (Output<'_>, (&[f32], &mut [Bf16])),
    [rows, i, o]: [usize; 3],
    terms: Terms<'_>,
) {
    let by_blocks = |y: Output<'_>, copy: (&[f32], &mut [Bf16]), w: &Right<'_>| {
        let blocks: Vec<_> = row_blocks(rows, num_blocks(rows, w.is_packed())).collect();
        let lens = |width| blocks.iter().map(move |block| block.len() * width);
        let (ys, copies) = (y.cut(lens(o)), parts(copy, lens(i)));
        let parts = blocks.into_par_iter().zip(ys).zip(copies);
        parts.for_each(|((block, y), (from, to))| {
            narrow(from, to);
            let (first, rows) = (block.start, block.len());
            let x = x.part([first, rows], [0, i]);
            let start = terms.start(first, rows, o);
            product(y.matrix(rows, o), start, x, w, Finish::None);
        });
    };
    let cuts_columns = match w.is_packed() {
        true => has_columns_for_all(o),
        // Each block of rows would pack all weights.
        false => x.act == Activation::Identity,
    };
    if reads_as_it_lies(rows, w) || rows < ROW_BLOCK && cuts_columns {
        narrow(copy.0, copy.1);
        let y = y.matrix(rows, o);
        with_active(x, |x| gemm_by_rows(y, terms.start(0, rows, o), x, *w));
    } else if w.is_packed() {
        by_blocks(y, copy, w);
    } else {
        with_packed(w, |w| by_blocks(y, copy, w));
    }
}

/// Calls `f` with act(x), all rows of it as they lie: computed once, on all threads, if there is an activation.
fn with_active(x: Left<'_>, f: impl FnOnce(Left<'_>)) {
    if x.act == Activation::Identity {
        return f(x);
    }
    let (rows, width) = (x.values.nrows(), x.values.ncols());
    with_scratch(rows * width, |u| {
        let all = u.par_chunks_mut(width.max(1)).enumerate().with_min_len(ROWS_OF_A_TASK);
        all.for_each(|(r, u)| x.values.with_row(r, |x_row| activate(x.act, x_row, u)));
        f(mat(u, rows, width).into());
    });
}

fn backward_input(
    backward: &mut Backward<'_>,
    x: &Saved,
    act: Activation,
    w_t: &Right<'_>,
    dy: Values<'_>,
    [rows, i, o]: [usize; 3],
) {
    backward.contribute_product(x.grad, rows * i, |dx, write| {
        let dy = Left::from(dy);
        if act == Activation::Identity && rows < ROW_BLOCK {
            return gemm_by_rows(dx.matrix(rows, i), write.into(), dy, *w_t);
        }
        with_packed(w_t, |w_t| {
            let x = x.mat(rows, i);
            let blocks: Vec<_> = row_blocks(rows, num_blocks(rows, w_t.is_packed())).collect();
            let parts = dx.cut(blocks.iter().map(|block| block.len() * i));
            blocks.into_par_iter().zip(parts).for_each(|(block, dx)| {
                let (first, rows) = (block.start, block.len());
                let dy = dy.part([first, rows], [0, o]);
                let finish = match act {
                    Activation::Identity => Finish::None,
                    act => Finish::Slope { act, at: x.part([first, rows], [0, i]) },
                };
                match dx {
                    // The slope is the product's alone.
                    Output::F32(dx) if write == Write::Add && act != Activation::Identity => {
                        with_scratch(dx.len(), |du| {
                            product(mat_mut(du, rows, i), Start::Zero, dy, w_t, finish);
                            add_slice(dx, du);
                        });
                    }
                    dx => product(dx.matrix(rows, i), write.into(), dy, w_t, finish),
                }
            });
        });
    });
}
