//! Sums over rows: the gradients of biases.

use super::saved::with_values;
use crate::buffer::Buffer;
use crate::kernel::elementwise::add_slice;
use rayon::prelude::*;
use std::ops::Range;

/// Rows that one task adds up. Part of the result's bits.
const BLOCK: usize = 256;

/// Adds to `sums` (length `width`) what `per_block(rows)` computes for each fixed block of
/// rows, blocks in order, whatever the number of threads.
pub(super) fn add_row_blocks(
    sums: &mut [f32],
    rows: usize,
    per_block: impl Fn(Range<usize>, &mut [f32]) + Sync,
) {
    let width = sums.len();
    let blocks = rows.div_ceil(BLOCK);
    let mut partial = vec![0.0; blocks * width];
    partial.par_chunks_mut(width.max(1)).enumerate().for_each(|(block, partial)| {
        per_block(block * BLOCK..((block + 1) * BLOCK).min(rows), partial);
    });
    for partial in partial.chunks(width.max(1)) {
        add_slice(sums, partial);
    }
}

/// `sums += Σ_rows x`, for row-major `x` whose rows have the length of `sums`.
pub(super) fn add_column_sums(sums: &mut [f32], x: &Buffer) {
    let width = sums.len();
    add_row_blocks(sums, x.len() / width.max(1), |rows, partial| add_rows(partial, x, rows));
}

/// `sums += Σ_rows x` over some rows, one after the other.
pub(super) fn add_rows(sums: &mut [f32], x: &Buffer, rows: Range<usize>) {
    let width = sums.len();
    for row in rows {
        with_values(x, [row * width, width], |row| add_slice(sums, row));
    }
}
