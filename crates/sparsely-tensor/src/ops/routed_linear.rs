//! Products without bias from rows of an input to rows of an output, each pair with one of the groups'
//! weights: tokens to heads and back, where the experts of a head are groups.
//!
//! No row is held for a pair: a task owns a piece of the output, visits the groups in order, and adds each
//! product as it comes. The way back is the same product with the weights transposed.

use crate::kernel::count::add_macs;
use crate::kernel::elementwise::{add_slice, scaled_rows};
use crate::kernel::gemm::{
    Dots, Left, MatMut, MatRef, Right, Scatter, add_outer, half, mat, mat_mut, product_scatter,
    with_all_packed,
};
use crate::kernel::scratch::with_scratch;
use crate::slab::Param;
use crate::tape::{Tape, Var, Write};
use crate::{DType, Error, Precision, Result, Shape};
use faer::prelude::ReborrowMut;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Pairs of a group that a piece of the output has, where there are enough.
const BLOCK: usize = 256;
/// Pairs of a group that do not pay for packing its weights for all pieces.
const FEW_PAIRS: usize = 64;
/// Rows of a piece, at the least.
const LEAST_ROWS: usize = 64;
/// Columns of a piece are a multiple of this, or all.
const COLUMNS: usize = 128;
/// Pieces of an output that are enough for the threads.
const PIECES: usize = 8;
/// Pairs that a weight gradient takes at a time.
const CHUNK: usize = 1024;

/// Which rows of an input go through which group's weights to which rows of an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routes {
    offsets: Vec<usize>,
    from: Vec<u32>,
    to: Vec<u32>,
    num_from: usize,
    num_to: usize,
}

impl Routes {
    /// From the pairs (row of the input, row of the output) of each group, both ascending; the rows
    /// that the indices count are `[num_from, num_to]`.
    ///
    /// # Errors
    /// If an index is not below its number, or a group does not ascend.
    pub fn new([num_from, num_to]: [usize; 2], groups: &[Vec<(u32, u32)>]) -> Result<Routes> {
        let (mut offsets, mut from, mut to) = (vec![0], Vec::new(), Vec::new());
        for pairs in groups {
            let ascends = pairs.windows(2).all(|w| w[0].0 <= w[1].0 && w[0].1 <= w[1].1);
            let fits = |(i, o): &(u32, u32)| (*i as usize) < num_from && (*o as usize) < num_to;
            if !ascends || !pairs.iter().all(fits) {
                let expected = format!("ascending pairs below ({num_from}, {num_to})");
                return Err(Error::shape("routes", expected, format!("{pairs:?}")));
            }
            from.extend(pairs.iter().map(|pair| pair.0));
            to.extend(pairs.iter().map(|pair| pair.1));
            offsets.push(from.len());
        }
        Ok(Routes { offsets, from, to, num_from, num_to })
    }

    /// Number of groups.
    pub fn num_groups(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Number of pairs.
    pub fn num_pairs(&self) -> usize {
        self.from.len()
    }

    /// The pairs of a group.
    pub fn group(&self, group: usize) -> Range<usize> {
        self.offsets[group]..self.offsets[group + 1]
    }

    fn there(&self) -> Way<'_> {
        Way { offsets: &self.offsets, from: &self.from, to: &self.to, num_to: self.num_to }
    }

    fn back(&self) -> Way<'_> {
        Way { offsets: &self.offsets, from: &self.to, to: &self.from, num_to: self.num_from }
    }
}

impl<'t> Var<'t> {
    /// y_r = residual_r + Σ_{n: to(n) = r} g_n · x_{from(n)} W_{group(n)}: x `[R, I]` (any axes), w `[G, I, O]`,
    /// g `[N]` or 1 → `[R′, O]`. A row that no pair goes to gets its residual alone, or 0.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn routed_linear(
        &self,
        w: &Param,
        routes: &Arc<Routes>,
        gates: Option<&Var<'t>>,
        residual: Option<&Var<'t>>,
    ) -> Result<Var<'t>> {
        let [g, i, o] = w.shape().dims("routed_linear")?;
        let (n, shape) = (routes.num_pairs(), Shape::from([routes.num_to, o]));
        let fits = g == routes.num_groups()
            && self.shape.len() == routes.num_from * i
            && gates.is_none_or(|gates| gates.shape.len() == n)
            && residual.is_none_or(|r| r.shape.len() == shape.len());
        if !fits {
            let expected = format!(
                "x [{}, I], w [{}, I, O], gates [{n}], residual [{}, O]",
                routes.num_from,
                routes.num_groups(),
                routes.num_to
            );
            let (gates, residual) = (gates.map(|g| g.shape), residual.map(|r| r.shape));
            let got = format!(
                "x {:?}, w {:?}, gates {gates:?}, residual {residual:?}",
                self.shape,
                w.shape()
            );
            return Err(Error::shape("routed_linear", expected, got));
        }
        let (tape, precision) = (self.tape, self.tape.precision());
        let mut y = tape.take(shape.len());
        let write = match residual {
            Some(residual) => {
                y.as_f32_mut().copy_from_slice(residual.values());
                Write::Add
            }
            None => Write::Replace,
        };
        let kernels = kernels(tape, w, routes)?;
        let x = mat(self.values(), routes.num_from, i);
        let gate_values = gates.map(Var::values);
        let products = Products { way: routes.there(), gates: gate_values, x, at: None };
        products.add_to(mat_mut(y.as_f32_mut(), routes.num_to, o), kernels, write);

        let out = tape.grad_id();
        let residual = residual.and_then(|r| r.grad);
        let (x, gates) = (self.clone_saved(), gates.map(Var::clone_saved));
        let (w, routes) = (*w, Arc::clone(routes));
        tape.record(out, move |backward, dy| {
            let gate_values = gates.as_ref().map(|gates| gates.value.as_f32());
            let needs_gates = gates.as_ref().is_some_and(|gates| gates.grad.is_some());
            if x.grad.is_some() || needs_gates {
                let mut dx = backward.pool.take(DType::F32, x.value.len());
                let values = backward.params.view(&w);
                let transposed = |group: usize| {
                    let w = mat(&values[group * i * o..], i, o).transpose();
                    (!routes.group(group).is_empty()).then(|| Right::new(w, precision))
                };
                let kernels = (0..routes.num_groups()).map(transposed).collect();
                let products = Products {
                    way: routes.back(),
                    gates: gate_values,
                    x: mat(dy.as_f32(), routes.num_to, o),
                    at: needs_gates.then(|| mat(x.value.as_f32(), routes.num_from, i)),
                };
                let dx_mat = mat_mut(dx.as_f32_mut(), routes.num_from, i);
                let dots = products.add_to(dx_mat, kernels, Write::Replace);
                backward.give(x.grad, dx);
                if let (Some(gates), true) = (&gates, needs_gates) {
                    let mut dg = backward.pool.take(DType::F32, n);
                    dg.as_f32_mut().fill(0.0);
                    for (first, own) in dots {
                        add_slice(&mut dg.as_f32_mut()[first..first + own.len()], &own);
                    }
                    backward.give(gates.grad, dg);
                }
            }
            let dw = backward.param_grad(&w);
            let factors = [x.value.as_f32(), dy.as_f32()];
            add_weight_gradients(dw, (&routes, precision), factors, gate_values, [i, o]);
            backward.give(residual, dy);
        });
        Ok(tape.var(shape, y, out))
    }
}

/// The kernels of the groups that have pairs, as they lie: those of the others are not looked at.
fn kernels<'p>(tape: &Tape<'p>, w: &Param, routes: &Routes) -> Result<Vec<Option<Right<'p>>>> {
    let kernel = |group| {
        let has_pairs = !routes.group(group).is_empty();
        has_pairs.then(|| tape.params().kernel(w, group, tape.precision())).transpose()
    };
    (0..routes.num_groups()).map(kernel).collect()
}

/// The pairs in one direction.
#[derive(Clone, Copy)]
struct Way<'a> {
    offsets: &'a [usize],
    from: &'a [u32],
    to: &'a [u32],
    num_to: usize,
}

impl Way<'_> {
    fn num_groups(&self) -> usize {
        self.offsets.len() - 1
    }

    /// The pairs of a group.
    fn group(&self, group: usize) -> Range<usize> {
        self.offsets[group]..self.offsets[group + 1]
    }

    /// The pairs of a group that go to some rows.
    fn pairs_to(&self, group: usize, rows: &Range<usize>) -> Range<usize> {
        let Range { start, end } = self.group(group);
        let to = &self.to[start..end];
        let before = |row: usize| start + to.partition_point(|to| (*to as usize) < row);
        before(rows.start)..before(rows.end)
    }
}

/// The dots of some pairs: the first pair, and one for it and each that follows.
type PairDots = Vec<(usize, Vec<f32>)>;

/// Products of rows with their group's weights.
struct Products<'a> {
    way: Way<'a>,
    gates: Option<&'a [f32]>,
    x: MatRef<'a>,
    /// What the products meet before their gates, of the output's shape.
    at: Option<MatRef<'a>>,
}

/// Rows and columns of the output.
#[derive(Clone, Copy)]
struct Place {
    row: usize,
    column: usize,
}

impl Products<'_> {
    /// `y_to (+)= Σ gate · x_from W`; for each pair Σ at_to · x_from W, if there is such.
    fn add_to(&self, y: MatMut<'_>, kernels: Vec<Option<Right<'_>>>, write: Write) -> PairDots {
        let (pairs, o) = (self.way.from.len(), y.ncols());
        add_macs(self.gates.map_or(0, |_| pairs * o));
        let piece = self.piece(o);
        // Pieces of whole columns share what was packed.
        let is_shared = piece.column >= o && piece.row < self.way.num_to;
        let packs = |group| is_shared && self.way.group(group).len() > FEW_PAIRS;
        with_all_packed(kernels, packs, |weights| {
            self.add_piece(y, weights, Place { row: 0, column: 0 }, piece, write)
        })
    }

    /// How many rows and columns a piece of an output of width `o` has: by rows alone where that is enough.
    fn piece(&self, o: usize) -> Place {
        let num_to = self.way.num_to;
        // So that a group has about a block of pairs there.
        let row = BLOCK * self.way.num_groups() * num_to / self.way.from.len().max(1);
        let row = row.clamp(LEAST_ROWS, num_to.div_ceil(PIECES).max(LEAST_ROWS));
        let row_pieces = num_to.div_ceil(row).max(1);
        let column = o.div_ceil(PIECES.div_ceil(row_pieces)).next_multiple_of(COLUMNS);
        Place { row, column }
    }

    /// Rows and columns of the output from `first`, cut into pieces.
    fn add_piece(
        &self,
        y: MatMut<'_>,
        weights: &[Option<Right<'_>>],
        first: Place,
        piece: Place,
        write: Write,
    ) -> PairDots {
        let halves = if y.nrows() > piece.row {
            let cut = half(y.nrows(), piece.row);
            let (y0, y1) = y.split_at_row_mut(cut);
            [(y0, first), (y1, Place { row: first.row + cut, ..first })]
        } else if y.ncols() > piece.column {
            let cut = half(y.ncols(), piece.column);
            let (y0, y1) = y.split_at_col_mut(cut);
            [(y0, first), (y1, Place { column: first.column + cut, ..first })]
        } else {
            return self.add_groups(y, weights, first, write);
        };
        let add = |(y, first)| self.add_piece(y, weights, first, piece, write);
        let [left, right] = halves;
        let (mut dots, more) = rayon::join(|| add(left), || add(right));
        dots.extend(more);
        dots
    }

    /// The products that come to rows and columns from `first`, group after group.
    fn add_groups(
        &self,
        mut y: MatMut<'_>,
        weights: &[Option<Right<'_>>],
        Place { row, column }: Place,
        write: Write,
    ) -> PairDots {
        if write == Write::Replace {
            y.fill(0.0);
        }
        let (rows, columns) = (y.nrows(), y.ncols());
        let mut all_dots = PairDots::new();
        for (group, right) in weights.iter().enumerate() {
            let pairs = self.way.pairs_to(group, &(row..row + rows));
            let Some(right) = right.as_ref().filter(|_| !pairs.is_empty()) else { continue };
            let is_whole = columns == right.values().ncols();
            let right = if is_whole { *right } else { right.subcols(column, columns) };
            let scatter = Scatter {
                rows: &self.way.to[pairs.clone()],
                first: row,
                gates: self.gates.map(|gates| &gates[pairs.clone()]),
            };
            let mut sums = vec![0.0; if self.at.is_some() { pairs.len() } else { 0 }];
            let dots = self
                .at
                .map(|at| Dots { at: at.submatrix(row, column, rows, columns), sums: &mut sums });
            let left = Left::of_rows(self.x, &self.way.from[pairs.clone()]);
            product_scatter(y.rb_mut(), (left, &right), scatter, dots);
            if self.at.is_some() {
                all_dots.push((pairs.start, sums));
            }
        }
        all_dots
    }
}

/// dW_g += Σ_n x_{from(n)}ᵀ (g_n · dy_{to(n)}), the gate with the narrower of the two.
fn add_weight_gradients(
    dw: &mut [f32],
    (routes, precision): (&Routes, Precision),
    [x, dy]: [&[f32]; 2],
    gates: Option<&[f32]>,
    [i, o]: [usize; 2],
) {
    dw.par_chunks_mut(i * o).enumerate().for_each(|(group, dw)| {
        let own = routes.group(group);
        for first in own.clone().step_by(CHUNK) {
            let pairs = first..(first + CHUNK).min(own.end);
            let (from, to) = (&routes.from[pairs.clone()], &routes.to[pairs.clone()]);
            let left = Left::of_rows(mat(x, routes.num_from, i), from);
            let right = Right::of_rows(mat(dy, routes.num_to, o), to, precision);
            let Some(gates) = gates.map(|gates| &gates[pairs.clone()]) else {
                add_outer(dw, left, right);
                continue;
            };
            with_scratch(pairs.len() * i.min(o), |scaled| {
                if i < o {
                    scaled_rows((x, i), from, gates, scaled);
                    add_outer(dw, mat(scaled, pairs.len(), i).into(), right);
                } else {
                    scaled_rows((dy, o), to, gates, scaled);
                    add_outer(dw, left, Right::new(mat(scaled, pairs.len(), o), precision));
                }
            });
        }
    });
}
