//! The matrix product on vector registers.
//!
//! A tile of a few rows by a few registers stays in registers while the inner dimension runs.
//! The right factor is packed into panels of a tile's width, which stay in the first-level cache, or
//! read where it lies by few rows that it is near to. The left one is read where it lies, or packed
//! where its rows are not contiguous, an activation is applied to it, or its elements are not the
//! lanes that the kernel multiplies. Inner dimensions beyond [`Kernel::INNER`] are summed block by
//! block. So each element of the result is one chain of multiply-adds for each block, in an order
//! that depends on the inner dimension alone: not on the other rows, nor on how rows and columns are
//! cut, nor on who packed.

#[cfg(target_arch = "x86_64")]
mod amx;
mod entries;
mod finish;
mod kernel;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pack;
#[cfg(any(test, not(target_arch = "aarch64")))]
mod plain;
mod strided;
mod tile;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(super) use entries::entries;
#[cfg(test)]
pub(super) use entries::{Entries, all_entries};
pub(super) use strided::check_factors;

use super::fetch::{Purpose, fetch};
use super::gemm::{
    Dots, Finish, Left, MatMut, MatRef, Panels, Right, Scatter, Start, Values, ValuesMut,
};
use super::register::{MOST_LANES, Register};
use super::scratch::with_scratch;
use crate::Activation;
use crate::precision::Bf16;
use finish::{Slope, compute_rounded_tile, compute_tile};
use kernel::Kernel;
use pack::{
    ACTIVE, LeftRows, STRIP, Source, pack_columns, pack_rows, pack_strip, pack_turned_rows,
    strip_end,
};
use strided::Strided;
use tile::{DotsTile, ScatterTile, Tile};

/// Most rows of the left factor that are worked on together: they stay in the second-level cache.
const ROWS: usize = 256;
/// Most rows for which panels come from memory as fast as they are multiplied, or slower.
const STREAMED: usize = 64;
/// Elements of the largest right factor that few rows read where it lies: panels of a larger one would come from memory
/// in pieces that are too small.
const NEAR: usize = 1 << 17;
/// Rows behind the last one that a tile may read.
const SPARE_ROWS: usize = 32;

/// A product whose extents and strides were checked.
pub(super) struct Product<'a> {
    dst: Target,
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

/// Where a result lies.
#[derive(Clone, Copy)]
enum Target {
    F32(*mut f32),
    /// Of a product whose inner dimension is one block, and which is added to nothing there.
    Bf16(*mut Bf16),
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

/// What tiles read of a right factor.
#[derive(Clone, Copy)]
enum Read<'a> {
    /// What was packed before.
    Before(Panels<'a>),
    /// Its rows.
    AsItLies(*const f32),
    /// The panels of an inner block, which several blocks of rows read.
    Block,
    /// A strip of panels after the other.
    Strip,
}

/// The columns of a tile, of one inner block.
#[derive(Clone, Copy)]
struct Panel {
    data: *const f32,
    /// Distance of rows, whose columns are neighbours.
    rows: usize,
    /// Its columns.
    width: usize,
}

/// Rows of the left factor, of one inner block.
#[derive(Clone, Copy)]
struct LeftBlock {
    data: *const f32,
    /// Distance of rows, whose lanes are neighbours.
    rows: usize,
}

impl<'a> Product<'a> {
    /// `None` if a result that is rounded would be summed in more than one of the `blocks` of the inner dimension.
    pub(super) fn new(
        (dst, blocks): (ValuesMut<'a>, usize),
        start: Start<'a>,
        left: Left<'a>,
        right: &Right<'a>,
        finish: Finish<'a>,
    ) -> Option<Product<'a>> {
        let n = dst.ncols();
        let (dst, dst_stride) = match dst {
            ValuesMut::F32(m) => (Target::F32(m.as_ptr_mut()), m.row_stride()),
            ValuesMut::Bf16(_) if blocks > 1 => return None,
            ValuesMut::Bf16(m) => (Target::Bf16(m.as_ptr_mut()), m.row_stride()),
        };
        Some(Product {
            dst,
            dst_stride: dst_stride as usize,
            m: left.num_rows(),
            n,
            k: left.num_inner(),
            left: Strided::left(&left),
            left_rows: left.rows,
            act: left.act,
            right: Strided::right(right),
            panels: right.panels(),
            start,
            finish,
            scatter: None,
        })
    }

    /// The same in f32, whose rows go where `scatter` says; calls `f` with it.
    pub(super) fn scattering<R>(
        dst: MatMut<'a>,
        (left, right): (Left<'a>, &Right<'a>),
        scatter: Scatter<'a>,
        dots: Option<Dots<'_>>,
        f: impl FnOnce(&Product<'_>) -> R,
    ) -> R {
        let dst = (ValuesMut::from(dst), 1);
        let product = Product::new(dst, Start::Output, left, right, Finish::None);
        let mut product = product.expect("a result in f32");
        let Some(dots) = dots else {
            product.scatter = Some((scatter, None));
            return f(&product);
        };
        with_scratch(product.m * MOST_LANES, |lanes| {
            lanes.fill(0.0);
            let own = DotLanes { at: dots.at, lanes: lanes.as_mut_ptr() };
            product.scatter = Some((scatter, Some(own)));
            let result = f(&product);
            for (sum, lanes) in dots.sums.iter_mut().zip(lanes.chunks(MOST_LANES)) {
                *sum = lanes.iter().sum();
            }
            result
        })
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
            true => (self.m.min(self.block_rows::<K>()) + SPARE_ROWS) * lanes + active,
            false => 0,
        };
        let right = match self.read::<K>() {
            Read::Before(_) | Read::AsItLies(_) => 0,
            Read::Block => K::packed_len(K::block_len(self.k), self.n),
            Read::Strip => lanes * STRIP * K::PANEL_REGISTERS * K::Register::LANES,
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

    /// What the tiles read of the right factor.
    fn read<K: Kernel>(&self) -> Read<'a> {
        if let Some(panels) = self.panels {
            return Read::Before(panels);
        }
        match self.right.data {
            // Whole registers of neighbours that are near, where packing costs more than it gives.
            Source::F32(data)
                if K::DEPTH == 1
                    && !K::CONVERTS
                    && self.m <= STREAMED
                    && self.k * self.right.rows <= NEAR
                    && self.right.is_row_major
                    && self.right.inner.is_none()
                    && self.n.is_multiple_of(K::Register::LANES) =>
            {
                Read::AsItLies(data)
            }
            _ if self.m > self.block_rows::<K>() => Read::Block,
            _ => Read::Strip,
        }
    }

    /// Rows of the left factor that are worked on together.
    fn block_rows<K: Kernel>(&self) -> usize {
        let rows = K::rows(K::lanes(K::block_len(self.k)));
        debug_assert!(rows <= ROWS && rows.is_multiple_of(K::ROW_STEP), "whole registers of rows");
        rows
    }

    /// # Safety
    /// As [`Product::compute`]; the scratch has the lengths that it takes.
    #[inline(always)]
    unsafe fn run_on<K: Kernel>(&self, tiles: &mut [f32], panels: &mut [f32]) {
        let (first, total) = self.panels.map_or((0, self.n), |panels| (panels.first, panels.total));
        let padded = total.next_multiple_of(K::Register::LANES);
        // SAFETY: all indices stay within the factors (names by contract): k0 + len ≤ k, i + rows ≤ m, and
        // j + width ≤ n (columns beyond n are zeros of the panel and not stored; of what is read as it lies there are
        // none). Packed columns that are not all begin
        // and end with panels.
        unsafe {
            K::begin();
            let (read, block_rows) = (self.read::<K>(), self.block_rows::<K>());
            for k0 in (0..self.k).step_by(K::block_len(self.k)) {
                let inner = Inner::of::<K>(k0, self.k);
                if let Read::Block = read {
                    pack_columns::<K>(self.right, self.n, inner, panels.as_mut_ptr());
                }
                for i0 in (0..self.m).step_by(block_rows) {
                    let rows = block_rows.min(self.m - i0);
                    let left = self.left_block::<K>([i0, rows], inner, tiles);
                    let mut j0 = 0;
                    while j0 < self.n {
                        let end = strip_end::<K>(first + j0, total) - first;
                        let strip = match read {
                            Read::Before(Panels { all, .. }) => {
                                let before = k0 / K::DEPTH * padded + (first + j0) * inner.lanes;
                                all.as_ptr().add(before)
                            }
                            Read::AsItLies(data) => data.add(k0 * self.right.rows + j0),
                            Read::Block => panels.as_ptr().add(j0 * inner.lanes),
                            Read::Strip => {
                                let to = panels.as_mut_ptr();
                                pack_strip::<K>(self.right, inner, [j0, end], self.n, to);
                                to
                            }
                        };
                        let panel_at = |j: usize| {
                            let width = K::panel_width(total - first - j);
                            let (rows, before) = match read {
                                Read::AsItLies(_) => (self.right.rows, j - j0),
                                _ => (width, (j - j0) * inner.lanes),
                            };
                            Panel { data: strip.wrapping_add(before), rows, width }
                        };
                        // Weights that are read once come from memory.
                        let is_read_once = match read {
                            Read::Before(_) | Read::AsItLies(_) => self.m <= STREAMED,
                            Read::Block | Read::Strip => false,
                        };
                        let mut j = j0;
                        while j < end.min(self.n) {
                            let panel = panel_at(j);
                            let after = j + panel.width;
                            let next = (is_read_once && after < self.n).then(|| panel_at(after));
                            self.panel_tiles::<K>((left, panel, next), ([i0, rows], j), inner);
                            j = after;
                        }
                        j0 = end;
                    }
                }
            }
            K::end();
        }
    }

    /// The tiles of one panel, and what is done to them at the end. The next one is fetched meanwhile.
    #[inline(always)]
    unsafe fn panel_tiles<K: Kernel>(
        &self,
        (left, panel, next): (LeftBlock, Panel, Option<Panel>),
        ([i0, rows], j): ([usize; 2], usize),
        inner: Inner,
    ) {
        let (bias, residual, residual_stride, adds) = self.start_at(i0, j, inner);
        let mut tile = Tile {
            k: inner.lanes,
            a: left.data,
            a_rows: left.rows,
            b: panel.data,
            b_rows: panel.rows,
            dst: std::ptr::null_mut(),
            dst_stride: self.dst_stride,
            columns: panel.width.min(self.n - j),
            adds,
            bias,
            residual,
            residual_stride,
            scatter: None,
        };
        let registers = panel.width / K::Register::LANES;
        let tile_rows = K::tile_rows(registers);
        let share = inner.lanes.div_ceil(rows.div_ceil(tile_rows));
        for i in (0..rows).step_by(tile_rows) {
            let height = tile_rows.min(rows - i);
            if let Some(next) = next {
                let first = i / tile_rows * share;
                for p in first..(first + share).min(inner.lanes) {
                    let row = next.data.wrapping_add(p * next.rows);
                    fetch(row, next.width, Purpose::ReadingLater);
                }
            }
            // SAFETY: i0 + i + height ≤ m and j + columns ≤ n.
            unsafe {
                tile.a = left.data.add(i * left.rows);
                tile.residual = residual.map(|r| r.add(i * residual_stride));
                let slope = if inner.is_last { self.slope_at([i0 + i, j]) } else { None };
                if let Some(slope) = slope {
                    slope.fetch(height, tile.columns);
                }
                let size = [height, registers];
                match self.dst {
                    Target::F32(dst) => {
                        tile.scatter = self.scatter_at(i0 + i, j);
                        let row = if tile.scatter.is_some() { 0 } else { i0 + i };
                        tile.dst = dst.add(row * self.dst_stride + j);
                        compute_tile::<K>(&tile, size, slope);
                    }
                    Target::Bf16(dst) => {
                        let dst = dst.add((i0 + i) * self.dst_stride + j);
                        compute_rounded_tile::<K>(&tile, dst, size, slope);
                    }
                }
            }
        }
    }

    /// The slopes of the rows from `i` and the columns from `j`.
    #[inline(always)]
    fn slope_at(&self, [i, j]: [usize; 2]) -> Option<Slope> {
        let Finish::Slope { act, at } = self.finish else { return None };
        let (data, stride) = match at {
            Values::F32(m) => (Source::F32(m.as_ptr()), m.row_stride()),
            Values::Bf16(m) => (Source::Bf16(m.as_ptr()), m.row_stride()),
        };
        let rows = stride.unsigned_abs();
        Some(Slope { act, at: data.at(i * rows + j), rows })
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
                tiles.split_at_mut((self.m.min(self.block_rows::<K>()) + SPARE_ROWS) * inner.lanes);
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
