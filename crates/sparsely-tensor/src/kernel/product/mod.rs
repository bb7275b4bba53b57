//! The matrix product on vector registers.
//!
//! A tile of a few rows by a few registers stays in registers while the inner dimension runs.
//! The right factor is packed into panels of one tile's width, which stay in the first-level
//! cache; the left one is read where it lies, or packed where its rows are not contiguous, an
//! activation is applied to it, or its elements are not the lanes that the kernel multiplies. Inner dimensions beyond [`Kernel::INNER`]
//! are summed block by block. So each element of the result is one chain of multiply-adds for each
//! block, in an order that depends on the inner dimension alone: not on the other rows, nor on how
//! rows and columns are cut, nor on who packed.

mod amx;
mod entries;
mod kernel;
mod pack;
mod tile;

#[cfg(test)]
pub(super) use entries::all_entries;
pub(super) use entries::entries;

use super::elementwise::scale_by_slope;
use super::gemm::{Dots, Finish, Left, MatMut, MatRef, Panels, Right, Scatter, Start, Values};
use super::isa::Fused;
use super::register::Register;
use super::scratch::with_scratch;
use crate::Activation;
use kernel::Kernel;
use pack::{
    ACTIVE, LeftRows, STRIP, Source, fetch_far, pack_columns, pack_rows, pack_strip,
    pack_turned_rows, strip_end,
};
use tile::{DotsTile, MOST_LANES, ScatterTile, Tile};

/// Rows of the left factor that are worked on together: they stay in the second-level cache.
const ROWS: usize = 256;
/// Rows behind the last one that a tile may read.
const SPARE_ROWS: usize = 32;

/// A factor of which one axis is contiguous.
#[derive(Clone, Copy)]
struct Strided<'a> {
    data: Source,
    /// Distance of rows.
    rows: usize,
    /// Distance of columns.
    cols: usize,
    /// Whether the elements of a row are neighbours; otherwise those of a column are.
    is_row_major: bool,
    /// What the inner dimension runs over, if not over all in order.
    inner: Option<&'a [u32]>,
}

// SAFETY: it is a matrix reference, to read.
unsafe impl Sync for Strided<'_> {}

impl<'a> Strided<'a> {
    /// `None` if neither axis is contiguous.
    fn of(values: Values<'a>, inner: Option<&'a [u32]>) -> Option<Strided<'a>> {
        let (data, rows, cols) = match values {
            Values::F32(m) => (Source::F32(m.as_ptr()), m.row_stride(), m.col_stride()),
            Values::Bf16(m) => (Source::Bf16(m.as_ptr()), m.row_stride(), m.col_stride()),
        };
        let works = rows >= 0 && cols >= 0 && (rows == 1 || cols == 1);
        works.then_some(Strided {
            data,
            rows: rows as usize,
            cols: cols as usize,
            is_row_major: cols == 1,
            inner,
        })
    }

    /// A right factor, if its named rows are contiguous.
    fn right(right: &Right<'a>) -> Option<Strided<'a>> {
        let strided = Strided::of(right.values(), right.rows())?;
        (strided.inner.is_none() || strided.is_row_major).then_some(strided)
    }

    /// Where place `k` of the inner dimension lies.
    #[inline(always)]
    fn place(&self, k: usize) -> usize {
        self.inner.map_or(k, |names| names[k] as usize)
    }

    /// A left factor, if its named rows or columns are contiguous.
    fn left(left: &Left<'a>) -> Option<Strided<'a>> {
        let strided = Strided::of(left.values, left.inner)?;
        match (left.rows, left.inner) {
            (Some(_), Some(_)) => None,
            (Some(_), None) => strided.is_row_major.then_some(strided),
            // Of a single row both axes are contiguous.
            (None, Some(_)) => {
                (strided.rows == 1).then_some(Strided { is_row_major: false, ..strided })
            }
            (None, None) => Some(strided),
        }
    }
}

/// A product whose extents and strides were checked.
pub(super) struct Product<'a> {
    dst: *mut f32,
    dst_stride: usize,
    m: usize,
    n: usize,
    k: usize,
    left: Strided<'a>,
    /// Which rows of the left factor.
    left_rows: Option<&'a [u32]>,
    act: Activation,
    right: Strided<'a>,
    panels: Option<Panels<'a>>,
    start: Start<'a>,
    finish: Finish<'a>,
    scatter: Option<(Scatter<'a>, Option<DotLanes<'a>>)>,
}

/// See [`DotsTile`]; the lanes are those of all rows of the product.
#[derive(Clone, Copy)]
struct DotLanes<'a> {
    at: MatRef<'a>,
    lanes: *mut f32,
}

/// The inner block that is being worked on.
#[derive(Clone, Copy)]
struct Inner {
    /// Its first element.
    k0: usize,
    /// Its elements.
    len: usize,
    /// What they take in a packed factor.
    lanes: usize,
    is_first: bool,
    is_last: bool,
}

impl Inner {
    /// The block of a dimension of `k` that begins at `k0`.
    fn of<K: Kernel>(k0: usize, k: usize) -> Inner {
        let len = K::block_len(k).min(k - k0);
        Inner { k0, len, lanes: K::lanes(len), is_first: k0 == 0, is_last: k0 + len == k }
    }
}

/// Rows of the left factor, of one inner block.
#[derive(Clone, Copy)]
struct LeftBlock {
    data: *const f32,
    /// Distance of rows, whose lanes are neighbours.
    rows: usize,
}

impl<'a> Product<'a> {
    /// `None` if the strides are not those of a product that our layers ask for.
    pub(super) fn new(
        dst: MatMut<'a>,
        start: Start<'a>,
        left: Left<'a>,
        right: &Right<'a>,
        finish: Finish<'a>,
    ) -> Option<Product<'a>> {
        let is_row_major = |m: MatRef<'_>| m.col_stride() == 1 && m.row_stride() >= 0;
        let extras = match (start, finish) {
            (Start::Terms { residual: Some(r), .. }, _) if !is_row_major(r) => false,
            (_, Finish::Slope { at, .. }) => at.is_row_major(),
            _ => true,
        };
        if dst.col_stride() != 1 || dst.row_stride() < 0 || !extras {
            return None;
        }
        Some(Product {
            dst: dst.as_ptr_mut(),
            dst_stride: dst.row_stride() as usize,
            m: left.num_rows(),
            n: dst.ncols(),
            k: left.num_inner(),
            left: Strided::left(&left)?,
            left_rows: left.rows,
            act: left.act,
            right: Strided::right(right)?,
            panels: right.panels(),
            start,
            finish,
            scatter: None,
        })
    }

    /// The same, whose rows go where `scatter` says; calls `f` with it.
    pub(super) fn scattering<R>(
        dst: MatMut<'a>,
        (left, right): (Left<'a>, &Right<'a>),
        scatter: Scatter<'a>,
        dots: Option<Dots<'_>>,
        f: impl FnOnce(&Product<'_>) -> R,
    ) -> Option<R> {
        let mut product = Product::new(dst, Start::Output, left, right, Finish::None)?;
        let Some(dots) = dots else {
            product.scatter = Some((scatter, None));
            return Some(f(&product));
        };
        if dots.at.col_stride() != 1 || dots.at.row_stride() < 0 {
            return None;
        }
        Some(with_scratch(product.m * MOST_LANES, |lanes| {
            lanes.fill(0.0);
            let own = DotLanes { at: dots.at, lanes: lanes.as_mut_ptr() };
            product.scatter = Some((scatter, Some(own)));
            let result = f(&product);
            for (sum, lanes) in dots.sums.iter_mut().zip(lanes.chunks(MOST_LANES)) {
                *sum = lanes.iter().sum();
            }
            result
        }))
    }

    /// Computes it.
    ///
    /// # Safety
    /// `run` is [`Product::run_on`] compiled for the instruction set of `K`, and the processor
    /// has it; pointers are those of matrices of m×n, m×k and k×n, of which the first is not shared, or names
    /// and rows of a scatter are below what their matrices have.
    unsafe fn compute<K: Kernel>(&self, run: unsafe fn(&Product<'a>, &mut [f32], &mut [f32])) {
        let lanes = K::lanes(K::block_len(self.k));
        let active = if self.act == Activation::Identity { 0 } else { ACTIVE };
        let left = match self.packs_left::<K>() {
            true => (self.m.min(ROWS) + SPARE_ROWS) * lanes + active,
            false => 0,
        };
        let right = match self.panels {
            Some(_) => 0,
            None if self.packs_all_panels() => K::packed_len(K::block_len(self.k), self.n),
            None => lanes * STRIP * K::TILE_REGISTERS * K::Register::LANES,
        };
        with_scratch(left, |left| {
            with_scratch(right, |right| {
                // SAFETY: the caller's contract.
                unsafe { run(self, left, right) };
            });
        });
    }

    fn packs_left<K: Kernel>(&self) -> bool {
        let is_ready = match self.left.data {
            Source::F32(_) => !K::CONVERTS,
            // Two neighbours are a lane, if there are whole lanes, steps and registers of rows.
            Source::Bf16(data) => {
                K::DEPTH == 2
                    && data.cast::<f32>().is_aligned()
                    && self.k.is_multiple_of(2 * K::STEP)
                    && self.left.rows.is_multiple_of(2)
                    && self.m.is_multiple_of(K::ROW_STEP)
            }
        };
        let is_plain = self.left.is_row_major && self.left_rows.is_none();
        !(is_ready && is_plain && self.act == Activation::Identity)
    }

    /// Whether panels are used by several blocks of rows, and so packed before the first.
    fn packs_all_panels(&self) -> bool {
        self.m > ROWS
    }

    /// # Safety
    /// As [`Product::compute`]; the scratch has the lengths that it takes.
    #[inline(always)]
    unsafe fn run_on<K: Kernel>(&self, tiles: &mut [f32], panels: &mut [f32]) {
        let (first, total) = self.panels.map_or((0, self.n), |panels| (panels.first, panels.total));
        let padded = total.next_multiple_of(K::Register::LANES);
        // SAFETY: all indices stay within the factors (names by contract): k0 + len ≤ k, i + rows ≤ m, and
        // j + width ≤ n (columns beyond n are zeros of the panel and not stored). Packed columns that are not all begin
        // and end with panels.
        unsafe {
            K::begin();
            let mut pending = K::Pending::default();
            for k0 in (0..self.k).step_by(K::block_len(self.k)) {
                let inner = Inner::of::<K>(k0, self.k);
                if self.panels.is_none() && self.packs_all_panels() {
                    pack_columns::<K>(self.right, self.n, inner, panels.as_mut_ptr());
                }
                for i0 in (0..self.m).step_by(ROWS) {
                    let rows = ROWS.min(self.m - i0);
                    let left = self.left_block::<K>([i0, rows], inner, tiles);
                    let mut j0 = 0;
                    while j0 < self.n {
                        let end = strip_end::<K>(first + j0, total) - first;
                        let strip = match self.panels {
                            Some(Panels { all, .. }) => {
                                let before = k0 / K::DEPTH * padded + (first + j0) * inner.lanes;
                                all.as_ptr().add(before)
                            }
                            None if self.packs_all_panels() => {
                                panels.as_ptr().add(j0 * inner.lanes)
                            }
                            None => {
                                let to = panels.as_mut_ptr();
                                pack_strip::<K>(self.right, inner, [j0, end], self.n, to);
                                to
                            }
                        };
                        let mut j = j0;
                        while j < end.min(self.n) {
                            let width = K::panel_width(total - first - j);
                            let panel = strip.add((j - j0) * inner.lanes);
                            let tiles = ([i0, rows], [j, width]);
                            j += width;
                            // Weights that are read once come from memory.
                            let is_next = self.panels.is_some() && j < self.n;
                            let next = is_next.then(|| panel.add(width * inner.lanes));
                            let factors = (left, panel, next);
                            self.panel_tiles::<K>(factors, tiles, inner, &mut pending);
                        }
                        j0 = end;
                    }
                }
            }
            K::finish(&mut pending);
            K::end();
        }
    }

    /// The tiles of one panel, and what is done to them at the end. The next one is fetched meanwhile.
    #[inline(always)]
    unsafe fn panel_tiles<K: Kernel>(
        &self,
        (left, panel, next): (LeftBlock, *const f32, Option<*const f32>),
        ([i0, rows], [j, width]): ([usize; 2], [usize; 2]),
        inner: Inner,
        pending: &mut K::Pending,
    ) {
        let columns = width.min(self.n - j);
        let (bias, residual, residual_stride, adds) = self.start_at(i0, j, inner);
        let share = (inner.lanes * width).div_ceil(rows);
        for i in (0..rows).step_by(K::TILE_ROWS) {
            let height = K::TILE_ROWS.min(rows - i);
            if let Some(next) = next {
                fetch_far(next.wrapping_add(i * share), share * height);
            }
            // SAFETY: i0 + i + height ≤ m and j + columns ≤ n.
            unsafe {
                let scatter = self.scatter_at(i0 + i, j);
                let row = if scatter.is_some() { 0 } else { i0 + i };
                let dst = self.dst.add(row * self.dst_stride + j);
                let tile = Tile {
                    k: inner.lanes,
                    a: left.data.add(i * left.rows),
                    a_rows: left.rows,
                    b: panel,
                    dst,
                    dst_stride: self.dst_stride,
                    columns,
                    adds,
                    bias,
                    residual: residual.map(|r| r.add(i * residual_stride)),
                    residual_stride,
                    scatter,
                };
                if let (Finish::Slope { at, .. }, true) = (self.finish, inner.is_last) {
                    fetch_rows(at, [i0 + i, height], [j, columns]);
                }
                K::tile(&tile, height, width / K::Register::LANES, pending);
                if let (Finish::Slope { act, at }, true) = (self.finish, inner.is_last) {
                    K::finish(pending);
                    for r in 0..height {
                        let row = dst.add(r * self.dst_stride);
                        let row = std::slice::from_raw_parts_mut(row, columns);
                        scale_by_slope_at(act, at, [i0 + i + r, j], row);
                    }
                }
            }
        }
    }

    /// What the tiles of rows i0.. and columns j.. are added to.
    #[inline(always)]
    fn start_at(
        &self,
        i0: usize,
        j: usize,
        inner: Inner,
    ) -> (Option<*const f32>, Option<*const f32>, usize, bool) {
        match self.start {
            Start::Terms { bias, residual } if inner.is_first => {
                let bias = bias.map(|b| b[j..].as_ptr());
                let stride = residual.map_or(0, |r| r.row_stride() as usize);
                // SAFETY: i0 < m and j < n, the extents of the residual.
                let residual = residual.map(|r| unsafe { r.as_ptr().add(i0 * stride + j) });
                (bias, residual, stride, false)
            }
            Start::Zero if inner.is_first => (None, None, 0, false),
            _ => (None, None, 0, true),
        }
    }

    /// Where the rows from `i` and the columns from `j` of a tile go.
    #[inline(always)]
    unsafe fn scatter_at(&self, i: usize, j: usize) -> Option<ScatterTile> {
        let (scatter, dots) = self.scatter.as_ref()?;
        // SAFETY: i < m and j < n; the lanes have room for the widest registers of all rows.
        unsafe {
            Some(ScatterTile {
                rows: scatter.rows[i..].as_ptr(),
                first: scatter.first,
                gates: scatter.gates.map(|gates| gates[i..].as_ptr()),
                dots: dots.map(|DotLanes { at, lanes }| DotsTile {
                    at: at.as_ptr().add(j),
                    stride: at.row_stride() as usize,
                    lanes: lanes.add(i * MOST_LANES),
                }),
            })
        }
    }

    /// Rows i0.. of the left factor's inner block, packed if they have to be.
    #[inline(always)]
    unsafe fn left_block<K: Kernel>(
        &self,
        [i0, rows]: [usize; 2],
        inner: Inner,
        tiles: &mut [f32],
    ) -> LeftBlock {
        let Strided { data, rows: row_stride, cols: col_stride, inner: names, .. } = self.left;
        // SAFETY: i0 < m and k0 < k; the scratch has room for the rows and for columns that are activated.
        unsafe {
            let first = if self.left_rows.is_some() { 0 } else { i0 };
            let k0 = if names.is_some() { 0 } else { inner.k0 };
            let block = data.at(first * row_stride + k0 * col_stride);
            if !self.packs_left::<K>() {
                return match block {
                    Source::F32(data) => LeftBlock { data, rows: row_stride },
                    Source::Bf16(data) => LeftBlock { data: data.cast(), rows: row_stride / 2 },
                };
            }
            let (packed, active) =
                tiles.split_at_mut((self.m.min(ROWS) + SPARE_ROWS) * inner.lanes);
            let to = packed.as_mut_ptr();
            if self.left.is_row_major {
                let indices = self.left_rows.map(|indices| &indices[i0..i0 + rows]);
                let from = LeftRows { data: block, stride: row_stride, indices };
                pack_rows::<K>((from, self.act), rows, inner, to);
            } else {
                let names = names.map(|names| &names[inner.k0..inner.k0 + inner.len]);
                let from = LeftRows { data: block, stride: col_stride, indices: names };
                pack_turned_rows::<K>((from, self.act), rows, inner, (active, to));
            }
            LeftBlock { data: packed.as_ptr(), rows: inner.lanes }
        }
    }
}

/// Fetches some rows and columns, each a first one and a number, of a row-major matrix.
#[inline(always)]
fn fetch_rows(values: Values<'_>, [i, rows]: [usize; 2], [j, columns]: [usize; 2]) {
    let (data, stride) = match values {
        Values::F32(m) => (Source::F32(m.as_ptr()), m.row_stride()),
        Values::Bf16(m) => (Source::Bf16(m.as_ptr()), m.row_stride()),
    };
    for r in i..i + rows {
        data.at(r * stride.unsigned_abs() + j).fetch(columns);
    }
}

/// `row *= act'(at)` from the element (`i`, `j`) on.
///
/// # Safety
/// `at` is row-major and has the elements; the instruction set of a kernel.
#[inline(always)]
unsafe fn scale_by_slope_at(act: Activation, at: Values<'_>, [i, j]: [usize; 2], row: &mut [f32]) {
    let first = |stride: isize| i * stride.unsigned_abs() + j;
    // SAFETY: by contract.
    unsafe {
        match at {
            Values::F32(at) => {
                let at = at.as_ptr().add(first(at.row_stride()));
                let at = std::slice::from_raw_parts(at, row.len());
                scale_by_slope::<Fused, _>(act, at, row);
            }
            Values::Bf16(at) => {
                let at = at.as_ptr().add(first(at.row_stride()));
                let at = std::slice::from_raw_parts(at, row.len());
                scale_by_slope::<Fused, _>(act, at, row);
            }
        }
    }
}
