//! The kernels of AVX2, AVX-512 and AVX-512 BF16.

use super::kernel::Kernel;
use super::tile::Tile;
use crate::kernel::register::Register;
use crate::precision::Bf16;
use std::arch::x86_64::*;

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
            unsafe { $crate::kernel::product::x86::pairs_along(from) }
        }

        #[inline(always)]
        unsafe fn pack_down(rows: [*const f32; 2]) -> __m512 {
            // SAFETY: the caller's contract.
            unsafe { $crate::kernel::product::x86::pairs_down(rows) }
        }

        #[inline(always)]
        unsafe fn pack_along_bf16(from: *const Bf16) -> __m512 {
            // SAFETY: the caller's contract.
            unsafe { $crate::kernel::product::x86::stored_pairs_along(from) }
        }

        #[inline(always)]
        unsafe fn pack_down_bf16(rows: [*const Bf16; 2]) -> __m512 {
            // SAFETY: the caller's contract.
            unsafe { $crate::kernel::product::x86::stored_pairs_down(rows) }
        }

        #[inline(always)]
        unsafe fn round_two(from: *const f32, to: *mut Bf16) {
            // SAFETY: the caller's contract.
            unsafe { $crate::kernel::product::x86::pairs_along(from).store(to.cast()) };
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
