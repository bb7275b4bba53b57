//! Rows in blocks, each the task of a thread. A row's bits do not depend on the cut, so it may depend on the threads.

use crate::kernel::gemm::ROW_BLOCK;
use std::ops::Range;

/// Rows that are worth a task of their own.
const MIN_ROWS: usize = 24;
/// Blocks of a thread that few rows are cut into at most.
const PIECES: usize = 2;
/// Rows that AMX reads at a time; tiles of other kernels have a divisor of them, or a remainder.
pub(super) const TILE_ROWS: usize = 16;

/// As many blocks of about the same length, whole tiles but for the last; fewer if there are not so many tiles, none
/// of no rows.
pub(super) fn row_blocks(rows: usize, pieces: usize) -> impl Iterator<Item = Range<usize>> {
    let tiles = rows.div_ceil(TILE_ROWS);
    let pieces = pieces.min(tiles);
    let border = move |piece: usize| (tiles * piece / pieces * TILE_ROWS).min(rows);
    (0..pieces).map(move |piece| border(piece)..border(piece + 1))
}

/// Blocks of a product: a few where there is an image or two and the weights are packed, which more than one
/// thread then computes (each block reads all weights); otherwise as large as can be, and as many for each thread.
pub(super) fn num_blocks(rows: usize, is_packed: bool) -> usize {
    let threads = rayon::current_num_threads();
    let least = rows.div_ceil(ROW_BLOCK);
    match is_packed {
        false => least,
        true if least > PIECES * threads => least.next_multiple_of(threads),
        true => (rows / MIN_ROWS).clamp(1, PIECES * threads),
    }
}

/// Most rows of such a block where weights are packed.
pub(super) fn most_rows(rows: usize) -> usize {
    rows.div_ceil(num_blocks(rows, true)).next_multiple_of(TILE_ROWS).max(TILE_ROWS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_even_and_cover_all_rows() {
        for (rows, pieces, want) in [
            (0, 4, vec![]),
            (1, 4, vec![1]),
            (50, 2, vec![32, 18]),
            (392, 4, vec![96, 96, 96, 104]),
            (400, 4, vec![96, 96, 96, 112]),
            (3136, 14, vec![224; 14]),
        ] {
            let blocks: Vec<_> = row_blocks(rows, pieces).collect();
            let lens: Vec<usize> = blocks.iter().map(Range::len).collect();
            assert_eq!(lens, want, "{rows} rows in {pieces}");
            assert!(blocks.into_iter().flatten().eq(0..rows));
        }
    }
}
