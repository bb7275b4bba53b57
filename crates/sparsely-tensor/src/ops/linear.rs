//! The dense layer: activation of its input, product, bias and residual in one pass.

use super::column_sum::add_column_sums;
use crate::kernel::elementwise::{Activation, activate, activate_backward, add_slice};
use crate::kernel::gemm::{
    MatMut, MatRef, ROW_BLOCK, gemm, gemm_by_rows, gemm_by_tiles, mat, mat_mut,
};
use crate::kernel::scratch::with_scratch;
use crate::slab::Param;
use crate::tape::{Backward, Var, Write};
use crate::{Error, Result};
use faer::prelude::ReborrowMut;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Rows that a task of the weight gradient activates at a time.
const CHUNK: usize = 512;

impl<'t> Var<'t> {
    /// y = act(x) W + b + residual: `[…, I]`, W `[I, O]`, b `[O]`, residual `[…, O]` → `[…, O]`.
    ///
    /// The activation is applied as the input is read, here and again in the backward pass, so
    /// that only the value before it is kept.
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
        let start =
            Start { b: b.map(|b| tape.slab().view(b)), residual: residual.map(Var::values) };
        forward(act, self.values(), tape.slab().view(w), y.as_f32_mut(), [rows, i, o], start);

        let out = tape.grad_id();
        let (x, w, b) = (self.clone_saved(), *w, b.copied());
        let residual = residual.and_then(|r| r.grad);
        tape.record(out, move |backward, dy| {
            backward_input(backward, &x, act, &w, dy.as_f32(), [rows, i, o]);
            backward_weights(
                backward.param_grad(&w),
                act,
                x.value.as_f32(),
                dy.as_f32(),
                [rows, i, o],
            );
            if let Some(b) = b {
                add_column_sums(backward.param_grad(&b), dy.as_f32());
            }
            backward.give(residual, dy);
        });
        Ok(tape.var(shape, y, out))
    }

    /// What a backward step keeps of an input: the memory and where its gradient goes.
    pub(super) fn clone_saved(&self) -> Saved {
        Saved { value: Arc::clone(&self.value), grad: self.grad }
    }
}

/// An input as a backward step keeps it.
pub(super) struct Saved {
    pub(super) value: Arc<crate::buffer::Buffer>,
    pub(super) grad: Option<crate::tape::GradId>,
}

/// What the product is added to.
#[derive(Clone, Copy)]
struct Start<'a> {
    b: Option<&'a [f32]>,
    residual: Option<&'a [f32]>,
}

impl Start<'_> {
    /// Fills rows of `y` from row `first` on, and says how the product goes on.
    fn fill(&self, y: &mut [f32], first: usize, width: usize) -> Write {
        match (self.residual, self.b) {
            (None, None) => return Write::Replace,
            (None, Some(b)) => y.chunks_mut(width).for_each(|row| row.copy_from_slice(b)),
            (Some(r), b) => {
                y.copy_from_slice(&r[first * width..first * width + y.len()]);
                if let Some(b) = b {
                    y.chunks_mut(width).for_each(|row| add_slice(row, b));
                }
            }
        }
        Write::Add
    }
}

fn forward(
    act: Activation,
    x: &[f32],
    w: &[f32],
    y: &mut [f32],
    [rows, i, o]: [usize; 3],
    start: Start<'_>,
) {
    let w = mat(w, i, o);
    if act == Activation::Identity && rows < ROW_BLOCK {
        let write = start.fill(y, 0, o);
        return gemm_by_rows(mat_mut(y, rows, o), write, mat(x, rows, i), w);
    }
    // Block by block, so that what is added to is still in the cache when the product comes.
    let blocks = y.par_chunks_mut(ROW_BLOCK * o).zip(x.par_chunks(ROW_BLOCK * i));
    blocks.enumerate().for_each(|(block, (y, x))| {
        let write = start.fill(y, block * ROW_BLOCK, o);
        let rows = y.len() / o;
        if act == Activation::Identity {
            return gemm(mat_mut(y, rows, o), write, mat(x, rows, i), w);
        }
        with_scratch(x.len(), |u| {
            activate(act, x, u);
            gemm(mat_mut(y, rows, o), write, mat(u, rows, i), w);
        });
    });
}

fn backward_input(
    backward: &mut Backward<'_>,
    x: &Saved,
    act: Activation,
    w: &Param,
    dy: &[f32],
    [rows, i, o]: [usize; 3],
) {
    let params = backward.params;
    let w_t = mat(params.view(w), i, o).transpose();
    backward.contribute(x.grad, rows * i, |dx, write| {
        if act == Activation::Identity {
            return gemm_by_rows(mat_mut(dx, rows, i), write, mat(dy, rows, o), w_t);
        }
        let blocks = dx.par_chunks_mut(ROW_BLOCK * i).zip(dy.par_chunks(ROW_BLOCK * o));
        blocks.zip(x.value.as_f32().par_chunks(ROW_BLOCK * i)).for_each(|((dx, dy), x)| {
            let rows = dx.len() / i;
            let block = |du: &mut [f32]| {
                gemm(mat_mut(du, rows, i), Write::Replace, mat(dy, rows, o), w_t);
                activate_backward(act, x, 1.0, du);
            };
            match write {
                Write::Replace => block(dx),
                Write::Add => with_scratch(dx.len(), |du| {
                    block(du);
                    add_slice(dx, du);
                }),
            }
        });
    });
}

/// `dw += act(x)ᵀ dy`.
fn backward_weights(
    dw: &mut [f32],
    act: Activation,
    x: &[f32],
    dy: &[f32],
    [rows, i, o]: [usize; 3],
) {
    if act == Activation::Identity {
        let (x, dy) = (mat(x, rows, i), mat(dy, rows, o));
        return gemm_by_tiles(mat_mut(dw, i, o), Write::Add, x.transpose(), dy);
    }
    let panel = panel_rows(i, o);
    dw.par_chunks_mut(panel * o).enumerate().for_each(|(p, dw)| {
        let cols = p * panel..p * panel + dw.len() / o;
        add_activated_outer(mat_mut(dw, cols.len(), o), act, x, cols, mat(dy, rows, o));
    });
}

/// Rows of a weight gradient `[i, o]` that a task owns: about four tasks, none too small or large.
pub(super) fn panel_rows(i: usize, o: usize) -> usize {
    ((i * o / 4).clamp(96 * 96, 256 * 256) / o).clamp(1, i)
}

/// `dw += act(x[:, cols])ᵀ dy`, on the calling thread, chunks of rows in order.
fn add_activated_outer(
    mut dw: MatMut<'_>,
    act: Activation,
    x: &[f32],
    cols: Range<usize>,
    dy: MatRef<'_>,
) {
    let (rows, width) = (dy.nrows(), cols.len());
    let stride = x.len() / rows.max(1);
    with_scratch(CHUNK.min(rows) * width, |u| {
        for start in (0..rows).step_by(CHUNK) {
            let len = CHUNK.min(rows - start);
            for (u, x) in u.chunks_mut(width).zip(x[start * stride..].chunks(stride)).take(len) {
                activate(act, &x[cols.clone()], u);
            }
            gemm(dw.rb_mut(), Write::Add, mat(u, len, width).transpose(), dy.subrows(start, len));
        }
    });
}
