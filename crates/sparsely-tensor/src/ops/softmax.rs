//! Softmax over the last axis.

use super::attention::{softmax_rows, softmax_rows_backward};
use crate::DType;
use crate::tape::Var;
use rayon::prelude::*;
use std::sync::Arc;

/// Rows of a task.
const ROWS: usize = 256;

impl<'t> Var<'t> {
    /// softmax over the last axis: rows sum to 1.
    pub fn softmax(&self) -> Var<'t> {
        let (tape, width) = (self.tape, self.shape.width());
        let mut y = tape.pool().copy_of(self.values());
        let task = ROWS * width.max(1);
        y.as_f32_mut().par_chunks_mut(task).for_each(|y| softmax_rows(y, width, 1.0));

        let out = tape.grad_id_if(&[self]);
        let var = tape.var(self.shape, y, out);
        let (x, p) = (self.grad, Arc::clone(&var.value));
        tape.record(out, move |backward, dy| {
            let mut dx = backward.pool.take(DType::F32, dy.len());
            dx.as_f32_mut().copy_from_slice(dy.as_f32());
            let tasks = dx.as_f32_mut().par_chunks_mut(task).zip(p.as_f32().par_chunks(task));
            tasks.for_each(|(dx, p)| softmax_rows_backward(p, dx, width, 1.0));
            backward.give(x, dx);
        });
        var
    }
}
