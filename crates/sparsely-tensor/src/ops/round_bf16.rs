//! Values as another program keeps them: rounded to the upper half of an f32.

use crate::precision::nearest_bf16;
use crate::tape::Var;
use rayon::prelude::*;

const TASK: usize = 1 << 14;

impl<'t> Var<'t> {
    /// Each value rounded to the nearest bf16, ties to even; the gradient is rounded likewise, as
    /// a cast to bf16 and back rounds it.
    pub fn round_bf16(&self) -> Var<'t> {
        let tape = self.tape;
        let mut y = tape.pool().copy_of(self.values());
        round(y.as_f32_mut());
        let out = tape.grad_id_if(&[self]);
        let x = self.grad;
        tape.record(out, move |backward, mut dy| {
            round(dy.as_f32_mut());
            backward.give(x, dy);
        });
        tape.var(self.shape, y, out)
    }
}

fn round(values: &mut [f32]) {
    values.par_chunks_mut(TASK).for_each(|values| {
        for value in values {
            *value = nearest_bf16(*value);
        }
    });
}
