//! The ways to multiply: one for each precision and instruction set.

use super::ROWS;
use super::pack::WIDEST;
use super::tile::Tile;
use crate::kernel::register::{MOST_LANES, Register};
use crate::precision::{Bf16, Stored};
use std::hint::black_box;
use std::marker::PhantomData;

/// What loops over single elements may assume beside `K`.
pub(super) type IsaOf<K> = <<K as Kernel>::Register as Register>::Isa;

/// How factors are packed and tiles are computed.
///
/// # Safety
/// Every method needs the instruction set of the implementor.
pub(super) trait Kernel: Sized {
    /// What holds the lanes of a factor, and the f32 sums.
    type Register: Register;
    /// Rows of a tile.
    const TILE_ROWS: usize;
    /// Registers of a row of a tile.
    const TILE_REGISTERS: usize;
    /// Registers of the widest panel. If it is four thirds of a tile, its tiles have three quarters of the rows: a panel
    /// of the single register that is left could not hide the latency of its chains.
    const PANEL_REGISTERS: usize = Self::TILE_REGISTERS;
    /// Most lanes of the inner dimension in a block.
    const INNER: usize;
    /// Neighbours of the inner dimension that share a lane of a packed factor.
    const DEPTH: usize = 1;
    /// Lanes of the inner dimension that a tile takes at a time: factors are filled up with zeros.
    const STEP: usize = 1;
    /// Rows of the left factor that a tile reads at a time, whether they exist or not.
    const ROW_STEP: usize = 1;
    /// Whether a lane is something else than an f32 element: then such a left factor is always packed.
    const CONVERTS: bool = false;

    /// The lanes of `LANES · DEPTH` neighbours.
    #[inline(always)]
    unsafe fn pack_along(from: *const f32) -> Self::Register {
        // SAFETY: the caller's contract.
        unsafe { Self::Register::load(from) }
    }

    /// The lanes of `LANES` columns of the first [`Kernel::DEPTH`] of two rows.
    #[inline(always)]
    unsafe fn pack_down(rows: [*const f32; 2]) -> Self::Register {
        // SAFETY: the caller's contract.
        unsafe { Self::Register::load(rows[0]) }
    }

    /// [`Kernel::pack_along`] of what is stored as bf16.
    #[inline(always)]
    unsafe fn pack_along_bf16(from: *const Bf16) -> Self::Register {
        // SAFETY: the caller's contract; the buffer has as many elements.
        unsafe {
            let wide = widened(from, Self::Register::LANES * Self::DEPTH);
            Self::pack_along(wide.as_ptr())
        }
    }

    /// [`Kernel::pack_down`] of what is stored as bf16.
    #[inline(always)]
    unsafe fn pack_down_bf16(rows: [*const Bf16; 2]) -> Self::Register {
        // SAFETY: as above.
        unsafe {
            let wide = rows.map(|row| widened(row, Self::Register::LANES));
            Self::pack_down([wide[0].as_ptr(), wide[1].as_ptr()])
        }
    }

    /// `sum` and the products of the elements that share a lane.
    #[inline(always)]
    unsafe fn fma(
        left: Self::Register,
        right: Self::Register,
        sum: Self::Register,
    ) -> Self::Register {
        // SAFETY: the caller's contract.
        unsafe { left.fma(right, sum) }
    }

    /// Runs `rounds` multiply-adds of 0.5 and 1 in chains that never leave the registers; the multiply-accumulates
    /// that were done, and their sum.
    #[inline(always)]
    unsafe fn multiply_adds(rounds: usize) -> (usize, f32) {
        // More than latency times units, and as many as the smallest register file holds beside the factors.
        // SAFETY: the caller's contract.
        unsafe { chains::<Self, 12>(rounds) }
    }

    /// Called by a thread before the tiles of a product.
    unsafe fn begin() {}

    /// Called by the same thread after them.
    unsafe fn end() {}

    /// One tile; see [`Tile::compute`].
    unsafe fn tile(tile: &Tile, rows: usize, registers: usize);

    /// The nearest bf16 of the elements of two registers.
    #[inline(always)]
    unsafe fn round_two(from: *const f32, to: *mut Bf16) {
        for i in 0..2 * Self::Register::LANES {
            // SAFETY: the caller's contract: there are as many.
            unsafe { *to.add(i) = Bf16::nearest(*from.add(i)) };
        }
    }

    /// Rows of a left factor of `lanes` lanes that are worked on together: whole tiles, at most [`ROWS`].
    fn rows(_lanes: usize) -> usize {
        ROWS
    }

    /// Lanes that `k` elements of the inner dimension take.
    fn lanes(k: usize) -> usize {
        k.div_ceil(Self::DEPTH).next_multiple_of(Self::STEP)
    }

    /// Elements of the inner dimension in a block: equal blocks, none longer than the kernel's own.
    fn block_len(k: usize) -> usize {
        let lanes = Self::lanes(k);
        let block = lanes.div_ceil(lanes.div_ceil(Self::INNER)).next_multiple_of(16).min(lanes);
        block * Self::DEPTH
    }

    /// Lanes of a packed right factor `[k, n]`.
    fn packed_len(k: usize, n: usize) -> usize {
        Self::lanes(k) * n.next_multiple_of(Self::Register::LANES)
    }

    /// Columns of the next panel, of `left` that remain: a whole tile, or what is left in whole
    /// registers.
    fn panel_width(left: usize) -> usize {
        let padded = left.next_multiple_of(Self::Register::LANES);
        let whole = Self::TILE_REGISTERS * Self::Register::LANES;
        if padded == Self::PANEL_REGISTERS * Self::Register::LANES {
            padded
        } else {
            padded.min(whole)
        }
    }

    /// Rows of the tiles of a panel of so many registers.
    fn tile_rows(registers: usize) -> usize {
        if registers > Self::TILE_REGISTERS { Self::TILE_ROWS * 3 / 4 } else { Self::TILE_ROWS }
    }
}

/// [`Kernel::multiply_adds`] in `N` chains. Without fused multiply-add their product is computed once and the sums alone
/// are in the rounds: processors that old multiply and add in different units, so it is their peak all the same.
///
/// # Safety
/// The instruction set of `K`.
#[inline(always)]
pub(super) unsafe fn chains<K: Kernel, const N: usize>(rounds: usize) -> (usize, f32) {
    // SAFETY: the caller's contract; the arrays have a register's lanes.
    unsafe {
        let (half, one) = (
            K::pack_along(black_box([0.5; WIDEST]).as_ptr()),
            K::pack_along(black_box([1.0; WIDEST]).as_ptr()),
        );
        let mut sums = [K::Register::zero(); N];
        for _ in 0..rounds {
            // Plain indices: with iterators the sums may go through memory.
            #[allow(clippy::needless_range_loop)]
            for i in 0..N {
                sums[i] = K::fma(half, one, sums[i]);
            }
            // Otherwise a round may be merged with the next.
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            std::arch::asm!("", options(nomem, nostack, preserves_flags));
        }
        let mut total = K::Register::zero();
        for sum in sums {
            total = total.add(sum);
        }
        let mut lanes = [0.0_f32; MOST_LANES];
        total.store(lanes.as_mut_ptr());
        (rounds * N * K::Register::LANES * K::DEPTH, lanes.iter().sum())
    }
}

/// The first `count` values.
#[inline(always)]
unsafe fn widened(from: *const Bf16, count: usize) -> [f32; WIDEST] {
    let mut wide = [0.0; WIDEST];
    for (i, wide) in wide.iter_mut().enumerate().take(count) {
        // SAFETY: the caller's contract: there are as many.
        *wide = unsafe { (*from.add(i)).value() };
    }
    wide
}

/// bf16 where no instruction multiplies it: factors are rounded, products and sums are those of `K` in f32.
pub(super) struct Rounded<K>(PhantomData<K>);

impl<K: Kernel> Kernel for Rounded<K> {
    type Register = K::Register;
    const TILE_ROWS: usize = K::TILE_ROWS;
    const TILE_REGISTERS: usize = K::TILE_REGISTERS;
    const PANEL_REGISTERS: usize = K::PANEL_REGISTERS;
    const INNER: usize = K::INNER;
    const CONVERTS: bool = true;

    #[inline(always)]
    unsafe fn pack_along(from: *const f32) -> K::Register {
        // SAFETY: the caller's contract.
        unsafe { K::Register::load(from).round() }
    }

    #[inline(always)]
    unsafe fn pack_down(rows: [*const f32; 2]) -> K::Register {
        // SAFETY: the caller's contract.
        unsafe { K::Register::load(rows[0]).round() }
    }

    #[inline(always)]
    unsafe fn multiply_adds(rounds: usize) -> (usize, f32) {
        // SAFETY: the caller's contract.
        unsafe { K::multiply_adds(rounds) }
    }

    #[inline(always)]
    unsafe fn tile(tile: &Tile, rows: usize, registers: usize) {
        // SAFETY: the caller's contract.
        unsafe { K::tile(tile, rows, registers) };
    }
}
