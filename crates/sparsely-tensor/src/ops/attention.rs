//! Softmax attention, all heads of all sequences in one operation.
//!
//! The attention matrix of a head lives in a thread's scratch and is computed again in the
//! backward pass, so that nothing quadratic in the length is kept.

use super::saved::{Output, matrix, parts};
use crate::kernel::elementwise::narrow;
use crate::kernel::gemm::{Right, Values, ValuesMut, gemm, mat, mat_mut};
use crate::kernel::isa::simd;
use crate::kernel::scratch::with_scratch;
use crate::kernel::{math, reduce};
use crate::tape::{Var, Write};
use crate::{DType, Error, Precision, Result, Shape};
use rayon::prelude::*;
use std::iter::repeat_n;

impl<'t> Var<'t> {
    /// softmax(q kᵀ / √A) v for each head: `[B, L, 3·H·A]`, the last axis `[q | k | v]`, each
    /// by head → `[B, L, H·A]`. In bf16 it is stored rounded: a product reads it.
    ///
    /// # Errors
    /// If the width is not three times a multiple of `heads`.
    pub fn self_attention(&self, heads: usize) -> Result<Var<'t>> {
        let [b, l, width] = self.dims("self_attention")?;
        if heads == 0 || !width.is_multiple_of(3 * heads) {
            let expected = format!("a width of 3·H·A with {heads} heads");
            return Err(Error::shape("self_attention", expected, format!("{:?}", self.shape)));
        }
        let d = width / 3;
        let (tape, precision) = (self.tape, self.tape.precision());
        let mut y = tape.take_rounded(precision, b * l * d);
        let out = self.grad.and_then(|_| tape.grad_id_as(y.dtype()));
        let mut qkv = self.factor(out.is_some(), precision, true);
        let images = Output::of(&mut y).chunks(l * d).into_par_iter().enumerate();
        let values = matrix(&self.value, b * l, width);
        let copies = parts(qkv.copy(), repeat_n(l * width, b));
        images.zip(copies).for_each(|((image, y), (from, to))| {
            narrow(from, to);
            let qkv = Qkv::of(values.part([image * l, l], [0, width]), precision);
            forward_heads(y.matrix(l, d), qkv, heads);
        });

        let qkv = qkv.saved();
        tape.record(out, move |backward, dy| {
            let mut d_qkv = backward.take_for(qkv.grad, b * l * width);
            let (values, dy) = (qkv.mat(b * l, width), matrix(&dy, b * l, d));
            let images = Output::of(&mut d_qkv).chunks(l * width).into_par_iter().enumerate();
            images.for_each(|(image, d_qkv)| {
                let rows = [image * l, l];
                let own = Qkv::of(values.part(rows, [0, width]), precision);
                let (q, d_kv) = d_qkv.matrix(l, width).split_at_col(d);
                let (k, v) = d_kv.split_at_col(d);
                backward_heads(QkvMut { q, k, v }, own, dy.part(rows, [0, d]), heads);
            });
            backward.give(qkv.grad, d_qkv);
        });
        Ok(tape.var(Shape::from([b, l, d]), y, out))
    }

    /// softmax(q kᵀ / √A) v with queries of their own: q `[B, Q, H·A]`, kv `[B, L, 2·H·A]`
    /// with the last axis `[k | v]` → `[B, Q, H·A]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn cross_attention(&self, kv: &Var<'t>, heads: usize) -> Result<Var<'t>> {
        let [b, q_len, d] = self.dims("cross_attention")?;
        let [b_kv, l, width] = kv.dims("cross_attention")?;
        if heads == 0 || !d.is_multiple_of(heads) || width != 2 * d || b != b_kv {
            let expected = format!("q [B, Q, D], kv [B, L, 2·D], D a multiple of {heads} heads");
            let got = format!("q {:?}, kv {:?}", self.shape, kv.shape);
            return Err(Error::shape("cross_attention", expected, got));
        }
        let (tape, precision) = (self.tape, self.tape.precision());
        let mut y = tape.take(b * q_len * d);
        let images =
            y.as_f32_mut().par_chunks_mut(q_len * d).zip(self.values().par_chunks(q_len * d));
        images.zip(kv.values().par_chunks(l * width)).for_each(|((y, q), kv)| {
            let (k, v) = mat(kv, l, width).split_at_col(d);
            let [q, k, v] = [mat(q, q_len, d), k, v].map(Values::from);
            forward_heads(mat_mut(y, q_len, d).into(), Qkv { q, k, v, precision }, heads);
        });

        let out = tape.grad_id_if(&[self, kv]);
        let (q, kv) = (self.clone_saved(), kv.clone_saved());
        tape.record(out, move |backward, dy| {
            let (q_values, kv_values) = (q.value.as_f32(), kv.value.as_f32());
            let mut dq = backward.pool.take(DType::F32, q_values.len());
            let mut d_kv = backward.pool.take(DType::F32, kv_values.len());
            let inputs = q_values.par_chunks(q_len * d).zip(kv_values.par_chunks(l * width));
            let outputs = dq
                .as_f32_mut()
                .par_chunks_mut(q_len * d)
                .zip(d_kv.as_f32_mut().par_chunks_mut(l * width));
            outputs.zip(inputs).zip(dy.as_f32().par_chunks(q_len * d)).for_each(
                |(((dq, d_kv), (q, kv)), dy)| {
                    let (k, v) = mat(kv, l, width).split_at_col(d);
                    let (dk, dv) = mat_mut(d_kv, l, width).split_at_col_mut(d);
                    let dq = mat_mut(dq, q_len, d).into();
                    let grads = QkvMut { q: dq, k: dk.into(), v: dv.into() };
                    let [q, k, v, dy] =
                        [mat(q, q_len, d), k, v, mat(dy, q_len, d)].map(Values::from);
                    backward_heads(grads, Qkv { q, k, v, precision }, dy, heads);
                },
            );
            backward.give(q.grad, dq);
            backward.give(kv.grad, d_kv);
        });
        Ok(tape.var(Shape::from([b, q_len, d]), y, out))
    }
}

/// Queries `[Q, H·A]`, keys and values `[L, H·A]` of one sequence.
#[derive(Clone, Copy)]
struct Qkv<'a> {
    q: Values<'a>,
    k: Values<'a>,
    v: Values<'a>,
    precision: Precision,
}

struct QkvMut<'a> {
    q: ValuesMut<'a>,
    k: ValuesMut<'a>,
    v: ValuesMut<'a>,
}

impl<'a> Qkv<'a> {
    /// Of `[L, q | k | v]`.
    fn of(qkv: Values<'a>, precision: Precision) -> Qkv<'a> {
        let (l, d) = (qkv.nrows(), qkv.ncols() / 3);
        let [q, k, v] = [0, d, 2 * d].map(|first| qkv.part([0, l], [first, d]));
        Qkv { q, k, v, precision }
    }

    fn split(self, cut: usize) -> (Qkv<'a>, Qkv<'a>) {
        let (q0, q1) = self.q.split_at_col(cut);
        let (k0, k1) = self.k.split_at_col(cut);
        let (v0, v1) = self.v.split_at_col(cut);
        (Qkv { q: q0, k: k0, v: v0, ..self }, Qkv { q: q1, k: k1, v: v1, ..self })
    }

    /// A right factor.
    fn right<'b>(self, values: Values<'b>) -> Right<'b> {
        Right::new(values, self.precision)
    }
}

/// Halves the heads until one is left, so that one image uses several threads too.
fn forward_heads(y: ValuesMut<'_>, qkv: Qkv<'_>, heads: usize) {
    if heads == 1 {
        return forward_head(y, qkv);
    }
    let (left, cut) = (heads / 2, heads / 2 * (y.ncols() / heads));
    let ((y0, y1), (qkv0, qkv1)) = (y.split_at_col(cut), qkv.split(cut));
    rayon::join(|| forward_heads(y0, qkv0, left), || forward_heads(y1, qkv1, heads - left));
}

fn backward_heads(grads: QkvMut<'_>, qkv: Qkv<'_>, dy: Values<'_>, heads: usize) {
    if heads == 1 {
        return backward_head(grads, qkv, dy);
    }
    let (left, cut) = (heads / 2, heads / 2 * (dy.ncols() / heads));
    let ((qkv0, qkv1), (dy0, dy1)) = (qkv.split(cut), dy.split_at_col(cut));
    let (q0, q1) = grads.q.split_at_col(cut);
    let (k0, k1) = grads.k.split_at_col(cut);
    let (v0, v1) = grads.v.split_at_col(cut);
    rayon::join(
        || backward_heads(QkvMut { q: q0, k: k0, v: v0 }, qkv0, dy0, left),
        || backward_heads(QkvMut { q: q1, k: k1, v: v1 }, qkv1, dy1, heads - left),
    );
}

/// Fills `p` with softmax(q kᵀ / √A), `[Q, L]`.
fn attention_matrix(p: &mut [f32], qkv: Qkv<'_>) {
    let (q_len, l) = (qkv.q.nrows(), qkv.k.nrows());
    gemm(mat_mut(p, q_len, l), Write::Replace, qkv.q, qkv.right(qkv.k.transpose()));
    softmax_rows(p, l, 1.0 / (qkv.q.ncols() as f32).sqrt());
}

fn forward_head(y: ValuesMut<'_>, qkv: Qkv<'_>) {
    let (q_len, l) = (qkv.q.nrows(), qkv.k.nrows());
    with_scratch(q_len * l, |p| {
        attention_matrix(p, qkv);
        gemm(y, Write::Replace, mat(p, q_len, l), qkv.right(qkv.v));
    });
}

/// dV = Pᵀ dY; dP = dY Vᵀ; dS = P (dP − Σ P dP); dQ = dS K / √A; dK = dSᵀ Q / √A.
fn backward_head(grads: QkvMut<'_>, qkv: Qkv<'_>, dy: Values<'_>) {
    let (q_len, l) = (qkv.q.nrows(), qkv.k.nrows());
    with_scratch(2 * q_len * l, |scratch| {
        let (p, ds) = scratch.split_at_mut(q_len * l);
        attention_matrix(p, qkv);
        gemm(grads.v, Write::Replace, mat(p, q_len, l).transpose(), qkv.right(dy));
        gemm(mat_mut(ds, q_len, l), Write::Replace, dy, qkv.right(qkv.v.transpose()));
        softmax_rows_backward(p, ds, l, 1.0 / (qkv.q.ncols() as f32).sqrt());
        gemm(grads.q, Write::Replace, mat(ds, q_len, l), qkv.right(qkv.k));
        gemm(grads.k, Write::Replace, mat(ds, q_len, l).transpose(), qkv.right(qkv.q));
    });
}

simd! {
    /// Rows of length `width` to softmax(scale · row), in place.
    pub(super) fn softmax_rows<I>(x: &mut [f32], width: usize, scale: f32) {
        for row in x.chunks_exact_mut(width) {
            let max = reduce::max(row);
            for v in row.iter_mut() {
                *v = math::exp_of_negative::<I>((*v - max) * scale);
            }
            let inverse = 1.0 / reduce::sum(row);
            for v in row.iter_mut() {
                *v *= inverse;
            }
        }
    }
}

simd! {
    /// `dp` to scale · p · (dp − Σ p·dp), row by row, in place.
    pub(super) fn softmax_rows_backward<I>(p: &[f32], dp: &mut [f32], width: usize, scale: f32) {
        for (p, dp) in p.chunks_exact(width).zip(dp.chunks_exact_mut(width)) {
            let total = reduce::dot::<I>(p, dp);
            for (p, d) in p.iter().zip(dp.iter_mut()) {
                *d = scale * p * (*d - total);
            }
        }
    }
}
