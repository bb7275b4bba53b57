//! The f32 matrix product on vector registers.
//!
//! A tile of a few rows by a few registers stays in registers while the inner dimension runs.
//! The right factor is packed into panels of one tile's width, which stay in the first-level
//! cache; the left one is read where it lies, or packed where its rows are not contiguous or an
//! activation is applied to it. Inner dimensions beyond [`Register::INNER`] are summed block by
//! block. So each element of the result is one chain of fused multiply-adds for each block, in an
//! order that depends on the inner dimension alone: not on the other rows, nor on how rows and
//! columns are cut, nor on who packed.

// Constant bounds and plain indices unroll into named registers; iterators went through memory.
#![allow(clippy::needless_range_loop)]

use super::elementwise::{activate_row, scale_by_slope};
use super::gemm::{Finish, Left, MatMut, MatRef, Right, Start};
use super::isa::Fused;
use super::register::Register;
use super::scratch::with_scratch;
use crate::Activation;
use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

/// Rows of the left factor that are worked on together: they stay in the second-level cache.
pub(super) const ROWS: usize = 256;
/// Tiles whose rows are packed side by side.
const GROUP: usize = 16;
/// Panels that are packed side by side: a row of them is enough to be fetched ahead of its use.
const STRIP: usize = 4;
/// How many rows ahead packing fetches.
const AHEAD: usize = 8;
/// Elements that a copy of a tile's column moves; tiles are no higher.
const COPY: usize = 8;

/// Inner dimension of a block: equal blocks, none longer than the register's own.
fn block_len<V: Register>(k: usize) -> usize {
    k.div_ceil(k.div_ceil(V::INNER)).next_multiple_of(16).min(k)
}

/// Elements of a packed right factor `[k, n]`.
pub(super) fn packed_len<V: Register>(k: usize, n: usize) -> usize {
    k * n.next_multiple_of(V::LANES)
}

/// A factor of which one axis is contiguous.
#[derive(Clone, Copy)]
struct Strided {
    data: *const f32,
    /// Distance of rows.
    rows: usize,
    /// Distance of columns.
    cols: usize,
}

// SAFETY: it is a matrix reference without its lifetime, which its users keep.
unsafe impl Sync for Strided {}

impl Strided {
    /// `None` if neither axis is contiguous.
    fn of(a: MatRef<'_>) -> Option<Strided> {
        let (rows, cols) = (a.row_stride(), a.col_stride());
        let works = rows >= 0 && cols >= 0 && (rows == 1 || cols == 1);
        works.then(|| Strided { data: a.as_ptr(), rows: rows as usize, cols: cols as usize })
    }

    /// Whether the elements of a row are neighbours.
    fn is_row_major(self) -> bool {
        self.cols == 1
    }
}

/// A product whose extents and strides were checked.
pub(super) struct Product<'a> {
    dst: *mut f32,
    dst_stride: usize,
    m: usize,
    n: usize,
    k: usize,
    left: Strided,
    act: Activation,
    right: Strided,
    panels: Option<&'a [f32]>,
    start: Start<'a>,
    finish: Finish<'a>,
}

/// The inner block that is being worked on.
#[derive(Clone, Copy)]
struct Inner {
    k0: usize,
    len: usize,
    is_first: bool,
    is_last: bool,
}

/// Rows of the left factor, of one inner block.
#[derive(Clone, Copy)]
struct LeftBlock {
    data: *const f32,
    /// Distance of tiles.
    tiles: usize,
    /// Distance of rows within a tile.
    rows: usize,
    /// Distance of columns.
    cols: usize,
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
            (_, Finish::Slope { at, .. }) => is_row_major(at),
            _ => true,
        };
        if dst.col_stride() != 1 || dst.row_stride() < 0 || !extras {
            return None;
        }
        Some(Product {
            dst: dst.as_ptr_mut(),
            dst_stride: dst.row_stride() as usize,
            m: dst.nrows(),
            n: dst.ncols(),
            k: left.values.ncols(),
            left: Strided::of(left.values)?,
            act: left.act,
            right: Strided::of(right.values())?,
            panels: right.panels(),
            start,
            finish,
        })
    }

    /// Computes it.
    ///
    /// # Safety
    /// `run` is [`Product::run_on`] compiled for the instruction set of `V`, and the processor
    /// has it; pointers are those of matrices of m×n, m×k and k×n, of which the first is not shared.
    pub(super) unsafe fn compute<V: Register>(
        &self,
        run: unsafe fn(&Product<'a>, &mut [f32], &mut [f32]),
    ) {
        let inner = block_len::<V>(self.k);
        let rows = self.m.min(ROWS).next_multiple_of(GROUP * V::TILE_ROWS);
        let tiles = rows / V::TILE_ROWS;
        let left = if self.packs_left() { tiles * packed_tile_len::<V>(inner) } else { 0 };
        let strip = STRIP * V::TILE_REGISTERS * V::LANES;
        let right = match self.panels {
            Some(_) => 0,
            None if self.packs_all_panels() => inner * self.n.next_multiple_of(V::LANES),
            None => inner * strip,
        };
        with_scratch(left, |left| {
            with_scratch(right, |right| {
                // SAFETY: the caller's contract.
                unsafe { run(self, left, right) };
            });
        });
    }

    fn packs_left(&self) -> bool {
        !self.left.is_row_major() || self.act != Activation::Identity
    }

    /// Whether panels are used by several blocks of rows, and so packed before the first.
    fn packs_all_panels(&self) -> bool {
        self.m > ROWS
    }

    /// # Safety
    /// As [`Product::compute`]; the scratch has the lengths that it takes.
    #[inline(always)]
    unsafe fn run_on<V: Register>(&self, tiles: &mut [f32], panels: &mut [f32]) {
        let n_padded = self.n.next_multiple_of(V::LANES);
        let block = block_len::<V>(self.k);
        for k0 in (0..self.k).step_by(block) {
            let len = block.min(self.k - k0);
            let inner = Inner { k0, len, is_first: k0 == 0, is_last: k0 + len == self.k };
            // SAFETY: all indices stay within the factors: k0 + len ≤ k, i + rows ≤ m, and
            // j + width ≤ n (columns beyond n are zeros of the panel and not stored).
            unsafe {
                if self.panels.is_none() && self.packs_all_panels() {
                    pack_columns::<V>(self.right, self.n, [k0, len], panels.as_mut_ptr());
                }
                for i0 in (0..self.m).step_by(ROWS) {
                    let rows = ROWS.min(self.m - i0);
                    let left = self.left_block::<V>([i0, rows], inner, tiles);
                    let mut j0 = 0;
                    while j0 < self.n {
                        let end = strip_end::<V>(j0, self.n);
                        let strip = match self.panels {
                            Some(packed) => packed.as_ptr().add(k0 * n_padded + j0 * len),
                            None if self.packs_all_panels() => panels.as_ptr().add(j0 * len),
                            None => {
                                let to = panels.as_mut_ptr();
                                pack_strip::<V>(self.right, [k0, len], [j0, end], self.n, to);
                                to
                            }
                        };
                        let mut j = j0;
                        while j < end {
                            let width = V::panel_width(self.n - j);
                            let panel = strip.add((j - j0) * len);
                            self.panel_tiles::<V>(left, [i0, rows], [j, width], panel, inner);
                            j += width;
                        }
                        j0 = end;
                    }
                }
            }
        }
    }

    /// The tiles of one panel, and what is done to them at the end.
    #[inline(always)]
    unsafe fn panel_tiles<V: Register>(
        &self,
        left: LeftBlock,
        [i0, rows]: [usize; 2],
        [j, width]: [usize; 2],
        panel: *const f32,
        inner: Inner,
    ) {
        let columns = width.min(self.n - j);
        let (bias, residual, residual_stride, adds) = self.start_at(i0, j, inner);
        for i in (0..rows).step_by(V::TILE_ROWS) {
            let height = V::TILE_ROWS.min(rows - i);
            // SAFETY: i0 + i + height ≤ m and j + columns ≤ n.
            unsafe {
                let dst = self.dst.add((i0 + i) * self.dst_stride + j);
                let tile = Tile {
                    k: inner.len,
                    a: left.data.add(i / V::TILE_ROWS * left.tiles),
                    a_rows: left.rows,
                    a_cols: left.cols,
                    b: panel,
                    dst,
                    dst_stride: self.dst_stride,
                    columns,
                    adds,
                    bias,
                    residual: residual.map(|r| r.add(i * residual_stride)),
                    residual_stride,
                };
                V::tile(&tile, height, width / V::LANES);
                if let (Finish::Slope { act, at }, true) = (self.finish, inner.is_last) {
                    for r in 0..height {
                        let row = at.as_ptr().add((i0 + i + r) * at.row_stride() as usize + j);
                        scale_by_slope::<Fused>(
                            act,
                            std::slice::from_raw_parts(row, columns),
                            std::slice::from_raw_parts_mut(dst.add(r * self.dst_stride), columns),
                        );
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

    /// Rows i0.. of the left factor's inner block, packed if they have to be.
    #[inline(always)]
    unsafe fn left_block<V: Register>(
        &self,
        [i0, rows]: [usize; 2],
        inner: Inner,
        tiles: &mut [f32],
    ) -> LeftBlock {
        let Strided { data, rows: row_stride, cols: col_stride } = self.left;
        // SAFETY: i0 < m and k0 < k.
        let block = unsafe { data.add(i0 * row_stride + inner.k0 * col_stride) };
        if !self.packs_left() {
            let tiles = V::TILE_ROWS * row_stride;
            return LeftBlock { data: block, tiles, rows: row_stride, cols: 1 };
        }
        if self.left.is_row_major() {
            for (r, packed) in tiles.chunks_exact_mut(inner.len).take(rows).enumerate() {
                // SAFETY: i0 + r < m, and the row has the inner block's elements.
                let row =
                    unsafe { std::slice::from_raw_parts(block.add(r * row_stride), inner.len) };
                activate_row::<Fused>(self.act, row, packed);
            }
            let data = tiles.as_ptr();
            let tiles = V::TILE_ROWS * inner.len;
            return LeftBlock { data, tiles, rows: inner.len, cols: 1 };
        }
        for i in (0..rows).step_by(GROUP * V::TILE_ROWS) {
            // SAFETY: the group's rows are within the block, its tiles within the scratch.
            unsafe { self.pack_group::<V>(block, [i, rows], inner.len, tiles.as_mut_ptr()) };
        }
        let tile_len = packed_tile_len::<V>(inner.len);
        LeftBlock { data: tiles.as_ptr(), tiles: tile_len, rows: 1, cols: V::TILE_ROWS }
    }

    /// Up to [`GROUP`] tiles from row `i` on, as `[tile][len][rows of a tile]`.
    #[inline(always)]
    unsafe fn pack_group<V: Register>(
        &self,
        block: *const f32,
        [i, rows]: [usize; 2],
        len: usize,
        tiles: *mut f32,
    ) {
        let mut column = [0.0_f32; GROUP * COPY + COPY];
        let height = (GROUP * V::TILE_ROWS).min(rows - i);
        let tile_len = packed_tile_len::<V>(len);
        // A whole group that the block goes on behind is copied from where it lies.
        let is_inside = height == GROUP * V::TILE_ROWS && i + height + COPY <= rows;
        for p in 0..len {
            // SAFETY: column p of the block has rows i..i + height next to one another; the
            // scratch has whole groups of tiles. Fetching ahead touches nothing.
            unsafe {
                let from = block.add(p * self.left.cols + i);
                for line in (0..height).step_by(16) {
                    let ahead = from.wrapping_add(AHEAD * self.left.cols + line);
                    _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
                }
                let mut source = from;
                if !is_inside || self.act != Activation::Identity {
                    let from = std::slice::from_raw_parts(from, height);
                    activate_row::<Fused>(self.act, from, &mut column[..height]);
                    source = column.as_ptr();
                }
                let to = tiles.add(i / V::TILE_ROWS * tile_len + p * V::TILE_ROWS);
                for t in 0..GROUP {
                    let from = source.add(t * V::TILE_ROWS);
                    std::ptr::copy_nonoverlapping(from, to.add(t * tile_len), COPY);
                }
            }
        }
    }
}

/// Elements of a packed tile, with a gap behind it, since whole registers are stored.
fn packed_tile_len<V: Register>(len: usize) -> usize {
    len * V::TILE_ROWS + COPY
}

/// Where the strip of panels that begins at column `j` of `n` ends.
fn strip_end<V: Register>(j: usize, n: usize) -> usize {
    (0..STRIP).fold(j, |j, _| if j < n { j + V::panel_width(n - j) } else { j })
}

/// All panels of rows k0.. of a right factor of `n` columns, one after the other.
///
/// # Safety
/// The instruction set of `V`; `to` has room for `len` times the padded columns.
#[inline(always)]
unsafe fn pack_columns<V: Register>(right: Strided, n: usize, [k0, len]: [usize; 2], to: *mut f32) {
    let mut j = 0;
    while j < n {
        let end = strip_end::<V>(j, n);
        // SAFETY: by contract.
        unsafe { pack_strip::<V>(right, [k0, len], [j, end], n, to.add(j * len)) };
        j = end;
    }
}

/// The panels of columns j0..end of the right factor's rows k0.., each as `[len][width]`, zeros
/// beyond column `n`.
///
/// # Safety
/// The instruction set of `V`; `to` has room for `len · (end − j0)` elements.
#[inline(always)]
unsafe fn pack_strip<V: Register>(
    right: Strided,
    [k0, len]: [usize; 2],
    [j0, end]: [usize; 2],
    n: usize,
    to: *mut f32,
) {
    // SAFETY: rows k0..k0 + len and columns j0..min(end, n) are within the factor; fetching
    // ahead touches nothing.
    unsafe {
        let from = right.data.add(k0 * right.rows + j0 * right.cols);
        if !right.is_row_major() {
            let mut j = j0;
            while j < end {
                let (width, columns) = (V::panel_width(n - j), V::panel_width(n - j).min(n - j));
                let from = from.add((j - j0) * right.cols);
                pack_transposed::<V>(
                    from,
                    right.cols,
                    [len, columns],
                    to.add((j - j0) * len),
                    width,
                );
                j += width;
            }
            return;
        }
        for p in 0..len {
            let row = from.add(p * right.rows);
            for line in (0..end.min(n) - j0).step_by(16) {
                let ahead = row.wrapping_add(AHEAD * right.rows + line);
                _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
            }
            let mut j = j0;
            while j < end {
                let width = V::panel_width(n - j);
                let (from, to) = (row.add(j - j0), to.add((j - j0) * len + p * width));
                if j + width <= n {
                    // Whole registers: a call to `memcpy` for each row would cost more.
                    for c in (0..width).step_by(V::LANES) {
                        V::load(from.add(c)).store(to.add(c));
                    }
                } else {
                    std::ptr::copy_nonoverlapping(from, to, n - j);
                    std::slice::from_raw_parts_mut(to.add(n - j), j + width - n).fill(0.0);
                }
                j += width;
            }
        }
    }
}

/// `columns` columns of `len` neighbouring elements, `stride` apart, to `[len][width]`.
#[inline(always)]
unsafe fn pack_transposed<V: Register>(
    from: *const f32,
    stride: usize,
    [len, columns]: [usize; 2],
    to: *mut f32,
    width: usize,
) {
    // SAFETY: only existing columns are read, and of each `len` elements; `to` has `len` rows.
    unsafe {
        for c in (0..width).step_by(V::LANES) {
            for p in (0..len).step_by(V::LANES) {
                let rows = V::LANES.min(len - p);
                let mut block = [V::zero(); 16];
                for (q, register) in block.iter_mut().enumerate().take(V::LANES) {
                    if c + q < columns {
                        *register = load_some::<V>(from.add((c + q) * stride + p), rows);
                    }
                }
                V::transpose(&mut block[..V::LANES]);
                for (r, register) in block.iter().enumerate().take(rows) {
                    register.store(to.add((p + r) * width + c));
                }
            }
        }
    }
}

/// The first `count` of a register's elements, zeros behind them.
#[inline(always)]
unsafe fn load_some<V: Register>(from: *const f32, count: usize) -> V {
    // SAFETY: `from` has `count` elements, the buffer a register's.
    unsafe {
        if count == V::LANES {
            return V::load(from);
        }
        let mut buffer = [0.0_f32; 16];
        std::ptr::copy_nonoverlapping(from, buffer.as_mut_ptr(), count);
        V::load(buffer.as_ptr())
    }
}

/// One tile of the result and what it is made from.
pub(super) struct Tile {
    k: usize,
    a: *const f32,
    a_rows: usize,
    a_cols: usize,
    b: *const f32,
    dst: *mut f32,
    dst_stride: usize,
    /// Columns that exist in the result.
    columns: usize,
    /// Whether the result is added to.
    adds: bool,
    bias: Option<*const f32>,
    residual: Option<*const f32>,
    residual_stride: usize,
}

impl Tile {
    /// # Safety
    /// As [`Tile::compute`], with `rows` and `registers` for R and W.
    #[inline(always)]
    pub(super) unsafe fn dispatch<V: Register>(&self, rows: usize, registers: usize) {
        macro_rules! sizes {
            ($($r:literal)*) => {
                match (rows, registers) {
                    $(($r, 1) => self.compute::<V, $r, 1>(),
                      ($r, 2) => self.compute::<V, $r, 2>(),
                      ($r, 3) => self.compute::<V, $r, 3>(),)*
                    _ => unreachable!("a tile has 1 to 8 rows of 1 to 3 registers"),
                }
            };
        }
        // SAFETY: the caller's contract is that of `compute`.
        unsafe { sizes!(1 2 3 4 5 6 7 8) };
    }

    /// R rows by W registers, over the whole of k.
    ///
    /// # Safety
    /// The instruction set of `V`. `a` has R rows of `k` elements at its strides, `b` `k` rows
    /// of W registers, `dst` (and the residual) R rows of `columns`, the bias one.
    #[inline(always)]
    unsafe fn compute<V: Register, const R: usize, const W: usize>(&self) {
        if R > V::TILE_ROWS || W > V::TILE_REGISTERS {
            unreachable!("larger than the register file");
        }
        // SAFETY: by contract.
        unsafe {
            let mut acc = [[V::zero(); W]; R];
            if self.adds {
                for r in 0..R {
                    _mm_prefetch::<_MM_HINT_T0>(self.dst.add(r * self.dst_stride).cast());
                }
            }
            // Rows in threes, each three from a pointer of its own: their addresses then need no
            // arithmetic, whose chain would be as long as the multiply-adds take.
            let stride = self.a_rows;
            let mut heads = [self.a, self.a.add(3 * stride), self.a.add(6 * stride)];
            let mut b = self.b;
            for _ in 0..self.k {
                let mut right = [V::zero(); W];
                for w in 0..W {
                    right[w] = V::load(b.add(V::LANES * w));
                }
                for r in 0..R {
                    let left = V::splat(heads[r / 3].add(r % 3 * stride));
                    for w in 0..W {
                        acc[r][w] = left.fma(right[w], acc[r][w]);
                    }
                }
                for head in &mut heads[..R.div_ceil(3)] {
                    *head = head.add(self.a_cols);
                }
                b = b.add(V::LANES * W);
            }
            if self.columns == V::LANES * W {
                self.store(acc);
            } else {
                self.store_some(acc);
            }
        }
    }

    #[inline(always)]
    unsafe fn store<V: Register, const R: usize, const W: usize>(&self, mut acc: [[V; W]; R]) {
        // Whole registers and known indices: otherwise the tile would go through memory.
        // SAFETY: by contract of `compute`.
        unsafe {
            if let Some(bias) = self.bias {
                for w in 0..W {
                    let bias = V::load(bias.add(V::LANES * w));
                    for r in 0..R {
                        acc[r][w] = acc[r][w].add(bias);
                    }
                }
            }
            if let Some(residual) = self.residual {
                self.add_rows::<V, R, W>(&mut acc, residual, self.residual_stride);
            }
            if self.adds {
                self.add_rows::<V, R, W>(&mut acc, self.dst, self.dst_stride);
            }
            for r in 0..R {
                for w in 0..W {
                    acc[r][w].store(self.dst.add(r * self.dst_stride + V::LANES * w));
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn add_rows<V: Register, const R: usize, const W: usize>(
        &self,
        acc: &mut [[V; W]; R],
        rows: *const f32,
        stride: usize,
    ) {
        for r in 0..R {
            for w in 0..W {
                // SAFETY: by contract of `compute`.
                acc[r][w] = unsafe { acc[r][w].add(V::load(rows.add(r * stride + V::LANES * w))) };
            }
        }
    }

    /// [`Tile::store`], element by element, for panels that the result does not fill.
    #[inline(always)]
    unsafe fn store_some<V: Register, const R: usize, const W: usize>(&self, acc: [[V; W]; R]) {
        let mut row = [0.0_f32; 48];
        for (r, acc) in acc.into_iter().enumerate() {
            // SAFETY: by contract of `compute`; a row of a tile has at most 48 elements.
            unsafe {
                for (w, acc) in acc.into_iter().enumerate() {
                    acc.store(row.as_mut_ptr().add(V::LANES * w));
                }
                for (c, sum) in row.iter().enumerate().take(self.columns) {
                    let mut sum = *sum;
                    let dst = self.dst.add(r * self.dst_stride + c);
                    if let Some(bias) = self.bias {
                        sum += *bias.add(c);
                    }
                    if let Some(residual) = self.residual {
                        sum += *residual.add(r * self.residual_stride + c);
                    }
                    if self.adds {
                        sum += *dst;
                    }
                    *dst = sum;
                }
            }
        }
    }
}

/// The entry points that are compiled for one instruction set.
macro_rules! entries {
    ($module:ident, $register:ty, $features:literal) => {
        pub(super) mod $module {
            use super::{MatRef, Product, Strided, pack_columns};
            use rayon::prelude::*;

            /// Computes a product.
            ///
            /// # Safety
            /// The processor has the instruction set; as [`Product::compute`].
            pub(in crate::kernel) unsafe fn run(product: &Product<'_>) {
                #[target_feature(enable = $features)]
                unsafe fn compiled(product: &Product<'_>, left: &mut [f32], right: &mut [f32]) {
                    // SAFETY: by contract.
                    unsafe { product.run_on::<$register>(left, right) };
                }
                // SAFETY: by contract.
                unsafe { product.compute::<$register>(compiled) };
            }

            /// Longest piece of an inner dimension of `k` that is summed in one chain.
            pub(in crate::kernel) fn block_len(k: usize) -> usize {
                super::block_len::<$register>(k)
            }

            /// Elements of a packed right factor.
            pub(in crate::kernel) fn packed_len(k: usize, n: usize) -> usize {
                super::packed_len::<$register>(k, n)
            }

            /// Packs `b`, on all threads; `false` if it has no contiguous axis.
            ///
            /// # Safety
            /// The processor has the instruction set.
            pub(in crate::kernel) unsafe fn pack(b: MatRef<'_>, panels: &mut [f32]) -> bool {
                #[target_feature(enable = $features)]
                unsafe fn compiled(
                    right: Strided,
                    n: usize,
                    [k0, len]: [usize; 2],
                    to: &mut [f32],
                ) {
                    // SAFETY: rows k0..k0 + len are within the factor, `to` has their panels.
                    unsafe { pack_columns::<$register>(right, n, [k0, len], to.as_mut_ptr()) };
                }
                let (k, n) = (b.nrows(), b.ncols());
                assert_eq!(panels.len(), packed_len(k, n), "room for the panels");
                let Some(right) = Strided::of(b) else { return false };
                let block = block_len(k);
                let blocks = panels.par_chunks_mut(block * packed_len(1, n)).enumerate();
                blocks.for_each(|(i, to)| {
                    let k0 = i * block;
                    // SAFETY: by contract; the blocks' panels lie one after the other.
                    unsafe { compiled(right, n, [k0, block.min(k - k0)], to) };
                });
                true
            }
        }
    };
}

entries!(avx2, std::arch::x86_64::__m256, "avx2,fma");
entries!(avx512, std::arch::x86_64::__m512, "avx512f,avx512dq,avx512vl,fma");
