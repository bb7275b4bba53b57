//! The f32 matrix product, behind one function: ours on AVX-512, `faer`'s elsewhere.
//!
//! [`gemm`] runs on the calling thread. Threads work on whole products (experts, heads,
//! images) or on the fixed pieces that [`gemm_by_rows`] and [`gemm_by_tiles`] cut: pieces
//! depend on the shape alone, so the result does not depend on the number of threads.

#[cfg(target_arch = "x86_64")]
use super::isa::{Level, level};
use super::scratch::with_scratch;
use crate::tape::Write;
use faer::linalg::matmul::matmul;
use faer::prelude::Reborrow;
#[cfg(target_arch = "x86_64")]
use faer::prelude::ReborrowMut;
use faer::{Accum, Par};

/// A strided matrix to read.
pub(crate) type MatRef<'a> = faer::MatRef<'a, f32>;
/// A strided matrix to write.
pub(crate) type MatMut<'a> = faer::MatMut<'a, f32>;

/// Below this many rows `faer` takes another path, whose sums have other bits.
const MIN_ROWS: usize = 4;
/// Rows of a piece, where there are enough of them.
pub(crate) const ROW_BLOCK: usize = 512;
/// Columns of a piece, where there are few rows.
const COL_BLOCK: usize = 96;

/// A row-major slice as a matrix.
pub(crate) fn mat(values: &[f32], rows: usize, cols: usize) -> MatRef<'_> {
    MatRef::from_row_major_slice(&values[..rows * cols], rows, cols)
}

/// A row-major slice as a matrix to write.
pub(crate) fn mat_mut(values: &mut [f32], rows: usize, cols: usize) -> MatMut<'_> {
    MatMut::from_row_major_slice_mut(&mut values[..rows * cols], rows, cols)
}

/// `dst = a·b` or `dst += a·b`, on the calling thread.
///
/// A row's bits depend neither on how many rows share the call nor on how the columns are cut.
pub(crate) fn gemm(mut dst: MatMut<'_>, write: Write, a: MatRef<'_>, b: MatRef<'_>) {
    let extents = [dst.nrows(), a.ncols(), dst.ncols()];
    assert_eq!([a.nrows(), b.nrows(), b.ncols()], extents, "factors that fit the product");
    super::count::add_macs(extents.iter().product());
    if dst.nrows() == 0 || dst.ncols() == 0 {
        return;
    }
    if a.ncols() == 0 {
        if write == Write::Replace {
            dst.fill(0.0);
        }
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if level() == Level::Avx512 {
        // SAFETY: `level` found AVX-512F, and the extents were compared above.
        let is_done = unsafe { super::avx512::gemm(dst.rb_mut(), write, a, b) };
        if is_done {
            return;
        }
    }
    portable(dst, write, a, b);
}

/// The product by `faer`.
fn portable(dst: MatMut<'_>, write: Write, a: MatRef<'_>, b: MatRef<'_>) {
    if dst.nrows() < MIN_ROWS {
        return padded(dst, write, a, b);
    }
    let accum = match write {
        Write::Replace => Accum::Replace,
        Write::Add => Accum::Add,
    };
    matmul(dst, accum, a, b, 1.0, Par::Seq);
}

fn padded(mut dst: MatMut<'_>, write: Write, a: MatRef<'_>, b: MatRef<'_>) {
    let (m, k, n) = (dst.nrows(), a.ncols(), dst.ncols());
    with_scratch(MIN_ROWS * (k + n), |scratch| {
        scratch.fill(0.0);
        let (a_pad, out) = scratch.split_at_mut(MIN_ROWS * k);
        mat_mut(a_pad, MIN_ROWS, k).subrows_mut(0, m).copy_from(a);
        if write == Write::Add {
            mat_mut(out, MIN_ROWS, n).subrows_mut(0, m).copy_from(dst.rb());
        }
        portable(mat_mut(out, MIN_ROWS, n), write, mat(a_pad, MIN_ROWS, k), b);
        dst.copy_from(mat(out, MIN_ROWS, n).subrows(0, m));
    });
}

/// [`gemm`] on all threads, cut into blocks of rows (or of columns, where rows are few).
pub(crate) fn gemm_by_rows(dst: MatMut<'_>, write: Write, a: MatRef<'_>, b: MatRef<'_>) {
    let (m, n) = (dst.nrows(), dst.ncols());
    if m > ROW_BLOCK {
        let cut = half(m, ROW_BLOCK);
        let ((d0, d1), (a0, a1)) = (dst.split_at_row_mut(cut), a.split_at_row(cut));
        rayon::join(|| gemm_by_rows(d0, write, a0, b), || gemm_by_rows(d1, write, a1, b));
    } else if n > COL_BLOCK && m < ROW_BLOCK {
        let cut = half(n, COL_BLOCK);
        let ((d0, d1), (b0, b1)) = (dst.split_at_col_mut(cut), b.split_at_col(cut));
        rayon::join(|| gemm_by_rows(d0, write, a, b0), || gemm_by_rows(d1, write, a, b1));
    } else {
        gemm(dst, write, a, b);
    }
}

/// [`gemm`] on all threads for products with a long inner dimension (gradients of weights):
/// the output is cut into tiles, about four of them where they are not too small or large.
pub(crate) fn gemm_by_tiles(dst: MatMut<'_>, write: Write, a: MatRef<'_>, b: MatRef<'_>) {
    let tile = (dst.nrows() * dst.ncols() / 4).clamp(96 * 96, 256 * 256);
    tiles(dst, write, a, b, tile);
}

fn tiles(dst: MatMut<'_>, write: Write, a: MatRef<'_>, b: MatRef<'_>, tile: usize) {
    let (m, n) = (dst.nrows(), dst.ncols());
    if m * n <= tile {
        return gemm(dst, write, a, b);
    }
    if n >= m {
        let cut = half(n, 16);
        let ((d0, d1), (b0, b1)) = (dst.split_at_col_mut(cut), b.split_at_col(cut));
        rayon::join(|| tiles(d0, write, a, b0, tile), || tiles(d1, write, a, b1, tile));
    } else {
        let cut = half(m, 16);
        let ((d0, d1), (a0, a1)) = (dst.split_at_row_mut(cut), a.split_at_row(cut));
        rayon::join(|| tiles(d0, write, a0, b, tile), || tiles(d1, write, a1, b, tile));
    }
}

/// A multiple of `block` near the middle of `len > block`.
fn half(len: usize, block: usize) -> usize {
    (len.div_ceil(block) / 2).max(1) * block
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};

    fn random(len: usize, seed: u64) -> Vec<f32> {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
    }

    #[test]
    fn a_row_alone_has_the_bits_it_has_among_others() {
        for (k, n) in [
            (1, 1),
            (16, 1),
            (192, 1),
            (192, 2),
            (192, 3),
            (192, 10),
            (48, 192),
            (768, 192),
            (3072, 40),
            (17, 33),
        ] {
            let (a, b) = (random(200 * k, 1), random(k * n, 2));
            let mut all = vec![0.0; 200 * n];
            gemm_by_rows(mat_mut(&mut all, 200, n), Write::Replace, mat(&a, 200, k), mat(&b, k, n));
            for m in (1..=64).chain([127, 128, 129]) {
                let mut few = vec![0.0; m * n];
                let rows = mat(&a[7 * k..], m, k);
                gemm_by_rows(mat_mut(&mut few, m, n), Write::Replace, rows, mat(&b, k, n));
                assert!(few == all[7 * n..(7 + m) * n], "{m} rows, k {k}, n {n}");
            }
        }
    }

    #[test]
    fn tiles_and_row_blocks_cover_the_product() {
        for (m, k, n) in [(1, 5, 700), (130, 3, 2), (129, 7, 300), (300, 600, 90), (5, 0, 9)] {
            let (a, b) = (random(m * k, 3), random(k * n, 4));
            let naive = |i: usize, j: usize| -> f64 {
                (0..k).map(|p| f64::from(a[i * k + p]) * f64::from(b[p * n + j])).sum()
            };
            for run in [gemm_by_rows, gemm_by_tiles] {
                let mut c = vec![1.0; m * n];
                run(mat_mut(&mut c, m, n), Write::Add, mat(&a, m, k), mat(&b, k, n));
                for i in 0..m {
                    for j in 0..n {
                        let error = f64::from(c[i * n + j]) - 1.0 - naive(i, j);
                        assert!(error.abs() < 1e-4, "{m}×{k}×{n} at {i}, {j}: {error}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_product_agrees_with_the_plain_loop_in_all_transpositions() {
        let shapes =
            [(1, 1, 1), (3, 5, 2), (8, 192, 48), (9, 193, 65), (70, 400, 17), (20, 16, 130)];
        for (m, k, n) in shapes {
            let (a, b) = (random(m * k, 5), random(k * n, 6));
            for (a_t, b_t) in [(false, false), (true, false), (false, true), (true, true)] {
                let left = if a_t { mat(&a, k, m).transpose() } else { mat(&a, m, k) };
                let right = if b_t { mat(&b, n, k).transpose() } else { mat(&b, k, n) };
                for product in [gemm, portable] {
                    // Inside a wider matrix, whose other columns must stay as they are.
                    let mut c = vec![0.5; m * (n + 3)];
                    let dst = mat_mut(&mut c, m, n + 3).subcols_mut(2, n);
                    product(dst, Write::Add, left, right);
                    for (i, row) in c.chunks(n + 3).enumerate() {
                        assert_eq!([row[0], row[1], row[n + 2]], [0.5; 3]);
                        for j in 0..n {
                            let sum = |p| f64::from(left[(i, p)]) * f64::from(right[(p, j)]);
                            let want = 0.5 + (0..k).map(sum).sum::<f64>();
                            // 400 products of at most 1 in f32.
                            assert!((f64::from(row[2 + j]) - want).abs() < 1e-4);
                        }
                    }
                }
            }
        }
    }
}
