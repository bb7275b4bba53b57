//! Dropout whose mask is drawn again in the backward pass instead of being kept.

use crate::tape::{Var, Write};
use crate::{Error, Result};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use rayon::prelude::*;

/// Elements that share a stream of the generator.
const TASK: usize = 1 << 12;

impl<'t> Var<'t> {
    /// x / (1 − rate) where a draw keeps the element, else 0. Rate 0 is the identity.
    ///
    /// # Errors
    /// If `rate` is not in [0, 1).
    pub fn dropout(&self, rate: f32, seed: u64) -> Result<Var<'t>> {
        if !(0.0..1.0).contains(&rate) {
            return Err(Error::shape("dropout", "a rate in [0, 1)", format!("{rate}")));
        }
        if rate == 0.0 {
            return Ok(self.clone());
        }
        let tape = self.tape;
        let mut y = tape.take(self.shape.len());
        masked(self.values(), y.as_f32_mut(), rate, seed, Write::Replace);

        let out = tape.grad_id_if(&[self]);
        let (x, len) = (self.grad, self.shape.len());
        tape.record(out, move |backward, dy| {
            backward.contribute(x, len, |dx, write| masked(dy.as_f32(), dx, rate, seed, write));
        });
        Ok(tape.var(self.shape, y, out))
    }
}

fn masked(x: &[f32], y: &mut [f32], rate: f32, seed: u64, write: Write) {
    let keep = 1.0 / (1.0 - rate);
    // 2³² · rate fits: rate < 1.
    let threshold = (f64::from(rate) * f64::from(u32::MAX)) as u32;
    y.par_chunks_mut(TASK).zip(x.par_chunks(TASK)).enumerate().for_each(|(task, (y, x))| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(task as u64);
        for (y, x) in y.iter_mut().zip(x) {
            let value = if rng.next_u32() < threshold { 0.0 } else { keep * x };
            match write {
                Write::Replace => *y = value,
                Write::Add => *y += value,
            }
        }
    });
}
