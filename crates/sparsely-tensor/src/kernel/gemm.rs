//! The f32 matrix product, behind one function: ours on AVX2 and AVX-512, `faer`'s elsewhere.
//!
//! [`product`] runs on the calling thread. Threads work on whole products (experts, heads,
//! images) or on the fixed pieces that [`gemm_by_rows`] and [`add_outer`] cut: pieces depend on
//! the shape alone, so the result does not depend on the number of threads.

use super::elementwise::{activate, activate_backward, add_slice};
#[cfg(target_arch = "x86_64")]
use super::isa::{Level, level};
use super::scratch::with_scratch;
#[cfg(target_arch = "x86_64")]
use super::{few_rows, product};
use crate::Activation;
use crate::tape::Write;
use faer::linalg::matmul::matmul;
use faer::prelude::{Reborrow, ReborrowMut};
use faer::{Accum, Par};
use rayon::prelude::*;

/// A strided matrix to read.
pub(crate) type MatRef<'a> = faer::MatRef<'a, f32>;
/// A strided matrix to write.
pub(crate) type MatMut<'a> = faer::MatMut<'a, f32>;

/// Below this many rows `faer` takes another path, whose sums have other bits.
const MIN_ROWS: usize = 4;
/// Rows of a piece, where there are enough of them.
pub(crate) const ROW_BLOCK: usize = 256;
/// Columns of a piece, where there are few rows.
const COL_BLOCK: usize = 96;
/// Rows that a partial sum of a weight gradient runs over, at the least.
const STRAND: usize = 1024;
/// Most partial sums of a weight gradient.
const MAX_STRANDS: usize = 4;
/// Largest weight (elements) whose gradient is summed in parts.
const MAX_PART: usize = 1 << 20;

/// A row-major slice as a matrix.
pub(crate) fn mat(values: &[f32], rows: usize, cols: usize) -> MatRef<'_> {
    MatRef::from_row_major_slice(&values[..rows * cols], rows, cols)
}

/// A row-major slice as a matrix to write.
pub(crate) fn mat_mut(values: &mut [f32], rows: usize, cols: usize) -> MatMut<'_> {
    MatMut::from_row_major_slice_mut(&mut values[..rows * cols], rows, cols)
}

/// The left factor, act(values).
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    pub(crate) values: MatRef<'a>,
    pub(crate) act: Activation,
}

impl<'a> From<MatRef<'a>> for Left<'a> {
    fn from(values: MatRef<'a>) -> Left<'a> {
        Left { values, act: Activation::Identity }
    }
}

/// The right factor, as it lies or packed for many products.
#[derive(Clone, Copy)]
pub(crate) struct Right<'a> {
    values: MatRef<'a>,
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    panels: Option<&'a [f32]>,
}

impl<'a> From<MatRef<'a>> for Right<'a> {
    fn from(values: MatRef<'a>) -> Right<'a> {
        Right { values, panels: None }
    }
}

impl<'a> Right<'a> {
    /// `values`, and their panels if they are packed.
    pub(crate) fn packed(values: MatRef<'a>, panels: Option<&'a [f32]>) -> Right<'a> {
        Right { values, panels }
    }

    /// Whether products need not pack it.
    pub(crate) fn is_packed(&self) -> bool {
        self.panels.is_some()
    }

    /// As it lies.
    pub(crate) fn values(&self) -> MatRef<'a> {
        self.values
    }

    #[cfg(target_arch = "x86_64")]
    pub(super) fn panels(&self) -> Option<&'a [f32]> {
        self.panels
    }
}

/// Elements of a right factor `[k, n]` when it is packed; none where products take it as it lies.
#[cfg(target_arch = "x86_64")]
pub(crate) fn packed_len(k: usize, n: usize) -> Option<usize> {
    let len = match level() {
        Level::Avx512 => product::avx512::packed_len(k, n),
        Level::Avx2 => product::avx2::packed_len(k, n),
        Level::Baseline => 0,
    };
    (len > 0).then_some(len)
}

/// Packs `values` into [`packed_len`] elements, on all threads; false if products take them as they lie.
#[cfg(target_arch = "x86_64")]
pub(crate) fn pack(values: MatRef<'_>, panels: &mut [f32]) -> bool {
    // SAFETY: `level` found the instruction set.
    unsafe {
        match level() {
            Level::Avx512 => product::avx512::pack(values, panels),
            Level::Avx2 => product::avx2::pack(values, panels),
            Level::Baseline => false,
        }
    }
}

/// None: the portable product packs for itself.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn packed_len(_k: usize, _n: usize) -> Option<usize> {
    None
}

/// False: see [`packed_len`].
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn pack(_values: MatRef<'_>, _panels: &mut [f32]) -> bool {
    false
}

/// Calls `f` with `values` packed, on all threads, once for all products of `f`.
pub(crate) fn with_packed<R>(values: MatRef<'_>, f: impl FnOnce(&Right<'_>) -> R) -> R {
    let Some(len) = packed_len(values.nrows(), values.ncols()) else {
        return f(&values.into());
    };
    with_scratch(len, |panels| {
        let is_packed = pack(values, panels);
        f(&Right { values, panels: is_packed.then_some(panels) })
    })
}

/// What a product is added to.
#[derive(Clone, Copy)]
pub(crate) enum Start<'a> {
    /// Nothing: the output is overwritten.
    Zero,
    /// What the output holds.
    Output,
    /// bias (one an output column) + residual (of the output's shape).
    Terms { bias: Option<&'a [f32]>, residual: Option<MatRef<'a>> },
}

impl From<Write> for Start<'_> {
    fn from(write: Write) -> Self {
        match write {
            Write::Replace => Start::Zero,
            Write::Add => Start::Output,
        }
    }
}

/// What is done to the sum at the end.
#[derive(Clone, Copy)]
pub(crate) enum Finish<'a> {
    /// Nothing.
    None,
    /// It is multiplied by act'(at), `at` of the output's shape.
    Slope { act: Activation, at: MatRef<'a> },
}

/// `dst = a·b` or `dst += a·b`, on the calling thread.
///
/// A row's bits depend neither on how many rows share the call nor on how the columns are cut.
pub(crate) fn gemm(dst: MatMut<'_>, write: Write, a: MatRef<'_>, b: MatRef<'_>) {
    product(dst, write.into(), a.into(), &b.into(), Finish::None);
}

/// `dst = finish(start + act(a)·b)`, on the calling thread; bits as for [`gemm`].
pub(crate) fn product(
    mut dst: MatMut<'_>,
    start: Start<'_>,
    left: Left<'_>,
    right: &Right<'_>,
    finish: Finish<'_>,
) {
    let (a, b) = (left.values, right.values);
    let extents = [dst.nrows(), a.ncols(), dst.ncols()];
    assert_eq!([a.nrows(), b.nrows(), b.ncols()], extents, "factors that fit the product");
    if let Start::Terms { bias, residual } = start {
        assert!(bias.is_none_or(|bias| bias.len() == dst.ncols()), "a bias for each column");
        assert!(residual.is_none_or(|r| r.shape() == dst.shape()), "a residual of its shape");
    }
    if let Finish::Slope { at, .. } = finish {
        assert_eq!(at.shape(), dst.shape(), "a slope for each element");
    }
    super::count::add_macs(extents.iter().product());
    if dst.nrows() == 0 || dst.ncols() == 0 {
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if a.ncols() > 0 && level() != Level::Baseline && few_rows::fits(dst.nrows(), right) {
        let k = a.ncols();
        let block = match level() {
            Level::Avx512 => product::avx512::block_len(k),
            _ => product::avx2::block_len(k),
        };
        return few_rows::compute(dst, start, left, b, (block, finish));
    }
    #[cfg(target_arch = "x86_64")]
    if a.ncols() > 0
        && level() != Level::Baseline
        && let Some(product) = product::Product::new(dst.rb_mut(), start, left, right, finish)
    {
        let run = if level() == Level::Avx512 { product::avx512::run } else { product::avx2::run };
        // SAFETY: `level` found the instruction set, and the extents were compared above.
        return unsafe { run(&product) };
    }
    portable(dst, start, left, b, finish);
}

/// The product by `faer`.
fn portable(
    mut dst: MatMut<'_>,
    start: Start<'_>,
    left: Left<'_>,
    b: MatRef<'_>,
    finish: Finish<'_>,
) {
    let (m, k) = (left.values.nrows(), left.values.ncols());
    if left.act != Activation::Identity {
        return with_scratch(m * k, |u| {
            let mut values = mat_mut(u, m, k);
            values.copy_from(left.values);
            with_scratch(m * k, |x| {
                x.copy_from_slice(u);
                activate(left.act, x, u);
            });
            portable(dst, start, mat(u, m, k).into(), b, finish);
        });
    }
    fill(dst.rb_mut(), start);
    if k > 0 {
        add_by_faer(dst.rb_mut(), left.values, b);
    }
    if let Finish::Slope { act, at } = finish {
        for i in 0..m {
            for j in 0..dst.ncols() {
                let mut d = [dst[(i, j)]];
                activate_backward(act, &[at[(i, j)]], &mut d);
                dst[(i, j)] = d[0];
            }
        }
    }
}

fn fill(mut dst: MatMut<'_>, start: Start<'_>) {
    match start {
        Start::Output => {}
        Start::Zero => dst.fill(0.0),
        Start::Terms { bias, residual } => {
            for i in 0..dst.nrows() {
                for j in 0..dst.ncols() {
                    dst[(i, j)] = bias.map_or(0.0, |b| b[j]) + residual.map_or(0.0, |r| r[(i, j)]);
                }
            }
        }
    }
}

fn add_by_faer(mut dst: MatMut<'_>, a: MatRef<'_>, b: MatRef<'_>) {
    let (m, k, n) = (dst.nrows(), a.ncols(), dst.ncols());
    if m >= MIN_ROWS {
        return matmul(dst, Accum::Add, a, b, 1.0, Par::Seq);
    }
    with_scratch(MIN_ROWS * (k + n), |scratch| {
        scratch.fill(0.0);
        let (a_pad, out) = scratch.split_at_mut(MIN_ROWS * k);
        mat_mut(a_pad, MIN_ROWS, k).subrows_mut(0, m).copy_from(a);
        mat_mut(out, MIN_ROWS, n).subrows_mut(0, m).copy_from(dst.rb());
        add_by_faer(mat_mut(out, MIN_ROWS, n), mat(a_pad, MIN_ROWS, k), b);
        dst.copy_from(mat(out, MIN_ROWS, n).subrows(0, m));
    });
}

/// [`gemm`] on all threads, cut into blocks of rows (or of columns, where rows are few).
pub(crate) fn gemm_by_rows(dst: MatMut<'_>, start: Start<'_>, a: MatRef<'_>, b: MatRef<'_>) {
    let (m, n) = (dst.nrows(), dst.ncols());
    if m > ROW_BLOCK {
        let cut = half(m, ROW_BLOCK);
        let ((d0, d1), (a0, a1)) = (dst.split_at_row_mut(cut), a.split_at_row(cut));
        let (s0, s1) = start.split_at_row(cut);
        rayon::join(|| gemm_by_rows(d0, s0, a0, b), || gemm_by_rows(d1, s1, a1, b));
    } else if n > COL_BLOCK && m < ROW_BLOCK {
        let cut = half(n, COL_BLOCK);
        let ((d0, d1), (b0, b1)) = (dst.split_at_col_mut(cut), b.split_at_col(cut));
        let (s0, s1) = start.split_at_col(cut);
        rayon::join(|| gemm_by_rows(d0, s0, a, b0), || gemm_by_rows(d1, s1, a, b1));
    } else {
        product(dst, start, a.into(), &b.into(), Finish::None);
    }
}

impl<'a> Start<'a> {
    fn split_at_row(self, cut: usize) -> (Start<'a>, Start<'a>) {
        let Start::Terms { bias, residual } = self else { return (self, self) };
        let (r0, r1) = residual.map(|r| r.split_at_row(cut)).unzip();
        (Start::Terms { bias, residual: r0 }, Start::Terms { bias, residual: r1 })
    }

    fn split_at_col(self, cut: usize) -> (Start<'a>, Start<'a>) {
        let Start::Terms { bias, residual } = self else { return (self, self) };
        let (b0, b1) = bias.map(|b| b.split_at(cut)).unzip();
        let (r0, r1) = residual.map(|r| r.split_at_col(cut)).unzip();
        (Start::Terms { bias: b0, residual: r0 }, Start::Terms { bias: b1, residual: r1 })
    }
}

/// `dst += act(a)ᵀ·b` on all threads, for the long inner dimension of a weight gradient: a
/// `[k, m]`, b `[k, n]`.
///
/// Many rows are cut into strands with a partial sum each, so that each element of a factor is
/// packed once; the partial sums are added in order. Otherwise the output is cut into tiles.
pub(crate) fn add_outer(dst: &mut [f32], act: Activation, a: MatRef<'_>, b: MatRef<'_>) {
    let (k, m, n) = (a.nrows(), a.ncols(), b.ncols());
    let strands = if m * n > MAX_PART { 1 } else { (k / STRAND).clamp(1, MAX_STRANDS) };
    let left = Left { values: a.transpose(), act };
    if strands == 1 {
        let tile = (m * n / 4).clamp(96 * 96, 256 * 256);
        return tiles(mat_mut(dst, m, n), left, b, tile);
    }
    let strand = k.div_ceil(strands).next_multiple_of(16);
    with_scratch(strands * m * n, |parts| {
        parts.par_chunks_mut(m * n).enumerate().for_each(|(s, part)| {
            let first = s * strand;
            let rows = strand.min(k - first);
            let left = Left { values: left.values.subcols(first, rows), act };
            let right = b.subrows(first, rows).into();
            product(mat_mut(part, m, n), Start::Zero, left, &right, Finish::None);
        });
        add_parts(dst, parts);
    });
}

/// `dst += Σ parts`, parts in order.
fn add_parts(dst: &mut [f32], parts: &[f32]) {
    const TASK: usize = 1 << 14;
    let len = dst.len();
    dst.par_chunks_mut(TASK).enumerate().for_each(|(task, dst)| {
        for part in parts.chunks(len) {
            add_slice(dst, &part[task * TASK..][..dst.len()]);
        }
    });
}

fn tiles(dst: MatMut<'_>, left: Left<'_>, b: MatRef<'_>, tile: usize) {
    let (m, n) = (dst.nrows(), dst.ncols());
    if m * n <= tile {
        return product(dst, Start::Output, left, &b.into(), Finish::None);
    }
    if n >= m {
        let cut = half(n, 16);
        let ((d0, d1), (b0, b1)) = (dst.split_at_col_mut(cut), b.split_at_col(cut));
        rayon::join(|| tiles(d0, left, b0, tile), || tiles(d1, left, b1, tile));
    } else {
        let cut = half(m, 16);
        let ((d0, d1), (a0, a1)) = (dst.split_at_row_mut(cut), left.values.split_at_row(cut));
        let (l0, l1) = (Left { values: a0, ..left }, Left { values: a1, ..left });
        rayon::join(|| tiles(d0, l0, b, tile), || tiles(d1, l1, b, tile));
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
            gemm_by_rows(mat_mut(&mut all, 200, n), Start::Zero, mat(&a, 200, k), mat(&b, k, n));
            for m in (1..=64).chain([127, 128, 129]) {
                let mut few = vec![0.0; m * n];
                let rows = mat(&a[7 * k..], m, k);
                gemm_by_rows(mat_mut(&mut few, m, n), Start::Zero, rows, mat(&b, k, n));
                assert!(few == all[7 * n..(7 + m) * n], "{m} rows, k {k}, n {n}");
            }
        }
    }

    /// In f64: start + act(a)·b, times the slope.
    fn plain(
        a: impl Fn(usize, usize) -> f64,
        b: impl Fn(usize, usize) -> f64,
        k: usize,
        [i, j]: [usize; 2],
    ) -> f64 {
        (0..k).map(|p| a(i, p) * b(p, j)).sum()
    }

    #[test]
    fn row_blocks_strands_and_tiles_cover_the_product() {
        for (m, k, n) in
            [(1, 5, 700), (130, 3, 2), (129, 7, 300), (300, 600, 90), (5, 0, 9), (40, 2100, 50)]
        {
            let (a, b) = (random(m * k, 3), random(k * n, 4));
            let by_rows = |c: &mut [f32]| {
                gemm_by_rows(mat_mut(c, m, n), Start::Output, mat(&a, m, k), mat(&b, k, n));
            };
            let a_t: Vec<f32> = (0..k * m).map(|i| a[i % m * k + i / m]).collect();
            let outer = |c: &mut [f32]| {
                add_outer(c, Activation::Identity, mat(&a_t, k, m), mat(&b, k, n));
            };
            for run in [&by_rows as &dyn Fn(&mut [f32]), &outer] {
                let mut c = vec![1.0; m * n];
                run(&mut c);
                for i in 0..m {
                    for j in 0..n {
                        let want = 1.0
                            + plain(
                                |i, p| f64::from(a[i * k + p]),
                                |p, j| f64::from(b[p * n + j]),
                                k,
                                [i, j],
                            );
                        let error = f64::from(c[i * n + j]) - want;
                        assert!(error.abs() < 2e-4, "{m}×{k}×{n} at {i}, {j}: {error}");
                    }
                }
            }
        }
    }

    /// Both implementations, all transpositions, starts, finishes and activations, packed or
    /// not, inside a wider matrix whose other columns must stay as they are.
    #[test]
    fn every_product_agrees_with_the_plain_loop() {
        let shapes = [
            (1, 1, 1),
            (3, 5, 2),
            (8, 192, 48),
            (9, 193, 65),
            (70, 400, 17),
            (300, 300, 70),
            (20, 16, 130),
        ];
        for (m, k, n) in shapes {
            let (a, b, at) = (random(m * k, 5), random(k * n, 6), random(m * n, 7));
            let bias = random(n, 8);
            for case in 0..16 {
                let left = if case & 1 > 0 { mat(&a, k, m).transpose() } else { mat(&a, m, k) };
                let right = if case & 2 > 0 { mat(&b, n, k).transpose() } else { mat(&b, k, n) };
                let act = if case & 4 > 0 { Activation::Gelu } else { Activation::Identity };
                let terms = Start::Terms { bias: Some(&bias), residual: Some(mat(&at, m, n)) };
                let start = if case & 8 > 0 { terms } else { Start::Output };
                let slope = Finish::Slope { act: Activation::Tanh, at: mat(&at, m, n) };
                let finish = if case & 4 > 0 { slope } else { Finish::None };
                for implementation in 0..3 {
                    let mut c = vec![0.5; m * (n + 3)];
                    let dst = mat_mut(&mut c, m, n + 3).subcols_mut(2, n);
                    let left_act = Left { values: left, act };
                    match implementation {
                        0 => product(dst, start, left_act, &right.into(), finish),
                        1 => with_packed(right, |right| {
                            product(dst, start, left_act, right, finish);
                        }),
                        _ => portable(dst, start, left_act, right, finish),
                    }
                    for (i, row) in c.chunks(n + 3).enumerate() {
                        assert_eq!([row[0], row[1], row[n + 2]], [0.5; 3]);
                        for j in 0..n {
                            let a = |i, p| match act {
                                Activation::Gelu => gelu(f64::from(left[(i, p)])),
                                _ => f64::from(left[(i, p)]),
                            };
                            let (bias, at) = (f64::from(bias[j]), f64::from(at[i * n + j]));
                            let begin = if case & 8 > 0 { bias + at } else { 0.5 };
                            let slope = if case & 4 > 0 { 1.0 - at.tanh().powi(2) } else { 1.0 };
                            let sum = plain(a, |p, j| f64::from(right[(p, j)]), k, [i, j]);
                            let error = f64::from(row[2 + j]) - (begin + sum) * slope;
                            // 400 products of at most 1 in f32.
                            assert!(
                                error.abs() < 1e-4,
                                "{m}×{k}×{n} {case} {implementation}: {error}"
                            );
                        }
                    }
                }
            }
        }
    }

    fn gelu(x: f64) -> f64 {
        0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
    }
}
