//! Values as another program keeps them: rounded to the upper half of an f32.

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

/// NaN stays NaN; what is beyond the largest bf16 becomes infinite.
fn nearest_bf16(x: f32) -> f32 {
    if x.is_nan() {
        return x;
    }
    let bits = x.to_bits();
    // Half a unit of the last kept place, less one where that place is even.
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    f32::from_bits(rounded & 0xffff_0000)
}

#[cfg(test)]
mod tests {
    use super::nearest_bf16;

    #[test]
    fn a_bf16_keeps_seven_bits_after_the_point() {
        // 1 + 1/256 is half way between 1 and 1 + 1/128: the even one is 1. Three halves go up.
        assert_eq!(nearest_bf16(1.0 + 1.0 / 256.0), 1.0);
        assert_eq!(nearest_bf16(1.0 + 3.0 / 256.0), 1.0 + 2.0 / 128.0);
        assert_eq!(nearest_bf16(-1.0 - 1.01 / 256.0), -1.0 - 1.0 / 128.0);
        assert_eq!(nearest_bf16(0.0).to_bits(), 0);
        assert_eq!(nearest_bf16(f32::MAX), f32::INFINITY);
        assert!(nearest_bf16(f32::NAN).is_nan());
    }
}
