//! Linear layers whose weights are stacked in groups, each applied to its own list of rows.
//!
//! [`Var::gather_linear`] reads the rows of each group by index, so that no permuted copy of
//! the input exists; [`Var::scatter_linear`] adds each group's rows back with a factor. Tasks
//! are (group × block of rows), larger blocks first. How rows are cut may depend on the threads, since a
//! row's bits do not depend on the cut.

use super::blocks::{TILE_ROWS, most_rows, row_blocks};
use super::column_sum::add_rows;
use super::saved::{Output, Saved, matrix, take_first, with_values};
use crate::buffer::Buffer;
use crate::kernel::count::add_macs;
use crate::kernel::elementwise::{
    Activation, activate_with_slope, add_slice, axpy, dot, narrow, scale_by, scaled_rows,
};
use crate::kernel::gemm::{
    Finish, Left, MatRef, ROW_BLOCK, Right, Start, Values, add_outer, gemm, mat, mat_mut, product,
    with_all_packed,
};
use crate::kernel::scratch::with_scratch;
use crate::packed::Params;
use crate::slab::Param;
use crate::tape::{Tape, Var, Write};
use crate::{Error, Precision, Result, Shape};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Rows of a group that a weight gradient takes at a time.
const CHUNK: usize = 1024;
/// Most rows of a group that share a thread's copy of a kernel, which stays near while they are computed: kernels that
/// are packed side by side are written to memory and read once more.
const UNPACKED: usize = 2 * ROW_BLOCK;
/// Most blocks of a group that make a copy each.
const OWN_COPIES: usize = 4;

/// Which rows belong to which group: entries sorted by group, each the index of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowGroups {
    offsets: Vec<usize>,
    rows: Vec<u32>,
    entry_offsets: Vec<usize>,
    entries: Vec<u32>,
}

impl RowGroups {
    /// From the rows of each group, in the order in which they will be computed.
    ///
    /// The entries of one row are combined in the order of their groups; `num_rows` is the
    /// number of rows that the indices count.
    ///
    /// # Errors
    /// If an index is not below `num_rows`.
    pub fn new(num_rows: usize, groups: &[Vec<u32>]) -> Result<RowGroups> {
        let rows: Vec<u32> = groups.concat();
        if let Some(row) = rows.iter().find(|row| **row as usize >= num_rows) {
            let expected = format!("indices below {num_rows}");
            return Err(Error::shape("row groups", expected, format!("index {row}")));
        }
        let offsets = running_sum(groups.iter().map(Vec::len));
        let mut counts = vec![0; num_rows];
        rows.iter().for_each(|row| counts[*row as usize] += 1);
        let entry_offsets = running_sum(counts.into_iter());
        let mut next = entry_offsets.clone();
        let mut entries = vec![0; rows.len()];
        for (entry, row) in rows.iter().enumerate() {
            entries[next[*row as usize]] = entry as u32;
            next[*row as usize] += 1;
        }
        Ok(RowGroups { offsets, rows, entry_offsets, entries })
    }

    /// The same groups with a row of its own for each entry, in order.
    pub fn apart(&self) -> RowGroups {
        let own: Vec<u32> = (0..self.rows.len() as u32).collect();
        RowGroups {
            offsets: self.offsets.clone(),
            rows: own.clone(),
            entry_offsets: (0..=own.len()).collect(),
            entries: own,
        }
    }

    /// The same groups as groups `indices`, which ascend, of `num_groups`; the others are empty.
    ///
    /// # Errors
    /// If there is not one index below `num_groups` for each group, or they do not ascend.
    pub fn among(&self, indices: &[usize], num_groups: usize) -> Result<RowGroups> {
        let ascends = indices.windows(2).all(|pair| pair[0] < pair[1]);
        let fits = indices.last().is_none_or(|last| *last < num_groups);
        if !ascends || !fits || indices.len() != self.num_groups() {
            let expected = format!("{} ascending indices below {num_groups}", self.num_groups());
            return Err(Error::shape("row groups among others", expected, format!("{indices:?}")));
        }
        let mut counts = vec![0; num_groups];
        for (group, index) in indices.iter().enumerate() {
            counts[*index] = self.group(group).len();
        }
        Ok(RowGroups { offsets: running_sum(counts.into_iter()), ..self.clone() })
    }

    /// Number of groups.
    pub fn num_groups(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Number of rows that the indices count.
    pub fn num_rows(&self) -> usize {
        self.entry_offsets.len() - 1
    }

    /// Number of (row, group) pairs.
    pub fn num_entries(&self) -> usize {
        self.rows.len()
    }

    /// The entries of a group.
    pub fn group(&self, group: usize) -> Range<usize> {
        self.offsets[group]..self.offsets[group + 1]
    }

    /// The row of each entry.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// The entries of a row, by increasing group.
    fn entries_of(&self, row: usize) -> &[u32] {
        &self.entries[self.entry_offsets[row]..self.entry_offsets[row + 1]]
    }

    /// Blocks of at most `most` entries (whole tiles) with their group, entries in order: of each group as few as there can be,
    /// of about the same length.
    fn blocks(&self, most: usize) -> Vec<Block> {
        (0..self.num_groups())
            .flat_map(|group| {
                let Range { start, end } = self.group(group);
                let pieces = (end - start).div_ceil(most);
                row_blocks(end - start, pieces)
                    .map(move |own| Block { group, entries: start + own.start..start + own.end })
            })
            .collect()
    }
}

struct Block {
    group: usize,
    entries: Range<usize>,
}

fn running_sum(counts: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut sums = vec![0];
    sums.extend(counts.scan(0, |sum, count| {
        *sum += count;
        Some(*sum)
    }));
    sums
}

/// Cuts `values` (rows of `width`, one an entry) at the borders of the blocks; what is empty stays so.
fn cut<T>(blocks: Vec<Block>, mut values: &mut [T], width: usize) -> Vec<(Block, &mut [T])> {
    let width = if values.is_empty() { 0 } else { width };
    with_parts(blocks, |rows| take_first(&mut values, rows * width))
}

/// [`cut`], of an output as it is stored.
fn cut_output(blocks: Vec<Block>, output: Output<'_>, width: usize) -> Vec<(Block, Output<'_>)> {
    let parts = output.cut(blocks.iter().map(|block| block.entries.len() * width));
    let mut parts = parts.into_iter();
    with_parts(blocks, |_| parts.next().expect("one a block"))
}

/// Blocks with what `next` gives for as many rows, in the order of the entries.
fn with_parts<T>(blocks: Vec<Block>, mut next: impl FnMut(usize) -> T) -> Vec<(Block, T)> {
    let part = |block: Block| {
        let part = next(block.entries.len());
        (block, part)
    };
    let mut parts: Vec<_> = blocks.into_iter().map(part).collect();
    // Whole blocks before the remainders of groups: a short task is the better last one.
    parts.sort_by_key(|(block, _)| std::cmp::Reverse(block.entries.len()));
    parts
}

/// Blocks with their parts of two values, both cut at the same borders.
fn with_second<A, B>(a: Vec<(Block, A)>, b: Vec<(Block, B)>) -> Vec<(Block, (A, B))> {
    a.into_iter().zip(b).map(|((block, a), (_, b))| (block, (a, b))).collect()
}

/// Stacked weights `[E, I, O]`, with biases `[E, O]` or without.
#[derive(Clone, Copy, Debug)]
pub struct GroupedWeights {
    /// `[E, I, O]`.
    pub w: Param,
    /// `[E, O]`.
    pub b: Option<Param>,
}

impl GroupedWeights {
    fn dims(&self, op: &'static str, groups: &RowGroups) -> Result<[usize; 3]> {
        let [e, i, o] = self.w.shape().dims(op)?;
        let b = self.b.map(|b| b.shape());
        if b.is_some_and(|b| b != Shape::from([e, o])) || groups.num_groups() != e {
            let expected = format!("w [E, I, O], b [E, O] and E groups for w {:?}", self.w.shape());
            let b = b.map_or("none".into(), |b| format!("{b:?}"));
            let got = format!("b {b}, {} groups", groups.num_groups());
            return Err(Error::shape(op, expected, got));
        }
        Ok([e, i, o])
    }

    /// What the products of a group start from.
    fn start<'p>(&self, params: Params<'p>, group: usize, o: usize) -> Start<'p> {
        match &self.b {
            None => Start::Zero,
            Some(b) => {
                let bias = Some(&params.view(b)[group * o..][..o]);
                Start::Terms { bias, residual: None }
            }
        }
    }
}

impl<'t> Var<'t> {
    /// z_n = x_{row(n)} W_{group(n)} + b_{group(n)}: `[T, I]` → `[N, O]`, entries by group. In bf16 it is stored
    /// rounded, for the product or the activation that reads it.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn gather_linear(
        &self,
        weights: &GroupedWeights,
        groups: &Arc<RowGroups>,
    ) -> Result<Var<'t>> {
        let [_, i, o] = weights.dims("gather_linear", groups)?;
        check_rows("gather_linear", self.shape, groups.num_rows(), i)?;
        let (tape, precision) = (self.tape, self.tape.precision());
        let n = groups.num_entries();
        let mut z = tape.take_rounded(precision, n * o);
        let (x, params) = (self.values(), tape.params());
        let kernels = kernels(tape, &weights.w, groups)?;
        let blocks = groups.blocks(block_len(groups, &kernels));
        let z_blocks = cut_output(blocks, Output::of(&mut z), o);
        with_kernels(groups, kernels, z_blocks, |block, w, z| {
            let rows = &groups.rows[block.entries.clone()];
            let start = weights.start(params, block.group, o);
            let left = Left::of_rows(mat(x, groups.num_rows(), i), rows);
            product(z.matrix(rows.len(), o), start, left, w, Finish::None);
        });

        let out = tape.grad_id_as(z.dtype());
        let (x, weights, groups) = (self.clone_saved(), *weights, Arc::clone(groups));
        tape.record(out, move |backward, dz| {
            let params = backward.params;
            let dz_no = matrix(&dz, n, o);
            if x.grad.is_some() {
                let mut dx_n = backward.pool.take(precision.stored(), n * i);
                let w_t = transposed(params.view(&weights.w), &groups, precision, [i, o]);
                let blocks = groups.blocks(block_len(&groups, &w_t));
                let dx_blocks = cut_output(blocks, Output::of(&mut dx_n), i);
                with_kernels(&groups, w_t, dx_blocks, |block, w_t, dx| {
                    let (first, rows) = (block.entries.start, block.entries.len());
                    let dz = dz_no.part([first, rows], [0, o]);
                    gemm(dx.matrix(rows, i), Write::Replace, dz, *w_t);
                });
                backward.contribute(x.grad, x.value.len(), |dx, write| {
                    combine(&groups, &dx_n, None, dx, i, write);
                });
            }
            let dw = backward.param_grad(&weights.w);
            let x = mat(x.value.as_f32(), groups.num_rows(), i);
            gather_backward_weights((&groups, precision), (x, dz_no), dw);
            let Some(b) = &weights.b else { return };
            let db = backward.param_grad(b);
            let db = db.par_chunks_mut(o).enumerate();
            db.for_each(|(group, db)| add_rows(db, &dz, groups.group(group)));
        });
        Ok(tape.var(Shape::from([n, o]), z, out))
    }

    /// y_t = residual_t + Σ_{n: row(n) = t} g_n (act(z_n) W_{group(n)} + b_{group(n)}):
    /// z `[N, I]`, g `[N]`, residual `[T, O]` → `[T, O]`.
    ///
    /// A row that no entry names gets its residual alone. In bf16 the way back has act and its slope at the rounded z.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn scatter_linear(
        &self,
        act: Activation,
        weights: &GroupedWeights,
        groups: &Arc<RowGroups>,
        gates: &Var<'t>,
        residual: Option<&Var<'t>>,
    ) -> Result<Var<'t>> {
        let [_, i, o] = weights.dims("scatter_linear", groups)?;
        let n = groups.num_entries();
        check_rows("scatter_linear", self.shape, n, i)?;
        let shape = Shape::from([groups.num_rows(), o]);
        if gates.shape.len() != n || residual.is_some_and(|r| r.shape != shape) {
            let got = format!("gates {:?}, residual {:?}", gates.shape, residual.map(|r| r.shape));
            let expected = format!("gates [{n}], residual {shape:?}");
            return Err(Error::shape("scatter_linear", expected, got));
        }
        let (tape, precision) = (self.tape, self.tape.precision());
        let mut y_n = tape.take_rounded(precision, n * o);
        let params = tape.params();
        let kernels = kernels(tape, &weights.w, groups)?;
        let out = tape.grad_id();
        let u = Left::active(matrix(&self.value, n, i), act);
        let mut factor = self.factor(out.is_some(), precision, false);
        let len = block_len(groups, &kernels);
        let (from, to) = factor.copy();
        let y_blocks = cut_output(groups.blocks(len), Output::of(&mut y_n), o);
        let parts = with_second(y_blocks, cut(groups.blocks(len), to, i));
        with_kernels(groups, kernels, parts, |block, w, (y, copy)| {
            let (first, rows) = (block.entries.start, block.entries.len());
            if !copy.is_empty() {
                narrow(&from[first * i..][..rows * i], copy);
            }
            let start = weights.start(params, block.group, o);
            let u = u.part([first, rows], [0, i]);
            product(y.matrix(rows, o), start, u, w, Finish::None);
        });
        let mut y = tape.take(shape.len());
        let start = match residual {
            Some(residual) => {
                y.as_f32_mut().copy_from_slice(residual.values());
                Write::Add
            }
            None => Write::Replace,
        };
        combine(groups, &y_n, Some(gates.values()), y.as_f32_mut(), o, start);
        drop(y_n);

        let residual = residual.and_then(|r| r.grad);
        let (z, gates) = (factor.saved(), gates.clone_saved());
        let (weights, groups) = (*weights, Arc::clone(groups));
        tape.record(out, move |backward, dy| {
            let params = backward.params;
            let saved = ScatterSaved { act, precision, groups: &groups, z: &z, gates: &gates };
            let mut dz = backward.take_for(z.grad, n * i);
            let mut dg = backward.pool.take(crate::DType::F32, n);
            scatter_backward_rows(
                &saved,
                (params.view(&weights.w), weights.b.map(|b| params.view(&b)), dy.as_f32()),
                (Output::of(&mut dz), dg.as_f32_mut()),
                [i, o],
            );
            scatter_backward_weights(&saved, dy.as_f32(), backward.param_grad(&weights.w), [i, o]);
            if let Some(b) = &weights.b {
                scatter_backward_biases(&saved, dy.as_f32(), backward.param_grad(b), o);
            }
            backward.give(z.grad, dz);
            backward.give(gates.grad, dg);
            backward.give(residual, dy);
        });
        Ok(tape.var(shape, y, out))
    }
}

/// The kernels of the groups that have rows: those of the others are not looked at.
fn kernels<'p>(tape: &Tape<'p>, w: &Param, groups: &RowGroups) -> Result<Vec<Option<Right<'p>>>> {
    let kernel = |group| {
        let has_rows = !groups.group(group).is_empty();
        has_rows.then(|| tape.params().kernel(w, group, tape.precision())).transpose()
    };
    (0..groups.num_groups()).map(kernel).collect()
}

/// The kernels of the groups that have rows, `[O, I]`.
fn transposed<'w>(
    w: &'w [f32],
    groups: &RowGroups,
    precision: Precision,
    [i, o]: [usize; 2],
) -> Vec<Option<Right<'w>>> {
    let kernel = |group| Right::new(mat(&w[group * i * o..], i, o).transpose(), precision);
    let has_rows = |group: &usize| !groups.group(*group).is_empty();
    (0..groups.num_groups()).map(|g| Some(g).filter(has_rows).map(kernel)).collect()
}

/// Most entries of a block: few where there are few and packing is not done block by block.
fn block_len(groups: &RowGroups, kernels: &[Option<Right<'_>>]) -> usize {
    if kernels.iter().flatten().all(Right::is_packed) {
        return most_rows(groups.num_entries());
    }
    // Every thread gets several. A row's bits do not depend on the cut, so it may depend on the threads.
    let share = groups.num_entries() / (2 * rayon::current_num_threads());
    share.next_multiple_of(TILE_ROWS).clamp(ROW_BLOCK, UNPACKED)
}

/// Calls `f` on all threads for each block of entries with its group's kernel and its part; kernels that many blocks
/// ask for are packed once.
fn with_kernels<T: Send>(
    groups: &RowGroups,
    kernels: Vec<Option<Right<'_>>>,
    parts: Vec<(Block, T)>,
    f: impl Fn(&Block, &Right<'_>, T) + Sync,
) {
    let len = block_len(groups, &kernels);
    let is_shared = |group| groups.group(group).len() > OWN_COPIES * len;
    with_all_packed(kernels, is_shared, |kernels| {
        // Each is worth a task of its own, and they differ.
        parts.into_par_iter().with_max_len(1).for_each(|(block, part)| {
            let kernel = kernels[block.group].as_ref().expect("of each group with rows");
            f(&block, kernel, part);
        });
    });
}

fn check_rows(op: &'static str, shape: Shape, rows: usize, width: usize) -> Result<()> {
    if shape.rows() == rows && shape.width() == width {
        return Ok(());
    }
    Err(Error::shape(op, format!("[{rows}, {width}]"), format!("{shape:?}")))
}

/// `out_t (+)= Σ_{n: row(n) = t} gate_n · x_n`, entries of a row in order.
pub(super) fn combine(
    groups: &RowGroups,
    x_n: &Buffer,
    gates: Option<&[f32]>,
    out: &mut [f32],
    width: usize,
    write: Write,
) {
    const ROWS: usize = 64;
    add_macs(gates.map_or(0, <[f32]>::len) * width);
    out.par_chunks_mut(ROWS * width).enumerate().for_each(|(block, out)| {
        if write == Write::Replace {
            out.fill(0.0);
        }
        for (r, out) in out.chunks_mut(width).enumerate() {
            for &entry in groups.entries_of(block * ROWS + r) {
                with_values(x_n, [entry as usize * width, width], |x| match gates {
                    Some(gates) => axpy(out, gates[entry as usize], x),
                    None => add_slice(out, x),
                });
            }
        }
    });
}

/// dW_e += gather(x)ᵀ dz_e.
fn gather_backward_weights(
    (groups, precision): (&RowGroups, Precision),
    (x, dz): (MatRef<'_>, Values<'_>),
    dw: &mut [f32],
) {
    let (i, o) = (x.ncols(), dz.ncols());
    dw.par_chunks_mut(i * o).enumerate().for_each(|(group, dw)| {
        let Range { start, end } = groups.group(group);
        for first in (start..end).step_by(CHUNK) {
            let rows = &groups.rows[first..(first + CHUNK).min(end)];
            let dz = Right::new(dz.part([first, rows.len()], [0, o]), precision);
            add_outer(dw, Left::of_rows(x, rows), dz);
        }
    });
}

struct ScatterSaved<'a> {
    act: Activation,
    precision: Precision,
    groups: &'a RowGroups,
    z: &'a Saved,
    gates: &'a Saved,
}

/// du = dy_{row(n)} Wᵀ; dg_n = ⟨act(z_n), du⟩ + ⟨b, dy⟩; dz = g · du · act'(z).
fn scatter_backward_rows(
    saved: &ScatterSaved<'_>,
    (w, b, dy): (&[f32], Option<&[f32]>, &[f32]),
    (dz, dg): (Output<'_>, &mut [f32]),
    [i, o]: [usize; 2],
) {
    let (act, groups) = (saved.act, saved.groups);
    let gates = saved.gates.value.as_f32();
    let w_t = transposed(w, groups, saved.precision, [i, o]);
    let len = block_len(groups, &w_t);
    let dz_blocks = cut_output(groups.blocks(len), dz, i);
    let parts = with_second(dz_blocks, cut(groups.blocks(len), dg, 1));
    with_kernels(groups, w_t, parts, |block, w_t, (dz, dg)| {
        let rows = &groups.rows[block.entries.clone()];
        let b = b.map(|b| &b[block.group * o..][..o]);
        let left = Left::of_rows(mat(dy, groups.num_rows(), o), rows);
        dz.write(|dz| {
            product(mat_mut(dz, rows.len(), i), Start::Zero, left, w_t, Finish::None);
            with_scratch(2 * i, |scratch| {
                let (u, slope) = scratch.split_at_mut(i);
                for (r, n) in block.entries.clone().enumerate() {
                    let du = &mut dz[r * i..][..i];
                    let dy = &dy[rows[r] as usize * o..][..o];
                    with_values(&saved.z.value, [n * i, i], |z| {
                        activate_with_slope(act, z, u, slope);
                    });
                    dg[r] = dot(u, du) + b.map_or(0.0, |b| dot(b, dy));
                    scale_by(du, gates[n], slope);
                }
            });
        });
    });
}

/// dW_e += act(z)ᵀ (g · dy).
fn scatter_backward_weights(
    saved: &ScatterSaved<'_>,
    dy: &[f32],
    dw: &mut [f32],
    [i, o]: [usize; 2],
) {
    let (z, gates) = (saved.z.mat(saved.groups.num_entries(), i), saved.gates.value.as_f32());
    dw.par_chunks_mut(i * o).enumerate().for_each(|(group, dw)| {
        let Range { start, end } = saved.groups.group(group);
        for first in (start..end).step_by(CHUNK) {
            let rows = &saved.groups.rows[first..(first + CHUNK).min(end)];
            with_scratch(rows.len() * o, |dy_n| {
                scaled_rows((dy, o), rows, &gates[first..], dy_n);
                let u = Left::active(z.part([first, rows.len()], [0, i]), saved.act);
                add_outer(dw, u, Right::new(mat(dy_n, rows.len(), o), saved.precision));
            });
        }
    });
}

fn scatter_backward_biases(saved: &ScatterSaved<'_>, dy: &[f32], db: &mut [f32], o: usize) {
    let gates = saved.gates.value.as_f32();
    db.par_chunks_mut(o).enumerate().for_each(|(group, db)| {
        for n in saved.groups.group(group) {
            axpy(db, gates[n], &dy[saved.groups.rows[n] as usize * o..][..o]);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_few_and_even_and_cover_all_entries() {
        for (len, want) in [
            (0, vec![]),
            (1, vec![1]),
            (47, vec![47]),
            (48, vec![48]),
            (49, vec![32, 17]),
            (97, vec![32, 32, 33]),
        ] {
            let groups = [vec![0; 3], vec![0; len], vec![], vec![0; 5]];
            let groups = RowGroups::new(1, &groups).unwrap();
            let blocks = groups.blocks(48);
            let own = blocks.iter().filter(|block| block.group == 1);
            assert_eq!(own.map(|block| block.entries.len()).collect::<Vec<_>>(), want);
            let all: Vec<usize> = blocks.into_iter().flat_map(|block| block.entries).collect();
            assert_eq!(all, (0..len + 8).collect::<Vec<_>>());
        }
    }
}
