//! An activation as an operation of its own, where no linear layer follows at once.

use super::saved::with_values;
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
        let (tasks, value) = (y.as_f32_mut().par_chunks_mut(TASK), &*self.value);
        tasks.enumerate().for_each(|(task, y)| {
            with_values(value, [task * TASK, y.len()], |x| activate(act, x, y));
        });

        let out = tape.grad_id_if(&[self]);
        let x = self.saved_as_stored();
        tape.record(out, move |backward, dy| {
            backward.contribute(x.grad, x.value.len(), |dx, write| {
                let tasks = dx.par_chunks_mut(TASK).zip(dy.as_f32().par_chunks(TASK));
                tasks.enumerate().for_each(|(task, (dx, dy))| {
                    with_scratch(dy.len(), |d| {
                        d.copy_from_slice(dy);
                        with_values(&x.value, [task * TASK, dy.len()], |x| {
                            activate_backward(act, x, d);
                        });
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
