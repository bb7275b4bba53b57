//! The kernel of Arm.

use super::kernel::{Kernel, chains};
use super::tile::Tile;
use std::arch::aarch64::float32x4_t;

/// f32 on NEON, which every aarch64 has: twice the registers of AVX2, half as wide.
pub(super) struct Neon;

impl Kernel for Neon {
    type Register = float32x4_t;
    const TILE_ROWS: usize = 8;
    const TILE_REGISTERS: usize = 3;
    const PANEL_REGISTERS: usize = 4;
    // A panel takes three eighths of the smallest first-level cache.
    const INNER: usize = 256;

    #[inline(always)]
    unsafe fn multiply_adds(rounds: usize) -> (usize, f32) {
        // Four units of a latency of four, and more.
        // SAFETY: the caller's contract.
        unsafe { chains::<Self, 24>(rounds) }
    }

    #[inline(never)]
    unsafe fn tile(tile: &Tile, rows: usize, registers: usize) {
        // SAFETY: the caller's contract.
        unsafe { tile.dispatch::<Self>(rows, registers) };
    }
}
