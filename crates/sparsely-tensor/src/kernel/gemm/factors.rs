//! What is multiplied: matrices, or those of their rows and columns that are named.

use super::{MatMut, MatRef};
use crate::kernel::elementwise::widen;
use crate::kernel::scratch::with_scratch;
use crate::precision::{Bf16, Stored};
use crate::{Activation, Precision};
use faer::prelude::ReborrowMut;

/// A matrix as it is stored.
#[derive(Clone, Copy)]
pub(crate) enum Values<'a> {
    F32(MatRef<'a>),
    Bf16(faer::MatRef<'a, Bf16>),
}

/// The value of an expression about the matrix `$m`, whatever its elements are.
macro_rules! either {
    ($values:expr, $m:ident => $same:expr) => {
        match $values {
            Values::F32($m) => $same,
            Values::Bf16($m) => $same,
        }
    };
}
/// A matrix that is made of the matrix `$m`, with elements of the same type.
macro_rules! each {
    ($values:expr, $m:ident => $other:expr) => {
        match $values {
            Values::F32($m) => Values::F32($other),
            Values::Bf16($m) => Values::Bf16($other),
        }
    };
}

impl<'a> Values<'a> {
    /// Number of rows.
    pub(crate) fn nrows(&self) -> usize {
        either!(self, m => m.nrows())
    }

    /// Number of columns.
    pub(crate) fn ncols(&self) -> usize {
        either!(self, m => m.ncols())
    }

    /// Rows as columns.
    pub(crate) fn transpose(self) -> Values<'a> {
        each!(self, m => m.transpose())
    }

    /// Some rows and columns: each a first one and a number.
    pub(crate) fn part(self, [row, rows]: [usize; 2], [col, cols]: [usize; 2]) -> Values<'a> {
        each!(self, m => m.submatrix(row, col, rows, cols))
    }

    /// Calls `f` with row `i` of a row-major matrix in f32: where it lies, or in a thread's scratch.
    pub(crate) fn with_row<R>(self, i: usize, f: impl FnOnce(&[f32]) -> R) -> R {
        match self {
            Values::F32(m) => f(m.row(i).try_as_row_major().expect("neighbours").as_slice()),
            Values::Bf16(m) => with_scratch(m.ncols(), |wide| {
                widen(m.row(i).try_as_row_major().expect("neighbours").as_slice(), wide);
                f(wide)
            }),
        }
    }

    /// The columns before `cut`, and the others.
    pub(crate) fn split_at_col(self, cut: usize) -> (Values<'a>, Values<'a>) {
        let rows = [0, self.nrows()];
        (self.part(rows, [0, cut]), self.part(rows, [cut, self.ncols() - cut]))
    }

    /// Whether the elements of a row are neighbours.
    pub(in crate::kernel) fn is_row_major(&self) -> bool {
        either!(self, m => m.col_stride() == 1 && m.row_stride() >= 0)
    }

    /// The value in row `i` and column `j`.
    pub(in crate::kernel) fn value(&self, i: usize, j: usize) -> f32 {
        either!(self, m => m[(i, j)].value())
    }

    /// The matrix, if it is stored as f32.
    pub(in crate::kernel) fn floats(self) -> Option<MatRef<'a>> {
        match self {
            Values::F32(m) => Some(m),
            Values::Bf16(_) => None,
        }
    }
}

impl<'a> From<MatRef<'a>> for Values<'a> {
    fn from(values: MatRef<'a>) -> Values<'a> {
        Values::F32(values)
    }
}

/// A matrix to write, as it is stored.
pub(crate) enum ValuesMut<'a> {
    F32(MatMut<'a>),
    /// Each value is rounded.
    Bf16(faer::MatMut<'a, Bf16>),
}

impl<'a> ValuesMut<'a> {
    /// Number of rows.
    pub(crate) fn nrows(&self) -> usize {
        match self {
            ValuesMut::F32(m) => m.nrows(),
            ValuesMut::Bf16(m) => m.nrows(),
        }
    }

    /// Number of columns.
    pub(crate) fn ncols(&self) -> usize {
        match self {
            ValuesMut::F32(m) => m.ncols(),
            ValuesMut::Bf16(m) => m.ncols(),
        }
    }

    /// Whether the elements of a row are neighbours.
    pub(super) fn is_row_major(&self) -> bool {
        match self {
            ValuesMut::F32(m) => m.col_stride() == 1 && m.row_stride() >= 0,
            ValuesMut::Bf16(m) => m.col_stride() == 1 && m.row_stride() >= 0,
        }
    }

    /// The same for a shorter time.
    pub(crate) fn rb_mut(&mut self) -> ValuesMut<'_> {
        match self {
            ValuesMut::F32(m) => ValuesMut::F32(m.rb_mut()),
            ValuesMut::Bf16(m) => ValuesMut::Bf16(m.rb_mut()),
        }
    }

    /// The rows before `cut`, and the others.
    pub(crate) fn split_at_row(self, cut: usize) -> (ValuesMut<'a>, ValuesMut<'a>) {
        match self {
            ValuesMut::F32(m) => both(m.split_at_row_mut(cut), ValuesMut::F32),
            ValuesMut::Bf16(m) => both(m.split_at_row_mut(cut), ValuesMut::Bf16),
        }
    }

    /// The columns before `cut`, and the others.
    pub(crate) fn split_at_col(self, cut: usize) -> (ValuesMut<'a>, ValuesMut<'a>) {
        match self {
            ValuesMut::F32(m) => both(m.split_at_col_mut(cut), ValuesMut::F32),
            ValuesMut::Bf16(m) => both(m.split_at_col_mut(cut), ValuesMut::Bf16),
        }
    }
}

impl<'a> From<MatMut<'a>> for ValuesMut<'a> {
    fn from(values: MatMut<'a>) -> ValuesMut<'a> {
        ValuesMut::F32(values)
    }
}

fn both<T, U>((a, b): (T, T), f: impl Fn(T) -> U) -> (U, U) {
    (f(a), f(b))
}

/// The left factor, act(values), of all rows or of those that are named.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    pub(crate) values: Values<'a>,
    pub(crate) act: Activation,
    /// Which rows.
    pub(in crate::kernel) rows: Option<&'a [u32]>,
    /// Which columns: the inner dimension of the product.
    pub(in crate::kernel) inner: Option<&'a [u32]>,
}

impl<'a> Left<'a> {
    /// act(values), all rows.
    pub(crate) fn active(values: impl Into<Values<'a>>, act: Activation) -> Left<'a> {
        Left { values: values.into(), act, rows: None, inner: None }
    }

    /// Some rows of `values`, in their order.
    pub(crate) fn of_rows(values: impl Into<Values<'a>>, rows: &'a [u32]) -> Left<'a> {
        Left { rows: Some(rows), ..Left::active(values, Activation::Identity) }
    }

    /// How many rows.
    pub(in crate::kernel) fn num_rows(&self) -> usize {
        self.rows.map_or(self.values.nrows(), <[u32]>::len)
    }

    /// How many elements a row has.
    pub(in crate::kernel) fn num_inner(&self) -> usize {
        self.inner.map_or(self.values.ncols(), <[u32]>::len)
    }

    pub(super) fn transpose(self) -> Left<'a> {
        let values = self.values.transpose();
        Left { values, act: self.act, rows: self.inner, inner: self.rows }
    }

    /// Some rows and some of the inner dimension: each a first one and a number.
    pub(crate) fn part(self, [row, rows]: [usize; 2], [first, inner]: [usize; 2]) -> Left<'a> {
        let named =
            |names: Option<&'a [u32]>, first, count| names.map(|n| &n[first..first + count]);
        let place = |names: Option<&[u32]>, first, count, all| match names {
            Some(_) => (0, all),
            None => (first, count),
        };
        let (row0, num_rows) = place(self.rows, row, rows, self.values.nrows());
        let (col0, num_cols) = place(self.inner, first, inner, self.values.ncols());
        Left {
            values: self.values.part([row0, num_rows], [col0, num_cols]),
            act: self.act,
            rows: named(self.rows, row, rows),
            inner: named(self.inner, first, inner),
        }
    }

    pub(super) fn split_at_row(self, cut: usize) -> (Left<'a>, Left<'a>) {
        let (rows, inner) = (self.num_rows(), [0, self.num_inner()]);
        (self.part([0, cut], inner), self.part([cut, rows - cut], inner))
    }

    /// # Panics
    /// If a row or column is named that does not exist.
    pub(super) fn check_names(&self) {
        check_names(self.rows, self.values.nrows());
        check_names(self.inner, self.values.ncols());
    }

    /// The value, before its activation, in row `i` and place `p` of the inner dimension.
    pub(in crate::kernel) fn value(&self, [i, p]: [usize; 2]) -> f32 {
        self.values.value(place(self.rows, i), place(self.inner, p))
    }
}

/// Where the `i`th lies.
fn place(names: Option<&[u32]>, i: usize) -> usize {
    names.map_or(i, |names| names[i] as usize)
}

/// # Panics
/// If a name is not below `count`.
fn check_names(names: Option<&[u32]>, count: usize) {
    let exists = |name: &u32| (*name as usize) < count;
    assert!(names.is_none_or(|names| names.iter().all(exists)), "names of what exists");
}

impl<'a, V: Into<Values<'a>>> From<V> for Left<'a> {
    fn from(values: V) -> Left<'a> {
        Left::active(values, Activation::Identity)
    }
}

/// The right factor, as it lies or packed for many products, and what both factors are rounded to.
#[derive(Clone, Copy)]
pub(crate) struct Right<'a> {
    values: Values<'a>,
    /// Which rows.
    rows: Option<&'a [u32]>,
    panels: Option<Panels<'a>>,
    precision: Precision,
}

/// Columns that are whole panels of every kernel, wherever as many follow.
pub(in crate::kernel) const PANEL_COLUMNS: usize = 96;

/// Some columns of a packed right factor.
#[derive(Clone, Copy)]
pub(in crate::kernel) struct Panels<'a> {
    /// Those of all columns.
    pub(in crate::kernel) all: &'a [f32],
    /// The first column of those that are meant.
    pub(in crate::kernel) first: usize,
    /// How many columns were packed.
    pub(in crate::kernel) total: usize,
}

impl<'a> Panels<'a> {
    /// Some of the columns, if panels begin and end with them.
    fn part(self, first: usize, count: usize) -> Option<Panels<'a>> {
        let is_border = |column: usize| {
            let is_between = column.is_multiple_of(PANEL_COLUMNS);
            column == 0
                || column == self.total
                || is_between && column + PANEL_COLUMNS <= self.total
        };
        let first = self.first + first;
        (is_border(first) && is_border(first + count)).then_some(Panels { first, ..self })
    }
}

impl<'a> Right<'a> {
    /// As it lies.
    pub(crate) fn new(values: impl Into<Values<'a>>, precision: Precision) -> Right<'a> {
        Right { values: values.into(), rows: None, panels: None, precision }
    }

    /// Some rows of `values`, in their order.
    pub(crate) fn of_rows(
        values: impl Into<Values<'a>>,
        rows: &'a [u32],
        precision: Precision,
    ) -> Right<'a> {
        let values = values.into();
        check_names(Some(rows), values.nrows());
        Right { rows: Some(rows), ..Right::new(values, precision) }
    }

    /// The extents `[K, N]`.
    pub(crate) fn extents(&self) -> [usize; 2] {
        [self.rows.map_or(self.values.nrows(), <[u32]>::len), self.values.ncols()]
    }

    /// Which rows, if not all.
    pub(in crate::kernel) fn rows(&self) -> Option<&'a [u32]> {
        self.rows
    }

    /// Some of the rows, as they lie.
    pub(super) fn subrows(&self, first: usize, count: usize) -> Right<'a> {
        match self.rows {
            Some(rows) => Right { rows: Some(&rows[first..first + count]), panels: None, ..*self },
            None => {
                let values = self.values.part([first, count], [0, self.values.ncols()]);
                Right::new(values, self.precision)
            }
        }
    }

    /// With what [`pack`] made of it for the same precision.
    pub(crate) fn with_panels(self, panels: Option<&'a [f32]>) -> Right<'a> {
        let total = self.values.ncols();
        Right { panels: panels.map(|all| Panels { all, first: 0, total }), ..self }
    }

    /// Whether products need not pack it.
    pub(crate) fn is_packed(&self) -> bool {
        self.panels.is_some()
    }

    /// As it lies.
    pub(crate) fn values(&self) -> Values<'a> {
        self.values
    }

    /// What both factors are rounded to.
    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    /// Some of the columns: packed if they are and panels begin and end with them, otherwise as they lie.
    pub(crate) fn subcols(&self, first: usize, count: usize) -> Right<'a> {
        let values = self.values.part([0, self.values.nrows()], [first, count]);
        let panels = self.panels.and_then(|panels| panels.part(first, count));
        Right { values, panels, ..*self }
    }

    pub(in crate::kernel) fn panels(&self) -> Option<Panels<'a>> {
        self.panels
    }
}
