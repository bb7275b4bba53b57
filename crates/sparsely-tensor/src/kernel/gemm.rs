//! The matrix product, behind one function: ours on AVX2, AVX-512 and AMX, `faer`'s elsewhere.
//!
//! [`product`] runs on the calling thread, but for few rows of large weights. Threads work on whole
//! products (experts, heads, images) or on pieces ([`gemm_by_rows`], [`add_outer`]). Neither rows nor
//! columns have other bits when they are cut otherwise, and what is cut along the inner dimension
//! depends on the shape alone; so the result does not depend on the number of threads.

use super::elementwise::{activate, activate_backward, add_slice};
#[cfg(target_arch = "x86_64")]
use super::isa::{Level, level};
use super::scratch::with_scratch;
#[cfg(target_arch = "x86_64")]
use super::{few_rows, product};
use crate::Activation;
use crate::precision::{Precision, nearest_bf16};
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
/// The same where the right factor is read as it lies: whole pages of a row.
const WIDE_BLOCK: usize = 1024;
/// Rows that a partial sum of a weight gradient runs over, at the least.
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

/// The left factor, act(values), of all rows or of those that are named.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    pub(crate) values: MatRef<'a>,
    pub(crate) act: Activation,
    /// Which rows.
    pub(super) rows: Option<&'a [u32]>,
    /// Which columns: the inner dimension of the product.
    pub(super) inner: Option<&'a [u32]>,
}

impl<'a> Left<'a> {
    /// act(values), all rows.
    pub(crate) fn active(values: MatRef<'a>, act: Activation) -> Left<'a> {
        Left { values, act, rows: None, inner: None }
    }

    /// Some rows of `values`, in their order.
    pub(crate) fn of_rows(values: MatRef<'a>, rows: &'a [u32]) -> Left<'a> {
        Left { rows: Some(rows), ..values.into() }
    }

    /// How many rows.
    pub(super) fn num_rows(&self) -> usize {
        self.rows.map_or(self.values.nrows(), <[u32]>::len)
    }

    /// How many elements a row has.
    pub(super) fn num_inner(&self) -> usize {
        self.inner.map_or(self.values.ncols(), <[u32]>::len)
    }

    fn transpose(self) -> Left<'a> {
        let values = self.values.transpose();
        Left { values, act: self.act, rows: self.inner, inner: self.rows }
    }

    /// Some rows and some of the inner dimension: each a first one and a number.
    fn part(self, [row, rows]: [usize; 2], [first, inner]: [usize; 2]) -> Left<'a> {
        let named =
            |names: Option<&'a [u32]>, first, count| names.map(|n| &n[first..first + count]);
        let place = |names: Option<&[u32]>, first, count, all| match names {
            Some(_) => (0, all),
            None => (first, count),
        };
        let (row0, num_rows) = place(self.rows, row, rows, self.values.nrows());
        let (col0, num_cols) = place(self.inner, first, inner, self.values.ncols());
        Left {
            values: self.values.submatrix(row0, col0, num_rows, num_cols),
            act: self.act,
            rows: named(self.rows, row, rows),
            inner: named(self.inner, first, inner),
        }
    }

    fn split_at_row(self, cut: usize) -> (Left<'a>, Left<'a>) {
        let (rows, inner) = (self.num_rows(), [0, self.num_inner()]);
        (self.part([0, cut], inner), self.part([cut, rows - cut], inner))
    }

    /// # Panics
    /// If a row or column is named that does not exist.
    fn check_names(&self) {
        check_names(self.rows, self.values.nrows());
        check_names(self.inner, self.values.ncols());
    }

    /// The value, before its activation, in row `i` and place `p` of the inner dimension.
    pub(super) fn value(&self, [i, p]: [usize; 2]) -> f32 {
        let place = |names: Option<&[u32]>, i: usize| names.map_or(i, |names| names[i] as usize);
        self.values[(place(self.rows, i), place(self.inner, p))]
    }
}

/// # Panics
/// If a name is not below `count`.
fn check_names(names: Option<&[u32]>, count: usize) {
    let exists = |name: &u32| (*name as usize) < count;
    assert!(names.is_none_or(|names| names.iter().all(exists)), "names of what exists");
}

impl<'a> From<MatRef<'a>> for Left<'a> {
    fn from(values: MatRef<'a>) -> Left<'a> {
        Left::active(values, Activation::Identity)
    }
}

/// The right factor, as it lies or packed for many products, and what both factors are rounded to.
#[derive(Clone, Copy)]
pub(crate) struct Right<'a> {
    values: MatRef<'a>,
    /// Which rows.
    rows: Option<&'a [u32]>,
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    panels: Option<&'a [f32]>,
    precision: Precision,
}

impl<'a> Right<'a> {
    /// As it lies.
    pub(crate) fn new(values: MatRef<'a>, precision: Precision) -> Right<'a> {
        Right { values, rows: None, panels: None, precision }
    }

    /// Some rows of `values`, in their order.
    pub(crate) fn of_rows(values: MatRef<'a>, rows: &'a [u32], precision: Precision) -> Right<'a> {
        check_names(Some(rows), values.nrows());
        Right { rows: Some(rows), ..Right::new(values, precision) }
    }

    /// The extents `[K, N]`.
    pub(crate) fn extents(&self) -> [usize; 2] {
        [self.rows.map_or(self.values.nrows(), <[u32]>::len), self.values.ncols()]
    }

    /// Which rows, if not all.
    pub(super) fn rows(&self) -> Option<&'a [u32]> {
        self.rows
    }

    /// Some of the rows, as they lie.
    fn subrows(&self, first: usize, count: usize) -> Right<'a> {
        match self.rows {
            Some(rows) => Right { rows: Some(&rows[first..first + count]), panels: None, ..*self },
            None => Right::new(self.values.subrows(first, count), self.precision),
        }
    }

    /// With what [`pack`] made of it for the same precision.
    pub(crate) fn with_panels(self, panels: Option<&'a [f32]>) -> Right<'a> {
        Right { panels, ..self }
    }

    /// Whether products need not pack it.
    pub(crate) fn is_packed(&self) -> bool {
        self.panels.is_some()
    }

    /// As it lies.
    pub(crate) fn values(&self) -> MatRef<'a> {
        self.values
    }

    /// What both factors are rounded to.
    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    /// Some of the columns, as they lie.
    pub(crate) fn subcols(&self, first: usize, count: usize) -> Right<'a> {
        Right { values: self.values.subcols(first, count), panels: None, ..*self }
    }

    #[cfg(target_arch = "x86_64")]
    pub(super) fn panels(&self) -> Option<&'a [f32]> {
        self.panels
    }
}

/// Elements of a right factor `[k, n]` when it is packed; none where products take it as it lies.
#[cfg(target_arch = "x86_64")]
pub(crate) fn packed_len(precision: Precision, [k, n]: [usize; 2]) -> Option<usize> {
    let len = product::entries(precision).map_or(0, |entries| (entries.packed_len)(k, n));
    (len > 0).then_some(len)
}

/// Packs `right` into [`packed_len`] elements, on all threads; false if products take it as it lies.
#[cfg(target_arch = "x86_64")]
pub(crate) fn pack(right: &Right<'_>, panels: &mut [f32]) -> bool {
    product::entries(right.precision).is_some_and(|entries| (entries.pack)(right, panels))
}

/// None: the portable product packs for itself.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn packed_len(_precision: Precision, _extents: [usize; 2]) -> Option<usize> {
    None
}

/// False: see [`packed_len`].
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn pack(_right: &Right<'_>, _panels: &mut [f32]) -> bool {
    false
}

/// What multiplies, for people.
pub(crate) fn kernel_name(precision: Precision) -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if let Some(entries) = product::entries(precision) {
        return entries.name;
    }
    match precision {
        Precision::F32 => "portable",
        Precision::Bf16 => "portable in f32, rounding factors",
    }
}

/// Calls `f` with `right` packed, on all threads, once for all products of `f`.
pub(crate) fn with_packed<R>(right: &Right<'_>, f: impl FnOnce(&Right<'_>) -> R) -> R {
    let Some(len) = packed_len(right.precision, right.extents()) else {
        return f(right);
    };
    with_scratch(len, |panels| {
        let is_packed = pack(right, panels);
        f(&right.with_panels(is_packed.then_some(panels)))
    })
}

/// The same of several; those of which `packs` says no stay as they are.
pub(crate) fn with_all_packed<R>(
    mut rights: Vec<Option<Right<'_>>>,
    packs: impl Fn(usize) -> bool,
    f: impl FnOnce(&[Option<Right<'_>>]) -> R,
) -> R {
    let len = |(group, right): (usize, &Option<Right<'_>>)| {
        let right = right.filter(|right| packs(group) && !right.is_packed());
        right.map_or(0, |right| packed_len(right.precision, right.extents()).unwrap_or(0))
    };
    let lens: Vec<usize> = rights.iter().enumerate().map(len).collect();
    with_scratch(lens.iter().sum(), |mut panels| {
        let mut own = Vec::with_capacity(lens.len());
        for (right, len) in rights.iter_mut().zip(lens) {
            let (part, rest) = panels.split_at_mut(len);
            panels = rest;
            own.push((right, part));
        }
        let packed: Vec<Option<Right<'_>>> = own
            .into_par_iter()
            .map(|(right, panels)| {
                right.map(|right| match !panels.is_empty() && pack(&right, panels) {
                    true => right.with_panels(Some(panels)),
                    false => right,
                })
            })
            .collect();
        f(&packed)
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

/// Where the rows of a product go: row r, times its gate, is added to row `rows[r] − first` of the output.
#[derive(Clone, Copy)]
pub(crate) struct Scatter<'a> {
    pub(crate) rows: &'a [u32],
    pub(crate) first: usize,
    pub(crate) gates: Option<&'a [f32]>,
}

impl Scatter<'_> {
    pub(super) fn row(&self, r: usize) -> usize {
        self.rows[r] as usize - self.first
    }

    pub(super) fn gate(&self, r: usize) -> f32 {
        self.gates.map_or(1.0, |gates| gates[r])
    }
}

/// What the rows of a product are multiplied with, before their gates: of the output's shape, and met where they go.
pub(crate) struct Dots<'a> {
    pub(crate) at: MatRef<'a>,
    /// One a row of the product, overwritten.
    pub(crate) sums: &'a mut [f32],
}

/// `dst = a·b` or `dst += a·b`; see [`product`].
///
/// A row's bits depend neither on how many rows share the call nor on how the columns are cut.
pub(crate) fn gemm(dst: MatMut<'_>, write: Write, a: MatRef<'_>, b: Right<'_>) {
    product(dst, write.into(), a.into(), &b, Finish::None);
}

/// `dst = finish(start + act(a)·b)`, on the calling thread, or on all where [`reads_as_it_lies`] and there is
/// much to read; bits as for [`gemm`].
pub(crate) fn product(
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut))] mut dst: MatMut<'_>,
    start: Start<'_>,
    left: Left<'_>,
    right: &Right<'_>,
    finish: Finish<'_>,
) {
    let extents = [dst.nrows(), left.num_inner(), dst.ncols()];
    let [k, n] = right.extents();
    assert_eq!([left.num_rows(), k, n], extents, "factors that fit the product");
    left.check_names();
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
    if k > 0
        && let Some(entries) = product::entries(right.precision)
    {
        if few_rows::fits(dst.nrows(), right) {
            let block = (entries.block_len)(k);
            return few_rows::compute(dst, start, left, right.values, (block, finish));
        }
        if let Some(product) = product::Product::new(dst.rb_mut(), start, left, right, finish) {
            let panels = right.panels.map_or(0, <[f32]>::len);
            let packed_len = (entries.packed_len)(k, n);
            assert!(right.panels.is_none() || panels == packed_len, "panels of the right factor");
            // SAFETY: the entries are those of this processor, and the extents were compared above.
            return unsafe { (entries.run)(&product) };
        }
    }
    portable(dst, start, left, right, finish);
}

/// Each row of `left·right` times its gate is added where it goes; `dots` meet it before. On the calling thread, or
/// on all as [`product`]. Bits of a row of the output depend on the rows that are added to it alone.
pub(crate) fn product_scatter(
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut))] mut dst: MatMut<'_>,
    (left, right): (Left<'_>, &Right<'_>),
    scatter: Scatter<'_>,
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut))] mut dots: Option<Dots<'_>>,
) {
    let (m, k, n) = (left.num_rows(), left.num_inner(), dst.ncols());
    assert_eq!((scatter.rows.len(), right.extents()), (m, [k, n]), "factors that fit");
    assert!(scatter.gates.is_none_or(|gates| gates.len() == m), "a gate for each row");
    let goes_to = scatter.first..scatter.first + dst.nrows();
    let is_inside = |row: &u32| goes_to.contains(&(*row as usize));
    assert!(scatter.rows.iter().all(is_inside), "rows of the output");
    if let Some(dots) = &dots {
        assert!(
            dots.at.shape() == dst.shape() && dots.sums.len() == m,
            "dots of the output's shape"
        );
    }
    left.check_names();
    super::count::add_macs(m * k * n);
    if m == 0 || n == 0 {
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if k > 0
        && let Some(entries) = product::entries(right.precision)
    {
        if few_rows::fits(m, right) {
            let block = (entries.block_len)(k);
            return few_rows::scatter(dst, (left, right.values), block, scatter, dots);
        }
        // SAFETY: the entries are those of this processor, and the extents were compared above.
        let run = |product: &product::Product<'_>| unsafe { (entries.run)(product) };
        let again = dots.as_mut().map(|dots| Dots { at: dots.at, sums: &mut *dots.sums });
        let factors = (left, right);
        if product::Product::scattering(dst.rb_mut(), factors, scatter, again, run).is_some() {
            return;
        }
    }
    portable_scatter(dst, (left, right), scatter, dots);
}

/// [`product_scatter`] by the portable product.
fn portable_scatter(
    mut dst: MatMut<'_>,
    (left, right): (Left<'_>, &Right<'_>),
    scatter: Scatter<'_>,
    mut dots: Option<Dots<'_>>,
) {
    let (m, n) = (left.num_rows(), dst.ncols());
    with_scratch(m * n, |out| {
        portable(mat_mut(out, m, n), Start::Zero, left, right, Finish::None);
        for (r, out) in out.chunks(n).enumerate() {
            if let Some(Dots { at, sums }) = &mut dots {
                sums[r] = out.iter().enumerate().map(|(c, x)| x * at[(scatter.row(r), c)]).sum();
            }
            for (c, x) in out.iter().enumerate() {
                dst[(scatter.row(r), c)] += scatter.gate(r) * x;
            }
        }
    });
}

/// The product by `faer`, which the factors are rounded for where they have to be.
fn portable(
    mut dst: MatMut<'_>,
    start: Start<'_>,
    left: Left<'_>,
    right: &Right<'_>,
    finish: Finish<'_>,
) {
    let (m, k) = (left.num_rows(), left.num_inner());
    if left.rows.is_some() || left.inner.is_some() {
        return with_scratch(m * k, |rows| {
            for (i, row) in rows.chunks_mut(k.max(1)).enumerate() {
                for (p, x) in row.iter_mut().enumerate() {
                    *x = left.value([i, p]);
                }
            }
            let left = Left::active(mat(rows, m, k), left.act);
            portable(dst, start, left, right, finish);
        });
    }
    if let Some(names) = right.rows {
        return with_scratch(names.len() * dst.ncols(), |rows| {
            let mut named = mat_mut(rows, names.len(), dst.ncols());
            for (p, name) in names.iter().enumerate() {
                named.rb_mut().row_mut(p).copy_from(right.values.row(*name as usize));
            }
            let right = Right::new(mat(rows, names.len(), dst.ncols()), right.precision);
            portable(dst, start, left, &right, finish);
        });
    }
    let b = right.values;
    if left.act != Activation::Identity {
        return with_scratch(m * k, |u| {
            let mut values = mat_mut(u, m, k);
            values.copy_from(left.values);
            with_scratch(m * k, |x| {
                x.copy_from_slice(u);
                activate(left.act, x, u);
            });
            portable(dst, start, mat(u, m, k).into(), right, finish);
        });
    }
    if right.precision == Precision::Bf16 {
        return with_rounded(left.values, |a| {
            with_rounded(b, |b| {
                portable(dst, start, a.into(), &Right::new(b, Precision::F32), finish);
            });
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

/// Calls `f` with a copy that is rounded to bf16.
fn with_rounded(a: MatRef<'_>, f: impl FnOnce(MatRef<'_>)) {
    let (rows, cols) = (a.nrows(), a.ncols());
    with_scratch(rows * cols, |values| {
        mat_mut(values, rows, cols).copy_from(a);
        values.iter_mut().for_each(|value| *value = nearest_bf16(*value));
        f(mat(values, rows, cols));
    });
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

/// [`product`] on all threads, cut into blocks of rows (or of columns, where rows are few).
pub(crate) fn gemm_by_rows(dst: MatMut<'_>, start: Start<'_>, left: Left<'_>, b: Right<'_>) {
    let (m, n) = (dst.nrows(), dst.ncols());
    let columns = if reads_as_it_lies(m, &b) { WIDE_BLOCK } else { COL_BLOCK };
    if m > ROW_BLOCK {
        let cut = half(m, ROW_BLOCK);
        let ((d0, d1), (l0, l1)) = (dst.split_at_row_mut(cut), left.split_at_row(cut));
        let (s0, s1) = start.split_at_row(cut);
        rayon::join(|| gemm_by_rows(d0, s0, l0, b), || gemm_by_rows(d1, s1, l1, b));
    } else if n > columns && m < ROW_BLOCK {
        let cut = half(n, columns);
        let (d0, d1) = dst.split_at_col_mut(cut);
        let (b0, b1) = (b.subcols(0, cut), b.subcols(cut, n - cut));
        let (s0, s1) = start.split_at_col(cut);
        rayon::join(|| gemm_by_rows(d0, s0, left, b0), || gemm_by_rows(d1, s1, left, b1));
    } else {
        product(dst, start, left, &b, Finish::None);
    }
}

/// Whether the product of `m` rows reads its right factor once, where it lies, on all threads.
#[cfg(target_arch = "x86_64")]
pub(crate) fn reads_as_it_lies(m: usize, right: &Right<'_>) -> bool {
    level() != Level::Baseline && few_rows::fits(m, right)
}

/// No: `faer` computes it.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn reads_as_it_lies(_m: usize, _right: &Right<'_>) -> bool {
    false
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

/// `dst += aᵀ·b` on all threads, for the long inner dimension of a weight gradient: a `[k, m]`, b `[k, n]`.
///
/// Each element of a factor is packed once. Many rows are cut into strands with a partial sum each,
/// which are added in order; otherwise the output is cut into blocks of rows.
pub(crate) fn add_outer(dst: &mut [f32], a: Left<'_>, b: Right<'_>) {
    let (k, m, n) = (a.num_rows(), a.num_inner(), b.values.ncols());
    let strands = if m * n > MAX_PART { 1 } else { (k / STRAND).clamp(1, MAX_STRANDS) };
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
