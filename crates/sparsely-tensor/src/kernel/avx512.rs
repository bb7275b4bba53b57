//! The f32 matrix product for AVX-512.
//!
//! A tile of 8 rows by up to 48 columns stays in registers while the inner dimension runs; the
//! right factor is packed into panels of one tile's width that stay in the first-level cache,
//! the left one is read where it lies (or packed, if its rows are not contiguous). Inner
//! dimensions beyond [`KC`] are summed block by block. So each element of the result is one chain
//! of fused multiply-adds for each block, in an order that depends on the inner dimension
//! alone: not on the other rows, nor on how rows and columns are cut.

use super::gemm::{MatMut, MatRef};
use super::scratch::with_scratch;
use crate::tape::Write;
use std::arch::x86_64::{
    __m512, __mmask16, _mm512_add_ps, _mm512_castpd_ps, _mm512_castps_pd, _mm512_fmadd_ps,
    _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_shuffle_f32x4, _mm512_storeu_ps, _mm512_unpackhi_pd,
    _mm512_unpackhi_ps, _mm512_unpacklo_pd, _mm512_unpacklo_ps,
};

/// Inner dimension of a block: a panel of 48 columns then takes 36 KiB of the first-level cache.
const KC: usize = 192;
/// Rows of a tile.
const MR: usize = 8;
/// Lanes of a register.
const LANES: usize = 16;

/// `dst = a·b` or `dst += a·b`; `false` if the strides are not those of a product that our
/// layers ask for (then nothing is written).
///
/// # Safety
/// The processor has AVX-512F; `dst` is `[m, n]`, `a` `[m, k]` and `b` `[k, n]`.
pub(super) unsafe fn gemm(dst: MatMut<'_>, write: Write, a: MatRef<'_>, b: MatRef<'_>) -> bool {
    let (Some(left), Some(right)) = (Left::of(a), Right::of(b)) else { return false };
    if dst.col_stride() != 1 || dst.row_stride() < 0 {
        return false;
    }
    let product = Product {
        dst: dst.as_ptr_mut(),
        dst_stride: dst.row_stride() as usize,
        m: dst.nrows(),
        n: dst.ncols(),
        k: a.ncols(),
        left,
        right,
    };
    with_scratch(KC * 3 * LANES, |panel| {
        with_scratch(product.left_scratch(), |tiles| {
            // SAFETY: AVX-512F is there by contract. `dst`, `a` and `b` are valid matrices of
            // m×n, m×k and k×n elements for as long as this call, `dst` is not shared, and
            // strides are theirs.
            unsafe { product.run(write, panel, tiles) };
        });
    });
    true
}

/// The left factor `[m, k]`.
#[derive(Clone, Copy)]
struct Left {
    data: *const f32,
    /// Distance of rows.
    rows: usize,
    /// Distance of columns; 1 where rows are contiguous.
    cols: usize,
}

impl Left {
    fn of(a: MatRef<'_>) -> Option<Left> {
        let (rows, cols) = (a.row_stride(), a.col_stride());
        let works = rows >= 0 && cols >= 0 && (rows == 1 || cols == 1);
        works.then(|| Left { data: a.as_ptr(), rows: rows as usize, cols: cols as usize })
    }
}

/// The right factor `[k, n]`.
#[derive(Clone, Copy)]
enum Right {
    /// Rows are contiguous.
    RowMajor { data: *const f32, stride: usize },
    /// Columns are contiguous.
    ColMajor { data: *const f32, stride: usize },
}

impl Right {
    fn of(b: MatRef<'_>) -> Option<Right> {
        let (rows, cols, data) = (b.row_stride(), b.col_stride(), b.as_ptr());
        match (rows, cols) {
            (0.., 1) => Some(Right::RowMajor { data, stride: rows as usize }),
            (1, 0..) => Some(Right::ColMajor { data, stride: cols as usize }),
            _ => None,
        }
    }
}

struct Product {
    dst: *mut f32,
    dst_stride: usize,
    m: usize,
    n: usize,
    k: usize,
    left: Left,
    right: Right,
}

impl Product {
    /// Elements of the packed left factor: none if its rows are contiguous.
    fn left_scratch(&self) -> usize {
        if self.left.cols == 1 { 0 } else { self.m.next_multiple_of(MR) * KC.min(self.k) }
    }

    #[target_feature(enable = "avx512f")]
    unsafe fn run(&self, write: Write, panel: &mut [f32], tiles: &mut [f32]) {
        for k0 in (0..self.k).step_by(KC) {
            let kc = KC.min(self.k - k0);
            let adds = write == Write::Add || k0 > 0;
            // SAFETY: all indices below stay within the factors: k0 + kc ≤ k, i + r ≤ m and
            // j + width ≤ n (columns beyond n are zeros of the panel and masked on storing).
            unsafe {
                let left = self.left_block(k0, kc, tiles);
                let mut j = 0;
                while j < self.n {
                    let width = panel_width(self.n - j);
                    self.pack_panel([k0, kc], [j, width], panel);
                    let edge = edge_mask(self.n - j, width);
                    for i in (0..self.m).step_by(MR) {
                        let rows = MR.min(self.m - i);
                        let tile = Tile {
                            k: kc,
                            a: left.data.add(if left.cols == 1 { i * left.rows } else { i * kc }),
                            a_rows: left.rows,
                            a_cols: left.cols,
                            b: panel.as_ptr(),
                            dst: self.dst.add(i * self.dst_stride + j),
                            dst_stride: self.dst_stride,
                            adds,
                            edge,
                        };
                        tile.dispatch(rows, width / LANES);
                    }
                    j += width;
                }
            }
        }
    }

    /// The left factor's columns k0.., packed as `[m/8][kc][8]` if its rows are not contiguous.
    unsafe fn left_block(&self, k0: usize, kc: usize, tiles: &mut [f32]) -> Left {
        let Left { data, rows, cols } = self.left;
        // SAFETY: k0 < k.
        let block = unsafe { data.add(k0 * cols) };
        if cols == 1 {
            return Left { data: block, rows, cols };
        }
        for (tile, i) in tiles.chunks_mut(kc * MR).zip((0..self.m).step_by(MR)) {
            let height = MR.min(self.m - i);
            for (p, packed) in tile.chunks_mut(MR).enumerate() {
                // SAFETY: i + height ≤ m and k0 + p < k; here rows lie one element apart.
                let column = unsafe { std::slice::from_raw_parts(block.add(p * cols + i), height) };
                // A copy of known length is a register, one of unknown length a call.
                match (<&mut [f32; MR]>::try_from(&mut *packed), <&[f32; MR]>::try_from(column)) {
                    (Ok(packed), Ok(whole)) => *packed = *whole,
                    _ => packed[..height].copy_from_slice(column),
                }
            }
        }
        Left { data: tiles.as_ptr(), rows: 1, cols: MR }
    }

    /// Columns j.. of the right factor's rows k0.., as `[kc][width]`, zeros beyond column n.
    #[target_feature(enable = "avx512f")]
    unsafe fn pack_panel(&self, [k0, kc]: [usize; 2], [j, width]: [usize; 2], panel: &mut [f32]) {
        let columns = width.min(self.n - j);
        match self.right {
            Right::RowMajor { data, stride } => {
                for (p, packed) in panel.chunks_mut(width).take(kc).enumerate() {
                    // SAFETY: k0 + p < k and j + columns ≤ n.
                    let row = unsafe {
                        std::slice::from_raw_parts(data.add((k0 + p) * stride + j), columns)
                    };
                    if columns == width {
                        // Whole registers: a call to `memcpy` for each row would cost more.
                        for (to, from) in packed.chunks_mut(LANES).zip(row.chunks(LANES)) {
                            // SAFETY: both are LANES long.
                            unsafe {
                                _mm512_storeu_ps(to.as_mut_ptr(), _mm512_loadu_ps(from.as_ptr()));
                            }
                        }
                    } else {
                        packed[..columns].copy_from_slice(row);
                        packed[columns..].fill(0.0);
                    }
                }
            }
            Right::ColMajor { data, stride } => {
                for c in (0..width).step_by(LANES) {
                    for p in (0..kc).step_by(LANES) {
                        let extent = [LANES.min(columns.saturating_sub(c)), LANES.min(kc - p)];
                        // SAFETY: the block's `extent` columns and rows are within the factor;
                        // the panel has kc rows of `width`.
                        unsafe {
                            let from = data.add((j + c).min(self.n - 1) * stride + k0 + p);
                            transpose_block(
                                from,
                                stride,
                                extent,
                                panel.as_mut_ptr().add(p * width + c),
                                width,
                            );
                        }
                    }
                }
            }
        }
    }
}

/// Width of the next panel: 48, or what is left in whole registers; 64 are two of 32, so that
/// no tile is too narrow to hide the latency of its chains.
fn panel_width(left: usize) -> usize {
    match left.next_multiple_of(LANES) {
        64 => 32,
        padded => padded.min(3 * LANES),
    }
}

/// Lanes of a panel's last register that exist in the result.
fn edge_mask(left: usize, width: usize) -> __mmask16 {
    let missing = width.saturating_sub(left);
    0xffff >> missing
}

/// 16 columns of `extent[1]` elements each, `stride` apart, to rows of 16 that are `to_stride`
/// apart; columns from `extent[0]` on become zeros.
#[target_feature(enable = "avx512f")]
unsafe fn transpose_block(
    from: *const f32,
    stride: usize,
    [columns, rows]: [usize; 2],
    to: *mut f32,
    to_stride: usize,
) {
    let mask: __mmask16 = 0xffff >> (LANES - rows);
    let mut x = [_mm512_setzero_ps(); LANES];
    for (c, x) in x.iter_mut().enumerate().take(columns) {
        // SAFETY: column c < `columns` exists and has `rows` elements; the others are masked.
        *x = unsafe { _mm512_maskz_loadu_ps(mask, from.add(c * stride)) };
    }
    let x = transpose(x);
    for (r, x) in x.into_iter().enumerate().take(rows) {
        // SAFETY: row r < `rows` of the panel has 16 elements from here.
        unsafe { _mm512_storeu_ps(to.add(r * to_stride), x) };
    }
}

/// A 16×16 transposition in registers: pairs, fours, then quarters of registers twice.
#[target_feature(enable = "avx512f")]
fn transpose(x: [__m512; LANES]) -> [__m512; LANES] {
    let mut pairs = x;
    for i in (0..LANES).step_by(2) {
        pairs[i] = _mm512_unpacklo_ps(x[i], x[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_ps(x[i], x[i + 1]);
    }
    let mut fours = pairs;
    for i in (0..LANES).step_by(4) {
        for half in 0..2 {
            let (a, b) = (_mm512_castps_pd(pairs[i + half]), _mm512_castps_pd(pairs[i + 2 + half]));
            fours[i + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            fours[i + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
    }
    // fours[4g + c] holds, in quarter q, elements 4q + c of rows 4g..4g+4.
    let mut out = fours;
    for c in 0..4 {
        let low01 = _mm512_shuffle_f32x4::<0b10_00_10_00>(fours[c], fours[4 + c]);
        let high01 = _mm512_shuffle_f32x4::<0b11_01_11_01>(fours[c], fours[4 + c]);
        let low23 = _mm512_shuffle_f32x4::<0b10_00_10_00>(fours[8 + c], fours[12 + c]);
        let high23 = _mm512_shuffle_f32x4::<0b11_01_11_01>(fours[8 + c], fours[12 + c]);
        // low01 = quarters 0, 2 of groups 0 and 1; and so on.
        out[c] = _mm512_shuffle_f32x4::<0b10_00_10_00>(low01, low23);
        out[8 + c] = _mm512_shuffle_f32x4::<0b11_01_11_01>(low01, low23);
        out[4 + c] = _mm512_shuffle_f32x4::<0b10_00_10_00>(high01, high23);
        out[12 + c] = _mm512_shuffle_f32x4::<0b11_01_11_01>(high01, high23);
    }
    out
}

/// One tile of the result and what it is made from.
struct Tile {
    k: usize,
    a: *const f32,
    a_rows: usize,
    a_cols: usize,
    b: *const f32,
    dst: *mut f32,
    dst_stride: usize,
    adds: bool,
    edge: __mmask16,
}

impl Tile {
    #[target_feature(enable = "avx512f")]
    unsafe fn dispatch(&self, rows: usize, registers: usize) {
        macro_rules! by_rows {
            ($($r:literal)*) => {
                match (rows, registers) {
                    $(($r, 1) => self.compute::<$r, 1>(),
                      ($r, 2) => self.compute::<$r, 2>(),
                      ($r, 3) => self.compute::<$r, 3>(),)*
                    _ => unreachable!("a tile has 1 to 8 rows of 1 to 3 registers"),
                }
            };
        }
        // SAFETY: the caller's contract is that of `compute`.
        unsafe { by_rows!(1 2 3 4 5 6 7 8) };
    }

    /// R rows by V registers, over the whole of k.
    ///
    /// # Safety
    /// `a` has R rows of `k` elements at its strides, `b` has `k` rows of 16·V, `dst` R rows of
    /// 16·V of which the last register's elements outside `edge` are not touched.
    #[target_feature(enable = "avx512f")]
    unsafe fn compute<const R: usize, const V: usize>(&self) {
        let mut acc = [[_mm512_setzero_ps(); V]; R];
        let (mut a, mut b) = (self.a, self.b);
        for _ in 0..self.k {
            // SAFETY: by contract.
            unsafe {
                let mut right = [_mm512_setzero_ps(); V];
                for (v, right) in right.iter_mut().enumerate() {
                    *right = _mm512_loadu_ps(b.add(LANES * v));
                }
                for (r, acc) in acc.iter_mut().enumerate() {
                    let left = _mm512_set1_ps(*a.add(r * self.a_rows));
                    for (acc, right) in acc.iter_mut().zip(right) {
                        *acc = _mm512_fmadd_ps(left, right, *acc);
                    }
                }
                a = a.add(self.a_cols);
                b = b.add(LANES * V);
            }
        }
        for (r, acc) in acc.into_iter().enumerate() {
            for (v, acc) in acc.into_iter().enumerate() {
                let mask = if v + 1 == V { self.edge } else { 0xffff };
                // SAFETY: by contract; lanes outside the mask are neither read nor written.
                unsafe {
                    let dst = self.dst.add(r * self.dst_stride + LANES * v);
                    let before = _mm512_maskz_loadu_ps(mask, dst);
                    let sum = if self.adds { _mm512_add_ps(before, acc) } else { acc };
                    _mm512_mask_storeu_ps(dst, mask, sum);
                }
            }
        }
    }
}
