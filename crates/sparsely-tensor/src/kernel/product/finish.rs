//! A tile of the result where it lies: in f32 or rounded, and scaled by slopes.

use super::kernel::{IsaOf, Kernel};
use super::pack::{Source, WIDEST};
use super::tile::Tile;
use crate::Activation;
use crate::kernel::elementwise::scale_by_slope;
use crate::kernel::fetch::{Purpose, fetch};
use crate::kernel::isa::Isa;
use crate::kernel::register::Register;
use crate::precision::{Bf16, Stored};
use std::mem::MaybeUninit;

/// The sums of a tile of any kernel.
#[repr(C, align(64))]
pub(super) struct Sums(pub(super) [f32; Sums::LEN]);

impl Sums {
    /// Two by two of the largest, which are those of AMX.
    pub(super) const LEN: usize = 1024;
}

/// What a tile's sums are multiplied with at the end: act'(at).
#[derive(Clone, Copy)]
pub(super) struct Slope {
    pub(super) act: Activation,
    pub(super) at: Source,
    /// Distance of the rows.
    pub(super) rows: usize,
}

impl Slope {
    #[inline(always)]
    pub(super) fn fetch(&self, rows: usize, columns: usize) {
        for r in 0..rows {
            self.at.at(r * self.rows).fetch(columns);
        }
    }

    /// `sums *= act'(at)` of row `r`.
    ///
    /// # Safety
    /// There are as many of that row; the instruction set of a kernel.
    #[inline(always)]
    unsafe fn scale<I: Isa>(&self, r: usize, sums: &mut [f32]) {
        // SAFETY: by contract.
        unsafe {
            match self.at.at(r * self.rows) {
                Source::F32(at) => scale_by::<I, _>(self.act, at, sums),
                Source::Bf16(at) => scale_by::<I, _>(self.act, at, sums),
            }
        }
    }
}

/// [`scale_by_slope`] at as many values as there are sums.
#[inline(always)]
unsafe fn scale_by<I: Isa, S: Stored>(act: Activation, at: *const S, sums: &mut [f32]) {
    // SAFETY: the caller's contract: there are as many.
    let at = unsafe { std::slice::from_raw_parts(at, sums.len()) };
    scale_by_slope::<I, _>(act, at, sums);
}

/// A tile of so many rows and registers.
///
/// # Safety
/// As [`Tile::compute`].
#[inline(always)]
pub(super) unsafe fn compute_tile<K: Kernel>(
    tile: &Tile,
    [rows, registers]: [usize; 2],
    slope: Option<Slope>,
) {
    // SAFETY: by contract; fetching touches nothing.
    unsafe {
        for r in 0..rows {
            let r = tile.scatter.map_or(r, |scatter| scatter.row(r));
            let row = tile.dst.wrapping_add(r * tile.dst_stride);
            fetch(row.cast_const(), tile.columns, Purpose::Writing);
        }
        K::tile(tile, rows, registers);
        if let Some(slope) = slope {
            for r in 0..rows {
                let row = tile.dst.add(r * tile.dst_stride);
                slope.scale::<IsaOf<K>>(r, std::slice::from_raw_parts_mut(row, tile.columns));
            }
        }
    }
}

/// The same rounded to `dst`, which lies as the tile's own result would: the sums stay in the first-level cache.
///
/// # Safety
/// As [`Tile::compute`].
#[inline(always)]
pub(super) unsafe fn compute_rounded_tile<K: Kernel>(
    tile: &Tile,
    dst: *mut Bf16,
    [rows, registers]: [usize; 2],
    slope: Option<Slope>,
) {
    let mut sums = MaybeUninit::<Sums>::uninit();
    let sums = sums.as_mut_ptr().cast::<f32>();
    let width = registers * K::Register::LANES;
    let own =
        Tile { dst: sums, dst_stride: width, columns: width, bias: None, residual: None, ..*tile };
    debug_assert!(!tile.adds && rows * width <= Sums::LEN, "a result of its own");
    // SAFETY: by contract; the sums have room for the largest tile.
    unsafe {
        for r in 0..rows {
            let row = dst.wrapping_add(r * tile.dst_stride);
            fetch(row.cast_const(), tile.columns, Purpose::Writing);
        }
        K::tile(&own, rows, registers);
        if tile.bias.is_some() || tile.residual.is_some() {
            for r in 0..rows {
                tile.add_terms::<K::Register>(r, sums.add(r * width));
            }
        }
        if let Some(slope) = slope {
            for r in 0..rows {
                let sums = std::slice::from_raw_parts_mut(sums.add(r * width), tile.columns);
                slope.scale::<IsaOf<K>>(r, sums);
            }
        }
        if tile.columns == 2 * K::Register::LANES {
            for r in 0..rows {
                K::round_two(sums.add(r * width), dst.add(r * tile.dst_stride));
            }
        } else {
            for r in 0..rows {
                let to = dst.add(r * tile.dst_stride);
                round_row::<K>(sums.add(r * width), to, tile.columns);
            }
        }
    }
}

/// The nearest bf16 of `count` sums, of which there are whole registers.
///
/// # Safety
/// There is room for as many; the instruction set of `K`.
#[inline(always)]
unsafe fn round_row<K: Kernel>(sums: *const f32, to: *mut Bf16, count: usize) {
    let step = 2 * K::Register::LANES;
    let whole = count / step * step;
    // SAFETY: by contract; of sums that are not there nothing is kept.
    unsafe {
        for c in (0..whole).step_by(step) {
            K::round_two(sums.add(c), to.add(c));
        }
        let mut rest = [0.0_f32; WIDEST];
        let mut rounded = [Bf16::nearest(0.0); WIDEST];
        std::ptr::copy_nonoverlapping(sums.add(whole), rest.as_mut_ptr(), count - whole);
        K::round_two(rest.as_ptr(), rounded.as_mut_ptr());
        std::ptr::copy_nonoverlapping(rounded.as_ptr(), to.add(whole), count - whole);
    }
}
