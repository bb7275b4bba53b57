//! What a product begins with, and what is done to its sums.

use super::{MatRef, Values};
use crate::Activation;
use crate::tape::Write;

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
    Slope { act: Activation, at: Values<'a> },
}

/// Where the rows of a product go: row r, times its gate, is added to row `rows[r] − first` of the output.
#[derive(Clone, Copy)]
pub(crate) struct Scatter<'a> {
    pub(crate) rows: &'a [u32],
    pub(crate) first: usize,
    pub(crate) gates: Option<&'a [f32]>,
}

impl Scatter<'_> {
    pub(in crate::kernel) fn row(&self, r: usize) -> usize {
        self.rows[r] as usize - self.first
    }

    pub(in crate::kernel) fn gate(&self, r: usize) -> f32 {
        self.gates.map_or(1.0, |gates| gates[r])
    }
}

/// What the rows of a product are multiplied with, before their gates: of the output's shape, and met where they go.
pub(crate) struct Dots<'a> {
    pub(crate) at: MatRef<'a>,
    /// One a row of the product, overwritten.
    pub(crate) sums: &'a mut [f32],
}

impl<'a> Start<'a> {
    /// That of some columns.
    pub(super) fn columns(self, first: usize, count: usize) -> Start<'a> {
        let Start::Terms { bias, residual } = self else { return self };
        let bias = bias.map(|bias| &bias[first..first + count]);
        Start::Terms { bias, residual: residual.map(|r| r.subcols(first, count)) }
    }

    pub(super) fn split_at_row(self, cut: usize) -> (Start<'a>, Start<'a>) {
        let Start::Terms { bias, residual } = self else { return (self, self) };
        let (r0, r1) = residual.map(|r| r.split_at_row(cut)).unzip();
        (Start::Terms { bias, residual: r0 }, Start::Terms { bias, residual: r1 })
    }
}

impl<'a> Finish<'a> {
    /// That of some columns.
    pub(super) fn columns(self, first: usize, count: usize) -> Finish<'a> {
        let Finish::Slope { act, at } = self else { return self };
        Finish::Slope { act, at: at.part([0, at.nrows()], [first, count]) }
    }
}
