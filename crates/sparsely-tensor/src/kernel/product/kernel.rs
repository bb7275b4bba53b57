//! The ways to multiply: one for each precision and instruction set.

use super::ROWS;
use super::tile::Tile;
use crate::kernel::register::Register;
use crate::precision::{Bf16, Stored};
use std::arch::x86_64::*;
use std::hint::black_box;

/// How factors are packed and tiles are computed.
///
/// # Safety
/// Every method needs the instruction set of the implementor.
pub(super) trait Kernel {
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
        const CHAINS: usize = 12;
        // SAFETY: the caller's contract; the arrays have a register's lanes.
        unsafe {
            let (half, one) = (
                Self::pack_along(black_box([0.5; 32]).as_ptr()),
                Self::pack_along(black_box([1.0; 32]).as_ptr()),
            );
            let mut sums = [Self::Register::zero(); CHAINS];
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = Self::fma(half, one, *sum);
                }
                // Otherwise a round may be merged with the next.
                std::arch::asm!("", options(nomem, nostack, preserves_flags));
            }
            let mut total = Self::Register::zero();
            for sum in sums {
                total = total.add(sum);
            }
            let mut lanes = [0.0_f32; 16];
            total.store(lanes.as_mut_ptr());
            (rounds * CHAINS * Self::Register::LANES * Self::DEPTH, lanes.iter().sum())
        }
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

/// The first `count` values.
#[inline(always)]
unsafe fn widened(from: *const Bf16, count: usize) -> [f32; 32] {
    let mut wide = [0.0; 32];
    for (i, wide) in wide.iter_mut().enumerate().take(count) {
        // SAFETY: the caller's contract: there are as many.
        *wide = unsafe { (*from.add(i)).value() };
    }
    wide
}

/// f32 on AVX2.
pub(super) struct Avx2;

impl Kernel for Avx2 {
    type Register = __m256;
    const TILE_ROWS: usize = 6;
    const TILE_REGISTERS: usize = 2;
    // A panel takes a third of the smallest first-level cache.
    const INNER: usize = 256;

    #[inline(never)]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn tile(tile: &Tile, rows: usize, registers: usize) {
        // SAFETY: the caller's contract.
        unsafe { tile.dispatch::<Self>(rows, registers) };
    }
}

/// f32 on AVX-512.
pub(super) struct Avx512;

impl Kernel for Avx512 {
    type Register = __m512;
    const TILE_ROWS: usize = 8;
    const TILE_REGISTERS: usize = 3;
    const PANEL_REGISTERS: usize = 4;
    const INNER: usize = 192;

    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,fma")]
    unsafe fn tile(tile: &Tile, rows: usize, registers: usize) {
        // SAFETY: the caller's contract.
        unsafe { tile.dispatch::<Self>(rows, registers) };
    }
}

/// bf16 where no instruction multiplies it: factors are rounded, products and sums are those of f32.
pub(super) struct Avx2Rounded;

impl Kernel for Avx2Rounded {
    type Register = __m256;
    const TILE_ROWS: usize = Avx2::TILE_ROWS;
    const TILE_REGISTERS: usize = Avx2::TILE_REGISTERS;
    const INNER: usize = Avx2::INNER;
    const CONVERTS: bool = true;

    #[inline(always)]
    unsafe fn pack_along(from: *const f32) -> __m256 {
        // SAFETY: the caller's contract.
        unsafe {
            let x = _mm256_loadu_ps(from);
            let bits = _mm256_castps_si256(x);
            // Half a unit of the last kept place, less one where that place is even.
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
            let kept = _mm256_set1_epi32(0xffff_0000_u32.cast_signed());
            let rounded = _mm256_and_si256(_mm256_add_epi32(bits, half), kept);
            let is_nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(x, x);
            _mm256_blendv_ps(_mm256_castsi256_ps(rounded), x, is_nan)
        }
    }

    #[inline(always)]
    unsafe fn pack_down(rows: [*const f32; 2]) -> __m256 {
        // SAFETY: the caller's contract.
        unsafe { Self::pack_along(rows[0]) }
    }

    #[inline(never)]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn tile(tile: &Tile, rows: usize, registers: usize) {
        // SAFETY: the caller's contract.
        unsafe { tile.dispatch::<Self>(rows, registers) };
    }
}

/// Two neighbours in a lane: `[from 0, from 1], [from 2, from 3], …`, rounded to bf16.
#[inline(always)]
pub(super) unsafe fn pairs_along(from: *const f32) -> __m512 {
    // SAFETY: the caller's contract: AVX-512 BF16, and 32 elements.
    unsafe {
        let pairs = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(from.add(16)), _mm512_loadu_ps(from));
        std::mem::transmute::<__m512bh, __m512>(pairs)
    }
}

/// The same of what is stored as bf16: they lie so.
#[inline(always)]
pub(super) unsafe fn stored_pairs_along(from: *const Bf16) -> __m512 {
    // SAFETY: the caller's contract: AVX-512, and 32 elements.
    unsafe { _mm512_loadu_ps(from.cast()) }
}

/// Two rows' elements of a column in a lane, rounded to bf16.
#[inline(always)]
pub(super) unsafe fn pairs_down([even, odd]: [*const f32; 2]) -> __m512 {
    // SAFETY: the caller's contract: AVX-512 BF16 and BW, and 16 elements of each row.
    unsafe {
        let rows = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(odd), _mm512_loadu_ps(even));
        in_turn(std::mem::transmute::<__m512bh, __m512i>(rows))
    }
}

/// The same of what is stored as bf16.
#[inline(always)]
pub(super) unsafe fn stored_pairs_down([even, odd]: [*const Bf16; 2]) -> __m512 {
    // SAFETY: the caller's contract: AVX-512 BW, and 16 elements of each row.
    unsafe {
        let (even, odd) = (_mm256_loadu_si256(even.cast()), _mm256_loadu_si256(odd.cast()));
        in_turn(_mm512_inserti64x4::<1>(_mm512_castsi256_si512(even), odd))
    }
}

/// The elements of both halves in turn.
#[inline(always)]
unsafe fn in_turn(halves: __m512i) -> __m512 {
    // The lower half of a lane from the first row, the upper one from the second.
    const TURNS: [u16; 32] = {
        let mut turns = [0; 32];
        let mut i = 0;
        while i < 32 {
            turns[i] = (i / 2 + i % 2 * 16) as u16;
            i += 1;
        }
        turns
    };
    // SAFETY: the caller's contract: AVX-512 BW.
    unsafe {
        let turns = _mm512_loadu_si512(TURNS.as_ptr().cast());
        _mm512_castsi512_ps(_mm512_permutexvar_epi16(turns, halves))
    }
}

/// How kernels on AVX-512 BF16 pack and round: pairs of neighbours.
macro_rules! packs_pairs {
    () => {
        #[inline(always)]
        unsafe fn pack_along(from: *const f32) -> __m512 {
            // SAFETY: the caller's contract.
            unsafe { $crate::kernel::product::kernel::pairs_along(from) }
        }

        #[inline(always)]
        unsafe fn pack_down(rows: [*const f32; 2]) -> __m512 {
            // SAFETY: the caller's contract.
            unsafe { $crate::kernel::product::kernel::pairs_down(rows) }
        }

        #[inline(always)]
        unsafe fn pack_along_bf16(from: *const Bf16) -> __m512 {
            // SAFETY: the caller's contract.
            unsafe { $crate::kernel::product::kernel::stored_pairs_along(from) }
        }

        #[inline(always)]
        unsafe fn pack_down_bf16(rows: [*const Bf16; 2]) -> __m512 {
            // SAFETY: the caller's contract.
            unsafe { $crate::kernel::product::kernel::stored_pairs_down(rows) }
        }

        #[inline(always)]
        unsafe fn round_two(from: *const f32, to: *mut Bf16) {
            // SAFETY: the caller's contract.
            unsafe { $crate::kernel::product::kernel::pairs_along(from).store(to.cast()) };
        }
    };
}
pub(super) use packs_pairs;

/// bf16 on AVX-512 BF16: two neighbours of the inner dimension are multiplied and added at once.
pub(super) struct Avx512Bf16;

impl Kernel for Avx512Bf16 {
    type Register = __m512;
    const TILE_ROWS: usize = 8;
    const TILE_REGISTERS: usize = 3;
    const PANEL_REGISTERS: usize = 4;
    const INNER: usize = 192;
    const DEPTH: usize = 2;
    const CONVERTS: bool = true;

    packs_pairs!();

    #[inline(always)]
    unsafe fn fma(left: __m512, right: __m512, sum: __m512) -> __m512 {
        // SAFETY: the caller's contract; both types are 512 bits.
        unsafe {
            let left = std::mem::transmute::<__m512, __m512bh>(left);
            let right = std::mem::transmute::<__m512, __m512bh>(right);
            _mm512_dpbf16_ps(sum, left, right)
        }
    }

    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,avx512bf16,fma")]
    unsafe fn tile(tile: &Tile, rows: usize, registers: usize) {
        // SAFETY: the caller's contract.
        unsafe { tile.dispatch::<Self>(rows, registers) };
    }
}
