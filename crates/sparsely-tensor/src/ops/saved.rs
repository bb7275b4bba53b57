//! Inputs as backward steps keep them: what products read, in the precision that they read it in.

use crate::buffer::Buffer;
use crate::kernel::elementwise::widen;
use crate::kernel::gemm::{Values, mat};
use crate::precision::Bf16;
use crate::tape::{GradId, Var};
use crate::{DType, Precision};
use std::sync::Arc;

/// An input as a backward step keeps it.
pub(super) struct Saved {
    pub(super) value: Arc<Buffer>,
    pub(super) grad: Option<GradId>,
}

impl Saved {
    /// The values as a row-major matrix.
    pub(super) fn mat(&self, rows: usize, cols: usize) -> Values<'_> {
        match self.value.dtype() {
            DType::F32 => mat(self.value.as_f32(), rows, cols).into(),
            DType::Bf16 => {
                let values = &self.value.as_bf16()[..rows * cols];
                Values::Bf16(faer::MatRef::from_row_major_slice(values, rows, cols))
            }
        }
    }

    /// `len` values from `first` on: where they lie, or in `room`.
    pub(super) fn values<'a>(&'a self, first: usize, len: usize, room: &'a mut [f32]) -> &'a [f32] {
        match self.value.dtype() {
            DType::F32 => &self.value.as_f32()[first..first + len],
            DType::Bf16 => {
                let room = &mut room[..len];
                widen(&self.value.as_bf16()[first..first + len], room);
                room
            }
        }
    }

    /// What [`Saved::values`] takes of a room.
    pub(super) fn room(&self, len: usize) -> usize {
        if self.value.dtype() == DType::F32 { 0 } else { len }
    }
}

impl<'t> Var<'t> {
    /// What a backward step keeps of an input: the memory and where its gradient goes.
    pub(super) fn clone_saved(&self) -> Saved {
        self.kept.as_f32.set(true);
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
        // What a step before keeps in f32 costs nothing more.
        let is_there = self.kept.as_f32.get() && is_exact;
        let narrows = records && precision == Precision::Bf16 && !is_there;
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
    /// Room for the nearest bf16 of the values, which the reader fills while the values are at hand; empty if none are
    /// kept, or were before.
    pub(super) fn copy(&mut self) -> &mut [Bf16] {
        self.copy.as_mut().map_or(&mut [], Buffer::as_bf16_mut)
    }

    /// After the copy was filled.
    pub(super) fn saved(self) -> Saved {
        let Factor { var, narrows, copy } = self;
        if !narrows {
            return var.clone_saved();
        }
        let value = var.kept.as_bf16.get_or_init(|| Arc::new(copy.expect("room of a new copy")));
        Saved { value: Arc::clone(value), grad: var.grad }
    }
}

/// Parts of `len` elements of a copy, `count` of them; empty ones of an empty copy.
pub(super) fn parts(copy: &mut [Bf16], len: usize, count: usize) -> Vec<&mut [Bf16]> {
    let mut parts: Vec<_> = copy.chunks_mut(len).collect();
    parts.resize_with(count, || &mut []);
    parts
}
