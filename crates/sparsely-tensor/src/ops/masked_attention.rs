//! Softmax attention for language: more keys than queries, masks, distances in the score.
//!
//! The attention matrix exists for a block of queries of one head at a time, in a thread's scratch, and
//! is computed again in the backward pass: nothing quadratic in the length is kept or held.

use super::masked_attention_block::{Block, BlockGrads, backward, forward, keys_seen, window_rows};
use super::saved::Saved;
use crate::kernel::elementwise::add_slice;
use crate::kernel::gemm::{MatMut, MatRef, mat, mat_mut};
use crate::tape::Var;
use crate::{DType, Error, Precision, Result};
use faer::prelude::ReborrowMut;
use rayon::prelude::*;
use std::sync::Arc;

/// Queries of a block, whose rows of the attention matrix exist at once.
const ROWS: usize = 64;
/// Most partial sums of the gradient of what all sequences share.
const STRANDS: usize = 8;

/// How queries meet keys.
#[derive(Clone, Copy)]
pub struct Attention<'a, 't> {
    /// A. Queries have a multiple of the keys' heads; each key head serves as many queries' heads.
    pub head_width: usize,
    /// What scores are multiplied by.
    pub scale: f32,
    /// The place of the first query among the keys.
    pub offset: usize,
    /// Who does not see whom.
    pub mask: &'a AttentionMask,
    /// A term of the score for the distance of key and query.
    pub distances: Option<Distances<'a, 't>>,
}

/// Scores get `queries_i · keys_(zero + r)` with the distance r = place of the key − place of the query.
#[derive(Clone, Copy)]
pub struct Distances<'a, 't> {
    /// `[B, Q, H·A]`.
    pub queries: &'a Var<'t>,
    /// `[R, Hk·A]`, a row for each distance.
    pub keys: &'a Var<'t>,
    /// The row of distance 0.
    pub zero: usize,
}

/// Which keys a query does not see; all that are removed by any of these are. A query that sees no
/// key gets 0.
#[derive(Clone, Debug, Default)]
pub struct AttentionMask {
    /// Removes keys after the query's own place.
    pub is_causal: bool,
    /// `[B, L]`, true removes a key for all queries of the sequence: padding.
    pub keys: Option<Arc<Vec<bool>>>,
    /// `[Q, P]` over the last P keys, true removes a pair.
    pub pairs: Option<Arc<Vec<bool>>>,
}

/// Pairs of a query and a key, and of a query and a row of distances from the farthest behind to 0, that a head of
/// [`Var::masked_attention`] multiplies under a causal mask: Q queries after `offset` keys, no key after the last
/// query. A block of queries meets all keys that its last one sees.
pub fn causal_pairs(queries: usize, offset: usize) -> [u64; 2] {
    let mut pairs = [0, 0];
    for first in (0..queries).step_by(ROWS) {
        let rows = ROWS.min(queries - first);
        let last = first + rows - 1;
        let keys = keys_seen([offset + last, offset + queries], true);
        // Distances end at 0, the last query's own.
        let distances = window_rows([rows, keys], offset + last + 1);
        pairs[0] += (rows * keys) as u64;
        pairs[1] += (rows * distances) as u64;
    }
    pairs
}

impl<'t> Var<'t> {
    /// softmax(scale · (q kᵀ + distances), masked) v for each head: q `[B, Q, H·A]`, k and v `[B, L, Hk·A]` →
    /// `[B, Q, H·A]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn masked_attention(
        &self,
        k: &Var<'t>,
        v: &Var<'t>,
        settings: &Attention<'_, 't>,
    ) -> Result<Var<'t>> {
        let sizes = Sizes::of(self, [k, v], settings)?;
        let tape = self.tape;
        let distances = settings.distances.map(|distances| SavedDistances {
            queries: distances.queries.clone_saved(),
            keys: distances.keys.clone_saved(),
            zero: distances.zero,
        });
        let [q_saved, k_saved, v_saved] = [self, k, v].map(Var::clone_saved);
        let call = Call {
            sizes,
            precision: tape.precision(),
            mask: settings.mask.clone(),
            q: q_saved,
            k: k_saved,
            v: v_saved,
            distances,
        };
        let mut y = tape.take(self.shape.len());
        call.forward(y.as_f32_mut());

        let mut inputs = vec![self, k, v];
        inputs.extend(settings.distances.iter().flat_map(|d| [d.queries, d.keys]));
        let out = tape.grad_id_if(&inputs);
        tape.record(out, move |backward, dy| {
            let lens = [call.q.value.len(), call.k.value.len()];
            let mut dq = backward.pool.take(DType::F32, lens[0]);
            let mut dk = backward.pool.zeros(lens[1]);
            let mut dv = backward.pool.zeros(lens[1]);
            let mut d_own = call.own_queries().map(|_| backward.pool.take(DType::F32, lens[0]));
            let keys = call.distances.as_ref().map_or(0, |d| d.keys.value.len());
            let mut d_keys = backward.pool.zeros(call.sizes.strands() * keys);
            call.backward(
                dy.as_f32(),
                Grads {
                    q: dq.as_f32_mut(),
                    k: dk.as_f32_mut(),
                    v: dv.as_f32_mut(),
                    own: d_own.as_mut().map(|d| d.as_f32_mut()),
                    keys: d_keys.as_f32_mut(),
                },
            );
            backward.give(call.q.grad, dq);
            backward.give(call.k.grad, dk);
            backward.give(call.v.grad, dv);
            if let Some(distances) = &call.distances {
                if let Some(d_own) = d_own {
                    backward.give(distances.queries.grad, d_own);
                }
                let mut sum = backward.pool.zeros(keys);
                for strand in d_keys.as_f32().chunks(keys) {
                    add_slice(sum.as_f32_mut(), strand);
                }
                backward.give(distances.keys.grad, sum);
            }
        });
        Ok(tape.var(self.shape, y, out))
    }
}

/// Extents of a call.
#[derive(Clone, Copy)]
struct Sizes {
    b: usize,
    q: usize,
    l: usize,
    a: usize,
    /// Heads of the keys.
    heads: usize,
    /// Heads of the queries for each of them.
    shared_by: usize,
    /// Columns of the pair mask.
    pairs: usize,
    scale: f32,
    offset: usize,
}

impl Sizes {
    fn of(q: &Var<'_>, [k, v]: [&Var<'_>; 2], settings: &Attention<'_, '_>) -> Result<Sizes> {
        const OP: &str = "masked_attention";
        let [b, queries, width] = q.dims(OP)?;
        let [b_k, l, k_width] = k.dims(OP)?;
        let &Attention { head_width: a, scale, offset, mask, distances } = settings;
        let fits = a > 0 && k_width > 0 && b == b_k && v.shape == k.shape;
        let pairs = mask.pairs.as_ref().map_or(0, |pairs| pairs.len() / queries.max(1));
        let fits = fits && k_width.is_multiple_of(a) && width.is_multiple_of(k_width);
        let fits = fits && mask.keys.as_ref().is_none_or(|keys| keys.len() == b * l);
        let fits =
            fits && mask.pairs.as_ref().is_none_or(|p| p.len() == queries * pairs && pairs <= l);
        if !fits {
            let expected = format!(
                "q [B, Q, H·A], k and v [B, L, Hk·A] for A {a} with H a multiple of Hk, masks [B, L] and [Q, up to L]"
            );
            let got = format!(
                "q {:?}, k {:?}, v {:?}, masks of {:?} and {:?}",
                q.shape,
                k.shape,
                v.shape,
                mask.keys.as_ref().map(|keys| keys.len()),
                mask.pairs.as_ref().map(|pairs| pairs.len()),
            );
            return Err(Error::shape(OP, expected, got));
        }
        if let Some(Distances { queries: own, keys, zero }) = distances {
            let behind = (offset + queries).saturating_sub(1);
            let ahead = if mask.is_causal { 0 } else { l.saturating_sub(offset + 1) };
            let rows = keys.shape.rows();
            let fits = own.shape == q.shape
                && keys.shape.width() == k_width
                && zero >= behind
                && zero + ahead < rows;
            if !fits {
                let expected = format!(
                    "queries {:?}, keys [R, {k_width}] for distances from −{behind} to {ahead}",
                    q.shape
                );
                let got = format!(
                    "queries {:?}, keys {:?}, distance 0 in row {zero}",
                    own.shape, keys.shape
                );
                return Err(Error::shape(OP, expected, got));
            }
        }
        let (heads, shared_by) = (k_width / a, width / k_width);
        Ok(Sizes { b, q: queries, l, a, heads, shared_by, pairs, scale, offset })
    }

    /// Partial sums over sequences: their number depends on the shape alone.
    fn strands(&self) -> usize {
        self.b.div_ceil(self.strand())
    }

    /// Sequences of a partial sum.
    fn strand(&self) -> usize {
        self.b.div_ceil(STRANDS).max(1)
    }
}

struct SavedDistances {
    queries: Saved,
    keys: Saved,
    zero: usize,
}

/// All that a call reads.
struct Call {
    sizes: Sizes,
    precision: Precision,
    mask: AttentionMask,
    q: Saved,
    k: Saved,
    v: Saved,
    distances: Option<SavedDistances>,
}

/// Gradients of a call; those of the distances' keys are partial sums.
struct Grads<'a> {
    q: &'a mut [f32],
    k: &'a mut [f32],
    v: &'a mut [f32],
    /// Of the distances' queries, where those are others.
    own: Option<&'a mut [f32]>,
    keys: &'a mut [f32],
}

/// What one sequence and one of its key heads read.
#[derive(Clone, Copy)]
struct Head<'a> {
    call: &'a Call,
    sequence: usize,
    head: usize,
}

impl Call {
    /// The distances' queries, if they are not the others.
    fn own_queries(&self) -> Option<&Saved> {
        let own = self.distances.as_ref().map(|distances| &distances.queries)?;
        let is_same = Arc::ptr_eq(&own.value, &self.q.value) && own.grad == self.q.grad;
        (!is_same).then_some(own)
    }

    fn forward(&self, y: &mut [f32]) {
        let Sizes { q, a, heads, shared_by, .. } = self.sizes;
        let width = heads * shared_by * a;
        y.par_chunks_mut((q * width).max(1)).enumerate().for_each(|(sequence, y)| {
            each_column_block(mat_mut(y, q, width), shared_by * a, 0, &|head, y| {
                let head = Head { call: self, sequence, head };
                (0..shared_by).fold(y, |y, i| {
                    let (own, rest) = y.split_at_col_mut(a);
                    forward_rows(own, head, i, 0);
                    rest
                });
            });
        });
    }

    fn backward(&self, dy: &[f32], grads: Grads<'_>) {
        let Sizes { q, l, a, heads, shared_by, .. } = self.sizes;
        let (strand, width, k_width) = (self.sizes.strand(), heads * shared_by * a, heads * a);
        let distance_keys = self.distances.as_ref().map_or(0, |d| d.keys.value.len());
        let of_strand = |len: usize| (strand * len).max(1);
        let mut own = match grads.own {
            Some(own) => own.chunks_mut(of_strand(q * width)).map(Some).collect(),
            None => (0..self.sizes.strands()).map(|_| None).collect::<Vec<_>>(),
        };
        let mut keys: Vec<&mut [f32]> = match distance_keys {
            0 => (0..self.sizes.strands()).map(|_| &mut [][..]).collect(),
            len => grads.keys.chunks_mut(len).collect(),
        };
        let tasks = grads
            .q
            .par_chunks_mut(of_strand(q * width))
            .zip(grads.k.par_chunks_mut(of_strand(l * k_width)))
            .zip(grads.v.par_chunks_mut(of_strand(l * k_width)))
            .zip(own.par_iter_mut())
            .zip(keys.par_iter_mut());
        tasks.enumerate().for_each(|(strand_index, ((((dq, dk), dv), own), keys))| {
            let rows = dq.len() / width.max(1);
            let key_rows = keys.len() / k_width;
            let grads = StrandGrads {
                q: mat_mut(dq, rows, width),
                k: mat_mut(dk, rows / q * l, k_width),
                v: mat_mut(dv, rows / q * l, k_width),
                own: own.as_mut().map(|own| mat_mut(own, rows, width)),
                keys: mat_mut(keys, key_rows, k_width),
            };
            let first = strand_index * strand;
            backward_heads(grads, self, dy, [first, 0]);
        });
    }
}

/// Calls `f` with the index of each block of columns, blocks in parallel.
fn each_column_block(
    y: MatMut<'_>,
    width: usize,
    first: usize,
    f: &(impl Fn(usize, MatMut<'_>) + Sync),
) {
    let blocks = y.ncols() / width;
    if blocks <= 1 {
        return f(first, y);
    }
    let (left, right) = y.split_at_col_mut(blocks / 2 * width);
    rayon::join(
        || each_column_block(left, width, first, f),
        || each_column_block(right, width, first + blocks / 2, f),
    );
}

fn forward_rows(y: MatMut<'_>, head: Head<'_>, shared: usize, first: usize) {
    let rows = y.nrows();
    if rows > ROWS {
        let cut = rows.div_ceil(ROWS) / 2 * ROWS;
        let (upper, lower) = y.split_at_row_mut(cut);
        rayon::join(
            || forward_rows(upper, head, shared, first),
            || forward_rows(lower, head, shared, first + cut),
        );
        return;
    }
    if rows > 0 {
        forward(y, &head.block(shared, first, rows));
    }
}

/// Gradients of the sequences of a strand, all heads or some.
struct StrandGrads<'a> {
    q: MatMut<'a>,
    k: MatMut<'a>,
    v: MatMut<'a>,
    own: Option<MatMut<'a>>,
    keys: MatMut<'a>,
}

/// Heads in parallel, the sequences and query blocks of a head in order.
fn backward_heads(grads: StrandGrads<'_>, call: &Call, dy: &[f32], [sequence, head]: [usize; 2]) {
    let Sizes { a, shared_by, .. } = call.sizes;
    let heads = grads.k.ncols() / a;
    if heads > 1 {
        let left = heads / 2;
        let (cut, q_cut) = (left * a, left * shared_by * a);
        let (q0, q1) = grads.q.split_at_col_mut(q_cut);
        let (k0, k1) = grads.k.split_at_col_mut(cut);
        let (v0, v1) = grads.v.split_at_col_mut(cut);
        let (keys0, keys1) = grads.keys.split_at_col_mut(cut);
        let (own0, own1) = grads.own.map(|own| own.split_at_col_mut(q_cut)).unzip();
        let (g0, g1) = (
            StrandGrads { q: q0, k: k0, v: v0, own: own0, keys: keys0 },
            StrandGrads { q: q1, k: k1, v: v1, own: own1, keys: keys1 },
        );
        rayon::join(
            || backward_heads(g0, call, dy, [sequence, head]),
            || backward_heads(g1, call, dy, [sequence, head + left]),
        );
        return;
    }
    backward_head(grads, call, dy, [sequence, head]);
}

fn backward_head(mut grads: StrandGrads<'_>, call: &Call, dy: &[f32], [first, head]: [usize; 2]) {
    let Sizes { q, l, a, heads, shared_by, .. } = call.sizes;
    let width = heads * shared_by * a;
    for i in 0..grads.q.nrows() / q.max(1) {
        let of_head = Head { call, sequence: first + i, head };
        let dy = mat(&dy[(first + i) * q * width..], q, width);
        for shared in 0..shared_by {
            for row in (0..q).step_by(ROWS) {
                let rows = ROWS.min(q - row);
                let column = (head * shared_by + shared) * a;
                backward(
                    BlockGrads {
                        q: grads.q.rb_mut().submatrix_mut(i * q + row, shared * a, rows, a),
                        k: grads.k.rb_mut().subrows_mut(i * l, l),
                        v: grads.v.rb_mut().subrows_mut(i * l, l),
                        own: grads.own.as_mut().map(|own| {
                            own.rb_mut().submatrix_mut(i * q + row, shared * a, rows, a)
                        }),
                        keys: grads.keys.rb_mut(),
                    },
                    &of_head.block(shared, row, rows),
                    dy.submatrix(row, column, rows, a),
                );
            }
        }
    }
}

impl<'a> Head<'a> {
    /// Queries `first..first + rows` of the head that is `shared`-th of those of the key head.
    fn block(self, shared: usize, first: usize, rows: usize) -> Block<'a> {
        let Sizes { q, l, a, heads, shared_by, pairs, scale, offset, .. } = self.call.sizes;
        let (width, k_width) = (heads * shared_by * a, heads * a);
        let column = (self.head * shared_by + shared) * a;
        let queries = |values: &'a [f32]| -> MatRef<'a> {
            mat(&values[self.sequence * q * width..], q, width).submatrix(first, column, rows, a)
        };
        let keys = |values: &'a [f32]| -> MatRef<'a> {
            mat(&values[self.sequence * l * k_width..], l, k_width).subcols(self.head * a, a)
        };
        let mask = &self.call.mask;
        Block {
            q: queries(self.call.q.value.as_f32()),
            k: keys(self.call.k.value.as_f32()),
            v: keys(self.call.v.value.as_f32()),
            distances: self.call.distances.as_ref().map(|distances| {
                let all = distances.keys.value.as_f32();
                let keys = mat(all, all.len() / k_width, k_width).subcols(self.head * a, a);
                (queries(distances.queries.value.as_f32()), keys, distances.zero)
            }),
            place: offset + first,
            is_causal: mask.is_causal,
            removed_keys: mask.keys.as_ref().map(|keys| &keys[self.sequence * l..][..l]),
            removed_pairs: mask.pairs.as_ref().map(|all| &all[first * pairs..][..rows * pairs]),
            scale,
            precision: self.call.precision,
        }
    }
}
