//! The attention matrix of a block of queries of one head, there and back.

use super::attention::softmax_rows_backward;
use crate::Precision;
use crate::kernel::elementwise::add_slice;
use crate::kernel::gemm::{MatMut, MatRef, Right, gemm, mat, mat_mut};
use crate::kernel::isa::simd;
use crate::kernel::scratch::with_scratch;
use crate::kernel::{math, reduce};
use crate::tape::Write;
use faer::prelude::ReborrowMut;

/// What a block reads: queries `[N, A]`, all keys and values `[L, A]` of their head.
pub(super) struct Block<'a> {
    pub(super) q: MatRef<'a>,
    pub(super) k: MatRef<'a>,
    pub(super) v: MatRef<'a>,
    /// Queries `[N, A]`, keys `[R, A]` by distance, the row of distance 0.
    pub(super) distances: Option<(MatRef<'a>, MatRef<'a>, usize)>,
    /// The place of the first query among the keys.
    pub(super) place: usize,
    pub(super) is_causal: bool,
    /// `[L]`.
    pub(super) removed_keys: Option<&'a [bool]>,
    /// `[N, P]`, over the last P keys.
    pub(super) removed_pairs: Option<&'a [bool]>,
    pub(super) scale: f32,
    pub(super) precision: Precision,
}

/// Where a block's gradients go: queries `[N, A]` are written, the others added to.
pub(super) struct BlockGrads<'a> {
    pub(super) q: MatMut<'a>,
    pub(super) k: MatMut<'a>,
    pub(super) v: MatMut<'a>,
    /// Of the distances' queries; without one they are the queries.
    pub(super) own: Option<MatMut<'a>>,
    pub(super) keys: MatMut<'a>,
}

/// The rows of the distances' keys that a block meets: query n meets key j in column n' + j with
/// n' = N − 1 − n.
struct Window<'a> {
    queries: MatRef<'a>,
    keys: MatRef<'a>,
    first: usize,
}

impl<'a> Block<'a> {
    fn rows(&self) -> usize {
        self.q.nrows()
    }

    /// Keys that any query of the block sees.
    fn keys(&self) -> usize {
        self.seen(self.rows() - 1)
    }

    /// Keys that are not after query `n`.
    fn seen(&self, n: usize) -> usize {
        keys_seen([self.place + n, self.k.nrows()], self.is_causal)
    }

    /// A right factor.
    fn right<'b>(&self, values: MatRef<'b>) -> Right<'b> {
        Right::new(values, self.precision)
    }

    fn window(&self) -> Option<Window<'a>> {
        let (queries, keys, zero) = self.distances?;
        let first = zero - (self.place + self.rows() - 1);
        let count = window_rows([self.rows(), self.keys()], keys.nrows() - first);
        Some(Window { queries, keys: keys.subrows(first, count), first })
    }

    /// Values of the window's product.
    fn window_len(&self) -> usize {
        self.window().map_or(0, |window| self.rows() * window.keys.nrows())
    }

    /// Fills `p` `[N, keys]` with the softmax; `by_distance` `[N, window]` is working memory.
    fn attention_matrix(&self, p: &mut [f32], by_distance: &mut [f32]) {
        let (rows, keys) = (self.rows(), self.keys());
        let k_t = self.k.subrows(0, keys).transpose();
        gemm(mat_mut(p, rows, keys), Write::Replace, self.q, self.right(k_t));
        if let Some(window) = self.window() {
            let width = window.keys.nrows();
            let d = mat_mut(by_distance, rows, width);
            gemm(d, Write::Replace, window.queries, self.right(window.keys.transpose()));
            for (n, p) in p.chunks_exact_mut(keys).enumerate() {
                let shift = rows - 1 - n;
                add_slice(&mut p[..self.seen(n)], &by_distance[n * width + shift..]);
            }
        }
        for (n, p) in p.chunks_exact_mut(keys).enumerate() {
            self.remove(n, p);
            let (seen, after) = p.split_at_mut(self.seen(n));
            after.fill(0.0);
            softmax_seen(seen, self.scale);
        }
    }

    /// Puts −∞ where a mask of key or pair removes.
    fn remove(&self, n: usize, scores: &mut [f32]) {
        let remove = |scores: &mut [f32], removed: &[bool]| {
            for (score, _) in scores.iter_mut().zip(removed).filter(|(_, removed)| **removed) {
                *score = f32::NEG_INFINITY;
            }
        };
        if let Some(removed) = self.removed_keys {
            remove(scores, removed);
        }
        if let Some(pairs) = self.removed_pairs {
            let columns = pairs.len() / self.rows();
            let first = self.k.nrows() - columns;
            if first < scores.len() {
                remove(&mut scores[first..], &pairs[n * columns..][..columns]);
            }
        }
    }
}

/// Of `l` keys those that a query at `place` sees.
pub(super) fn keys_seen([place, l]: [usize; 2], is_causal: bool) -> usize {
    if is_causal { l.min(place + 1) } else { l }
}

/// Rows of distances that some rows of queries meet, of so many from their first on.
pub(super) fn window_rows([rows, keys]: [usize; 2], from_first: usize) -> usize {
    (keys + rows - 1).min(from_first)
}

/// y = P v.
pub(super) fn forward(y: MatMut<'_>, block: &Block<'_>) {
    let (rows, keys) = (block.rows(), block.keys());
    with_scratch(rows * keys + block.window_len(), |scratch| {
        let (p, by_distance) = scratch.split_at_mut(rows * keys);
        block.attention_matrix(p, by_distance);
        gemm(y, Write::Replace, mat(p, rows, keys), block.right(block.v.subrows(0, keys)));
    });
}

/// dV += Pᵀ dY; dP = dY Vᵀ; dS = scale · P (dP − Σ P dP); dQ = dS K; dK += dSᵀ Q; of distances the
/// same with dS put back where it came from.
pub(super) fn backward(mut grads: BlockGrads<'_>, block: &Block<'_>, dy: MatRef<'_>) {
    let (rows, keys) = (block.rows(), block.keys());
    with_scratch(2 * rows * keys + block.window_len(), |scratch| {
        let (p, rest) = scratch.split_at_mut(rows * keys);
        let (ds, by_distance) = rest.split_at_mut(rows * keys);
        block.attention_matrix(p, by_distance);
        let dv = grads.v.rb_mut().subrows_mut(0, keys);
        gemm(dv, Write::Add, mat(p, rows, keys).transpose(), block.right(dy));
        let v_t = block.v.subrows(0, keys).transpose();
        gemm(mat_mut(ds, rows, keys), Write::Replace, dy, block.right(v_t));
        softmax_rows_backward(p, ds, keys, block.scale);
        let ds_matrix = mat(ds, rows, keys);
        let k = block.right(block.k.subrows(0, keys));
        gemm(grads.q.rb_mut(), Write::Replace, ds_matrix, k);
        let dk = grads.k.rb_mut().subrows_mut(0, keys);
        gemm(dk, Write::Add, ds_matrix.transpose(), block.right(block.q));

        let Some(window) = block.window() else { return };
        let width = window.keys.nrows();
        by_distance.fill(0.0);
        for (n, ds) in ds.chunks_exact(keys).enumerate() {
            let at = n * width + rows - 1 - n;
            by_distance[at..at + block.seen(n)].copy_from_slice(&ds[..block.seen(n)]);
        }
        let d = mat(by_distance, rows, width);
        let window_keys = block.right(window.keys);
        match grads.own {
            Some(own) => gemm(own, Write::Replace, d, window_keys),
            None => gemm(grads.q, Write::Add, d, window_keys),
        }
        let d_keys = grads.keys.subrows_mut(window.first, width);
        gemm(d_keys, Write::Add, d.transpose(), block.right(window.queries));
    });
}

simd! {
    /// softmax(scale · x) in place; 0 where all are −∞.
    fn softmax_seen<I>(x: &mut [f32], scale: f32) {
        let max = reduce::max(x);
        if max == f32::NEG_INFINITY {
            x.fill(0.0);
            return;
        }
        for v in x.iter_mut() {
            // A row may reach far down: to the last bits there, too.
            *v = math::exp::<I>((*v - max) * scale);
        }
        let inverse = 1.0 / reduce::sum(x);
        for v in x.iter_mut() {
            *v *= inverse;
        }
    }
}
