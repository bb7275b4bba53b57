//! The kernel of processors that have none of their own.

use super::kernel::Kernel;
use super::tile::Tile;
use crate::kernel::register::Register;
use std::marker::PhantomData;

/// f32 on registers that every processor of an architecture has. A tile's sums and its columns fit sixteen of them.
pub(super) struct Plain<V>(PhantomData<V>);

impl<V: Register> Kernel for Plain<V> {
    type Register = V;
    const TILE_ROWS: usize = 6;
    const TILE_REGISTERS: usize = 2;
    const INNER: usize = 256;

    #[inline(never)]
    unsafe fn tile(tile: &Tile, rows: usize, registers: usize) {
        // SAFETY: the caller's contract.
        unsafe { tile.dispatch::<Self>(rows, registers) };
    }
}
