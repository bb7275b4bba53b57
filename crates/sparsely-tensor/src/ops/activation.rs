//! An activation as an operation of its own, where no linear layer follows at once.

use crate::kernel::elementwise::{Activation, activate, activate_backward, add_slice};
use crate::kernel::scratch::with_scratch;
use crate::tape::{Var, Write};
use rayon::prelude::*;

const TASK: usize = 1 << 14;

impl<'t> Var<'t> {
    /// act(x), of any shape.
    pub fn activation(&self, act: Activation) -> Var<'t> {
        let tape = self.tape;
        let mut y = tape.take(self.shape.len());
        let tasks = y.as_f32_mut().par_chunks_mut(TASK).zip(self.values().par_chunks(TASK));
        tasks.for_each(|(y, x)| activate(act, x, y));

        let out = tape.grad_id_if(&[self]);
        let x = self.clone_saved();
        tape.record(out, move |backward, dy| {
            backward.contribute(x.grad, x.value.len(), |dx, write| {
                let tasks = dx.par_chunks_mut(TASK).zip(dy.as_f32().par_chunks(TASK));
                tasks.zip(x.value.as_f32().par_chunks(TASK)).for_each(|((dx, dy), x)| {
                    with_scratch(dy.len(), |d| {
                        d.copy_from_slice(dy);
                        activate_backward(act, x, d);
                        match write {
                            Write::Replace => dx.copy_from_slice(d),
                            Write::Add => add_slice(dx, d),
                        }
                    });
                });
            });
        });
        tape.var(self.shape, y, out)
    }
}
