//! Factors as they lie in memory.

use super::pack::Source;
use crate::kernel::gemm::{Left, Right, Values};

/// A factor of which one axis is contiguous.
#[derive(Clone, Copy)]
pub(super) struct Strided<'a> {
    pub(super) data: Source,
    /// Distance of rows.
    pub(super) rows: usize,
    /// Distance of columns.
    pub(super) cols: usize,
    /// Whether the elements of a row are neighbours; otherwise those of a column are.
    pub(super) is_row_major: bool,
    /// What the inner dimension runs over, if not over all in order.
    pub(super) inner: Option<&'a [u32]>,
}

// SAFETY: it is a matrix reference, to read.
unsafe impl Sync for Strided<'_> {}

impl<'a> Strided<'a> {
    /// # Panics
    /// If neither axis is contiguous.
    fn of(values: Values<'a>, inner: Option<&'a [u32]>) -> Strided<'a> {
        let (data, rows, cols) = match values {
            Values::F32(m) => (Source::F32(m.as_ptr()), m.row_stride(), m.col_stride()),
            Values::Bf16(m) => (Source::Bf16(m.as_ptr()), m.row_stride(), m.col_stride()),
        };
        let works = rows >= 0 && cols >= 0 && (rows == 1 || cols == 1);
        assert!(works, "a factor of which an axis is contiguous, not of strides {rows}, {cols}");
        Strided { data, rows: rows as usize, cols: cols as usize, is_row_major: cols == 1, inner }
    }

    /// A right factor.
    ///
    /// # Panics
    /// If rows are named that are not contiguous.
    pub(super) fn right(right: &Right<'a>) -> Strided<'a> {
        let strided = Strided::of(right.values(), right.rows());
        assert!(strided.inner.is_none() || strided.is_row_major, "named rows that are contiguous");
        strided
    }

    /// Where place `k` of the inner dimension lies.
    #[inline(always)]
    pub(super) fn place(&self, k: usize) -> usize {
        self.inner.map_or(k, |names| names[k] as usize)
    }

    /// A left factor.
    ///
    /// # Panics
    /// If rows or columns are named that are not contiguous, or both.
    pub(super) fn left(left: &Left<'a>) -> Strided<'a> {
        let strided = Strided::of(left.values, left.inner);
        match (left.rows, left.inner) {
            (Some(_), Some(_)) => panic!("names of rows or of columns, not of both"),
            (Some(_), None) => assert!(strided.is_row_major, "named rows that are contiguous"),
            (None, Some(_)) => {
                assert!(strided.rows == 1, "named columns that are contiguous");
                // Of a single row both axes are contiguous.
                return Strided { is_row_major: false, ..strided };
            }
            (None, None) => {}
        }
        strided
    }
}

/// # Panics
/// If the factors do not lie as products read them.
pub(in crate::kernel) fn check_factors(left: &Left<'_>, right: &Right<'_>) {
    let _ = (Strided::left(left), Strided::right(right));
}
