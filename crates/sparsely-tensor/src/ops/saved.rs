//! Values as products read them: outputs that only products read, and inputs that backward steps keep.

use crate::buffer::Buffer;
use crate::kernel::elementwise::{narrow, widen};
use crate::kernel::gemm::{Values, ValuesMut, mat, mat_mut};
use crate::kernel::scratch::with_scratch;
use crate::precision::Bf16;
use crate::tape::{GradId, Var};
use crate::{DType, Precision};
use std::sync::Arc;

/// The values of a buffer as a row-major matrix.
pub(crate) fn matrix(buffer: &Buffer, rows: usize, cols: usize) -> Values<'_> {
    match buffer.dtype() {
        DType::F32 => mat(buffer.as_f32(), rows, cols).into(),
        DType::Bf16 => {
            let values = &buffer.as_bf16()[..rows * cols];
            Values::Bf16(faer::MatRef::from_row_major_slice(values, rows, cols))
        }
    }
}

/// Calls `f` with `len` values of a buffer from `first` on: where they lie, or in a thread's scratch.
pub(super) fn with_values<R>(
    buffer: &Buffer,
    [first, len]: [usize; 2],
    f: impl FnOnce(&[f32]) -> R,
) -> R {
    match buffer.dtype() {
        DType::F32 => f(&buffer.as_f32()[first..first + len]),
        DType::Bf16 => with_scratch(len, |values| {
            widen(&buffer.as_bf16()[first..first + len], values);
            f(values)
        }),
    }
}

/// Where an operation writes, in the precision that is stored.
pub(crate) enum Output<'a> {
    F32(&'a mut [f32]),
    Bf16(&'a mut [Bf16]),
}

impl<'a> Output<'a> {
    pub(crate) fn of(buffer: &'a mut Buffer) -> Output<'a> {
        match buffer.dtype() {
            DType::F32 => Output::F32(buffer.as_f32_mut()),
            DType::Bf16 => Output::Bf16(buffer.as_bf16_mut()),
        }
    }

    /// Parts of some lengths, one after the other.
    pub(super) fn cut(self, lens: impl Iterator<Item = usize>) -> Vec<Output<'a>> {
        match self {
            Output::F32(mut rest) => {
                lens.map(|len| Output::F32(take_first(&mut rest, len))).collect()
            }
            Output::Bf16(mut rest) => {
                lens.map(|len| Output::Bf16(take_first(&mut rest, len))).collect()
            }
        }
    }

    /// Pieces of `len` elements, and what is left.
    pub(crate) fn chunks(self, len: usize) -> Vec<Output<'a>> {
        match self {
            Output::F32(values) => values.chunks_mut(len).map(Output::F32).collect(),
            Output::Bf16(values) => values.chunks_mut(len).map(Output::Bf16).collect(),
        }
    }

    /// The first values as a row-major matrix.
    pub(crate) fn matrix(self, rows: usize, cols: usize) -> ValuesMut<'a> {
        match self {
            Output::F32(values) => mat_mut(values, rows, cols).into(),
            Output::Bf16(values) => {
                let values = &mut values[..rows * cols];
                ValuesMut::Bf16(faer::MatMut::from_row_major_slice_mut(values, rows, cols))
            }
        }
    }

    /// Lets `f` write all values, which are rounded while they are at hand if they are stored so.
    pub(crate) fn write(self, f: impl FnOnce(&mut [f32])) {
        match self {
            Output::F32(values) => f(values),
            Output::Bf16(rounded) => with_scratch(rounded.len(), |values| {
                f(values);
                narrow(values, rounded);
            }),
        }
    }
}

/// An input as a backward step keeps it.
pub(super) struct Saved {
    pub(super) value: Arc<Buffer>,
    pub(super) grad: Option<GradId>,
}

impl Saved {
    /// The values as a row-major matrix.
    pub(super) fn mat(&self, rows: usize, cols: usize) -> Values<'_> {
        matrix(&self.value, rows, cols)
    }
}

impl<'t> Var<'t> {
    /// What a backward step keeps of an input: its values in f32 and where its gradient goes.
    pub(super) fn clone_saved(&self) -> Saved {
        self.kept.as_f32.set(true);
        Saved { value: Arc::clone(self.floats()), grad: self.grad }
    }

    /// The same as it is stored.
    pub(super) fn saved_as_stored(&self) -> Saved {
        if self.value.dtype() == DType::F32 {
            return self.clone_saved();
        }
        Saved { value: Arc::clone(&self.value), grad: self.grad }
    }

    /// An input that a backward step, if there is one, keeps as products of `precision` read it. `is_exact` says
    /// that the step has the same bits from the rounded values.
    pub(super) fn factor(
        &self,
        records: bool,
        precision: Precision,
        is_exact: bool,
    ) -> Factor<'_, 't> {
        let is_wide = self.value.dtype() == DType::F32;
        // What a step before keeps in f32 costs nothing more.
        let is_there = self.kept.as_f32.get() && is_exact;
        let narrows = records && is_wide && precision == Precision::Bf16 && !is_there;
        let is_new = narrows && self.kept.as_bf16.get().is_none();
        let len = self.shape.len();
        let copy = is_new.then(|| self.tape.pool().take(DType::Bf16, len));
        Factor { var: self, narrows, copy }
    }
}

/// An input of a product, while it is read.
pub(super) struct Factor<'v, 't> {
    var: &'v Var<'t>,
    narrows: bool,
    copy: Option<Buffer>,
}

impl Factor<'_, '_> {
    /// The values and room for their nearest bf16, which the reader fills while they are at hand; both empty if none are
    /// kept, or were before, or are stored so.
    pub(super) fn copy(&mut self) -> (&[f32], &mut [Bf16]) {
        match &mut self.copy {
            Some(copy) => (self.var.value.as_f32(), copy.as_bf16_mut()),
            None => (&[], &mut []),
        }
    }

    /// After the copy was filled.
    pub(super) fn saved(self) -> Saved {
        let Factor { var, narrows, copy } = self;
        if !narrows {
            return var.saved_as_stored();
        }
        let value = var.kept.as_bf16.get_or_init(|| Arc::new(copy.expect("room of a new copy")));
        Saved { value: Arc::clone(value), grad: var.grad }
    }
}

/// Parts of a copy, of some lengths, one after the other; empty ones of an empty copy.
pub(super) fn parts<'a>(
    (mut from, mut to): (&'a [f32], &'a mut [Bf16]),
    lens: impl Iterator<Item = usize>,
) -> Vec<(&'a [f32], &'a mut [Bf16])> {
    let part = |len: usize| {
        let (own, rest) = from.split_at(len.min(from.len()));
        from = rest;
        (own, take_first(&mut to, own.len()))
    };
    lens.map(part).collect()
}

/// Splits the first `len` elements off.
pub(super) fn take_first<'a, T>(rest: &mut &'a mut [T], len: usize) -> &'a mut [T] {
    rest.split_off_mut(..len).expect("as many elements")
}
