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
    /// `None` if neither axis is contiguous.
    fn of(values: Values<'a>, inner: Option<&'a [u32]>) -> Option<Strided<'a>> {
        let (data, rows, cols) = match values {
            Values::F32(m) => (Source::F32(m.as_ptr()), m.row_stride(), m.col_stride()),
            Values::Bf16(m) => (Source::Bf16(m.as_ptr()), m.row_stride(), m.col_stride()),
        };
        let works = rows >= 0 && cols >= 0 && (rows == 1 || cols == 1);
        works.then_some(Strided {
            data,
            rows: rows as usize,
            cols: cols as usize,
            is_row_major: cols == 1,
            inner,
        })
    }

    /// A right factor, if its named rows are contiguous.
    pub(super) fn right(right: &Right<'a>) -> Option<Strided<'a>> {
        let strided = Strided::of(right.values(), right.rows())?;
        (strided.inner.is_none() || strided.is_row_major).then_some(strided)
    }

    /// Where place `k` of the inner dimension lies.
    #[inline(always)]
    pub(super) fn place(&self, k: usize) -> usize {
        self.inner.map_or(k, |names| names[k] as usize)
    }

    /// A left factor, if its named rows or columns are contiguous.
    pub(super) fn left(left: &Left<'a>) -> Option<Strided<'a>> {
        let strided = Strided::of(left.values, left.inner)?;
        match (left.rows, left.inner) {
            (Some(_), Some(_)) => None,
            (Some(_), None) => strided.is_row_major.then_some(strided),
            // Of a single row both axes are contiguous.
            (None, Some(_)) => {
                (strided.rows == 1).then_some(Strided { is_row_major: false, ..strided })
            }
            (None, None) => Some(strided),
        }
    }
}
