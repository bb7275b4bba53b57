//! The matrix product, behind one function.
//!
//! [`product`] runs on the calling thread, but for few rows of large weights. Threads work on whole
//! products (experts, heads, images) or on pieces ([`gemm_by_rows`], [`add_outer`]). Neither rows nor
//! columns have other bits when they are cut otherwise, and what is cut along the inner dimension
//! depends on the shape alone; so the result does not depend on the number of threads.

mod ends;
mod factors;
mod packing;

pub(crate) use ends::{Dots, Finish, Scatter, Start};
pub(in crate::kernel) use factors::PANEL_COLUMNS;
pub(in crate::kernel) use factors::Panels;
pub(crate) use factors::{Left, Right, Values, ValuesMut};
pub(crate) use packing::{pack, packed_len, with_all_packed, with_packed};

use super::elementwise::{add_slice, narrow};
use super::scratch::with_scratch;
use super::{few_rows, product};
use crate::Activation;
use crate::precision::{Bf16, Precision};
use crate::tape::Write;
use faer::prelude::{Reborrow, ReborrowMut};
use rayon::prelude::*;

/// A strided matrix to read.
pub(crate) type MatRef<'a> = faer::MatRef<'a, f32>;
/// A strided matrix to write.
pub(crate) type MatMut<'a> = faer::MatMut<'a, f32>;

/// Rows of a piece, where there are enough of them.
pub(crate) const ROW_BLOCK: usize = 256;
/// Columns of a piece, where there are few rows.
const COL_BLOCK: usize = PANEL_COLUMNS;
/// The same where the right factor is read as it lies: whole pages of a row.
const WIDE_BLOCK: usize = 1024;
/// Pieces of a thread that the columns of a packed factor are cut into at most, where there are few rows.
const PIECES: usize = 2;
/// Sums that stay in the second-level cache beside factors.
const NEAR: usize = 1 << 17;
/// Rows that a partial sum of a weight gradient runs over, or three quarters of them.
const STRAND: usize = 1024;
/// Most partial sums of a weight gradient.
const MAX_STRANDS: usize = 4;
/// Blocks that a weight gradient is cut into, where it has the rows.
const OUTER_BLOCKS: usize = 4;
/// Rows of such a block are a multiple of this.
const OUTER_ROWS: usize = 48;
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

/// What multiplies, for people.
pub(crate) fn kernel_name(precision: Precision) -> &'static str {
    product::entries(precision).name
}

/// `dst = a·b` or `dst += a·b`; see [`product`].
///
/// A row's bits depend neither on how many rows share the call nor on how the columns are cut.
pub(crate) fn gemm<'a, 'd>(
    dst: impl Into<ValuesMut<'d>>,
    write: Write,
    a: impl Into<Left<'a>>,
    b: Right<'_>,
) {
    product(dst, write.into(), a.into(), &b, Finish::None);
}

/// `dst = finish(start + act(a)·b)`, on the calling thread, or on all where [`reads_as_it_lies`] and there is
/// much to read; bits as for [`gemm`]. What is rounded has those of the f32 result, rounded once, but for what is below
/// the normal range, which may be zero.
///
/// # Panics
/// If extents do not fit, or neither axis of a factor or not the rows of what has the output's shape are contiguous.
pub(crate) fn product<'d>(
    dst: impl Into<ValuesMut<'d>>,
    start: Start<'_>,
    left: Left<'_>,
    right: &Right<'_>,
    finish: Finish<'_>,
) {
    let dst = dst.into();
    let extents = [dst.nrows(), left.num_inner(), dst.ncols()];
    let [k, n] = right.extents();
    assert_eq!([left.num_rows(), k, n], extents, "factors that fit the product");
    left.check_names();
    check_panels(right);
    product::check_factors(&left, right);
    assert!(dst.is_row_major(), "a result whose rows are contiguous");
    let shape = (dst.nrows(), dst.ncols());
    match start {
        Start::Terms { bias, residual } => {
            assert!(bias.is_none_or(|bias| bias.len() == n), "a bias for each column");
            assert!(residual.is_none_or(|r| r.shape() == shape), "a residual of its shape");
            let is_row_major = |r: MatRef<'_>| Values::from(r).is_row_major();
            assert!(residual.is_none_or(is_row_major), "a residual whose rows are contiguous");
        }
        Start::Output => {
            assert!(matches!(dst, ValuesMut::F32(_)), "what is added to, in f32");
        }
        Start::Zero => {}
    }
    if let Finish::Slope { at, .. } = finish {
        assert_eq!((at.nrows(), at.ncols()), shape, "a slope for each element");
        assert!(at.is_row_major(), "slopes whose rows are contiguous");
    }
    super::count::add_macs(extents.iter().product());
    if dst.nrows() > 0 && dst.ncols() > 0 {
        checked(dst, start, left, right, finish);
    }
}

/// [`product`] of what was checked.
fn checked(
    mut dst: ValuesMut<'_>,
    start: Start<'_>,
    left: Left<'_>,
    right: &Right<'_>,
    finish: Finish<'_>,
) {
    let (m, k, n) = (dst.nrows(), left.num_inner(), dst.ncols());
    if k == 0 {
        // As if there were a single place with zeros.
        return with_scratch(m.max(n), |zeros| {
            zeros.fill(0.0);
            let right = Right::new(mat(zeros, 1, n), right.precision());
            checked(dst, start, mat(zeros, m, 1).into(), &right, finish);
        });
    }
    let entries = product::entries(right.precision());
    let block = (entries.block_len)(k);
    if let ValuesMut::F32(dst) = &mut dst
        && let Some(right) = few_rows::as_it_lies(m, right)
    {
        return few_rows::compute(dst.rb_mut(), start, left, right, (block, finish));
    }
    let own = (dst.rb_mut(), k.div_ceil(block));
    if let Some(product) = product::Product::new(own, start, left, right, finish) {
        // SAFETY: the entries are those of this processor, and the extents were compared.
        return unsafe { (entries.run)(&product) };
    }
    match dst {
        ValuesMut::F32(_) => unreachable!("a result in f32 takes any number of blocks"),
        ValuesMut::Bf16(dst) => rounded(dst, start, left, right, finish),
    }
}

/// By f32 sums, in columns that stay in the second-level cache if each does not activate the left factor again.
fn rounded(
    mut dst: faer::MatMut<'_, Bf16>,
    start: Start<'_>,
    left: Left<'_>,
    right: &Right<'_>,
    finish: Finish<'_>,
) {
    let (m, n) = dst.shape();
    let most = match left.act {
        Activation::Identity if m * n > 2 * NEAR => (NEAR / m / COL_BLOCK).max(1) * COL_BLOCK,
        _ => n,
    };
    let mut first = 0;
    while first < n {
        // Panels end where as many columns follow, or none.
        let rest = n - first;
        let count = if rest < most + COL_BLOCK { rest } else { most };
        let right = right.subcols(first, count);
        with_scratch(m * count, |sums| {
            let own = mat_mut(sums, m, count).into();
            let (start, finish) = (start.columns(first, count), finish.columns(first, count));
            checked(own, start, left, &right, finish);
            for (i, sums) in sums.chunks(count).enumerate() {
                let row = dst.rb_mut().row_mut(i).try_as_row_major_mut().expect("neighbours");
                narrow(sums, &mut row.as_slice_mut()[first..first + count]);
            }
        });
        first += count;
    }
}

/// # Panics
/// If panels are not those of the factor.
fn check_panels(right: &Right<'_>) {
    let Some(panels) = right.panels() else { return };
    let [k, n] = right.extents();
    let len = packed_len(right.precision(), [k, panels.total]).unwrap_or(0);
    let fits = panels.all.len() == len && panels.first + n <= panels.total;
    assert!(fits, "panels of the right factor");
}

/// Each row of `left·right` times its gate is added where it goes; `dots` meet it before. On the calling thread, or
/// on all as [`product`]. Bits of a row of the output depend on the rows that are added to it alone; those of dots
/// on how many there are, too.
pub(crate) fn product_scatter(
    dst: MatMut<'_>,
    (left, right): (Left<'_>, &Right<'_>),
    scatter: Scatter<'_>,
    dots: Option<Dots<'_>>,
) {
    let (m, k, n) = (left.num_rows(), left.num_inner(), dst.ncols());
    assert_eq!((scatter.rows.len(), right.extents()), (m, [k, n]), "factors that fit");
    assert!(scatter.gates.is_none_or(|gates| gates.len() == m), "a gate for each row");
    let goes_to = scatter.first..scatter.first + dst.nrows();
    let is_inside = |row: &u32| goes_to.contains(&(*row as usize));
    assert!(scatter.rows.iter().all(is_inside), "rows of the output");
    if let Some(dots) = &dots {
        let fits = dots.at.shape() == dst.shape() && dots.sums.len() == m;
        assert!(fits && Values::from(dots.at).is_row_major(), "dots of the output's shape");
    }
    assert!(Values::from(dst.rb()).is_row_major(), "a result whose rows are contiguous");
    left.check_names();
    check_panels(right);
    product::check_factors(&left, right);
    super::count::add_macs(m * k * n);
    if m == 0 || k == 0 || n == 0 {
        if let Some(dots) = dots {
            dots.sums.fill(0.0);
        }
        return;
    }
    let entries = product::entries(right.precision());
    if let Some(right) = few_rows::as_it_lies(m, right) {
        let block = (entries.block_len)(k);
        return few_rows::scatter(dst, (left, right), block, scatter, dots);
    }
    // SAFETY: the entries are those of this processor, and the extents were compared above.
    let run = |product: &product::Product<'_>| unsafe { (entries.run)(product) };
    product::Product::scattering(dst, (left, right), scatter, dots, run);
}

/// Whether there are columns for each thread.
pub(crate) fn has_columns_for_all(n: usize) -> bool {
    n / COL_BLOCK >= rayon::current_num_threads()
}

/// [`product`] on all threads, cut into blocks of rows, or of columns where rows are few: then each thread reads a
/// part of the right factor.
pub(crate) fn gemm_by_rows<'d>(
    dst: impl Into<ValuesMut<'d>>,
    start: Start<'_>,
    left: Left<'_>,
    b: Right<'_>,
) {
    let dst = dst.into();
    let (m, n) = (dst.nrows(), dst.ncols());
    if m > ROW_BLOCK {
        let cut = half(m, ROW_BLOCK);
        let ((d0, d1), (l0, l1)) = (dst.split_at_row(cut), left.split_at_row(cut));
        let (s0, s1) = start.split_at_row(cut);
        rayon::join(|| gemm_by_rows(d0, s0, l0, b), || gemm_by_rows(d1, s1, l1, b));
    } else if m == ROW_BLOCK {
        product(dst, start, left, &b, Finish::None);
    } else if reads_as_it_lies(m, &b) {
        by_columns(dst, start, left, b, WIDE_BLOCK);
    } else if b.is_packed() {
        // Each piece packs the left factor.
        let share = n / (PIECES * rayon::current_num_threads()) / COL_BLOCK;
        by_columns(dst, start, left, b, share.max(1) * COL_BLOCK);
    } else {
        by_columns(dst, start, left, b, COL_BLOCK);
    }
}

/// [`product`] on all threads, cut into pieces of some multiple of `columns`, or a whole one and what is left.
fn by_columns(dst: ValuesMut<'_>, start: Start<'_>, left: Left<'_>, b: Right<'_>, columns: usize) {
    let n = dst.ncols();
    if n < 2 * columns {
        return product(dst, start, left, &b, Finish::None);
    }
    let cut = n / columns / 2 * columns;
    let (d0, d1) = dst.split_at_col(cut);
    let (b0, b1) = (b.subcols(0, cut), b.subcols(cut, n - cut));
    let (s0, s1) = (start.columns(0, cut), start.columns(cut, n - cut));
    rayon::join(|| by_columns(d0, s0, left, b0, columns), || by_columns(d1, s1, left, b1, columns));
}

/// Whether the product of `m` rows reads its right factor once, where it lies, on all threads.
pub(crate) fn reads_as_it_lies(m: usize, right: &Right<'_>) -> bool {
    few_rows::as_it_lies(m, right).is_some()
}

/// `dst += aᵀ·b` on all threads, for the long inner dimension of a weight gradient: a `[k, m]`, b `[k, n]`.
///
/// Each element of a factor is packed once. Many rows are cut into strands with a partial sum each,
/// which are added in order; otherwise the output is cut into blocks of rows.
pub(crate) fn add_outer(dst: &mut [f32], a: Left<'_>, b: Right<'_>) {
    let (k, m, n) = (a.num_rows(), a.num_inner(), b.values().ncols());
    let strands = match m * n > MAX_PART {
        true => 1,
        // As many as two or four threads share evenly.
        false => (k / STRAND).next_power_of_two().min(MAX_STRANDS),
    };
    let a_t = a.transpose();
    if strands == 1 {
        let rows = m.div_ceil(OUTER_BLOCKS).next_multiple_of(OUTER_ROWS).min(ROW_BLOCK);
        return with_packed(&b, |b| {
            dst.par_chunks_mut((rows * n).max(1)).enumerate().for_each(|(block, dst)| {
                let count = dst.len() / n;
                let left = a_t.part([block * rows, count], [0, k]);
                product(mat_mut(dst, count, n), Start::Output, left, b, Finish::None);
            });
        });
    }
    let strand = k.div_ceil(strands).next_multiple_of(16);
    with_scratch(strands * m * n, |parts| {
        parts.par_chunks_mut(m * n).enumerate().for_each(|(s, part)| {
            let first = s * strand;
            let rows = strand.min(k - first);
            let left = a_t.part([0, m], [first, rows]);
            let right = b.subrows(first, rows);
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

/// A multiple of `block` near the middle of `len > block`.
pub(crate) fn half(len: usize, block: usize) -> usize {
    (len.div_ceil(block) / 2).max(1) * block
}

#[cfg(test)]
mod tests;
