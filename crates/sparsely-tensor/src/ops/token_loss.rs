//! Cross-entropy against one class a row, for vocabularies.

use crate::kernel::isa::simd;
use crate::kernel::{math, reduce};
use crate::tape::{Var, Write};
use crate::{Error, Result, Shape};
use rayon::prelude::*;

impl<'t> Var<'t> {
    /// −log softmax(x)_target of each row of logits `[T, V]`, in nats. Carries no gradient.
    ///
    /// # Errors
    /// If there is not one target below V for each row.
    pub fn token_losses(&self, targets: &[u32]) -> Result<Vec<f64>> {
        let v = self.check_targets("token_losses", targets)?;
        let sums = log_sums(self.values(), v);
        let rows = self.values().chunks(v).zip(targets).zip(&sums);
        Ok(rows.map(|((row, target), sum)| sum - f64::from(row[*target as usize])).collect())
    }

    /// The mean of [`Var::token_losses`] → one element. The softmax is computed again on the way back.
    ///
    /// # Errors
    /// As [`Var::token_losses`], or if there are no rows.
    pub fn token_cross_entropy(&self, targets: &[u32]) -> Result<Var<'t>> {
        let v = self.check_targets("token_cross_entropy", targets)?;
        let t = targets.len();
        if t == 0 {
            return Err(Error::shape("token_cross_entropy", "at least one row", "0"));
        }
        let sums = log_sums(self.values(), v);
        let rows = self.values().chunks(v).zip(targets).zip(&sums);
        let total: f64 =
            rows.map(|((row, target), sum)| sum - f64::from(row[*target as usize])).sum();
        let tape = self.tape;
        let out = tape.grad_id_if(&[self]);
        let (x, targets) = (self.clone_saved(), targets.to_vec());
        tape.record(out, move |backward, dy| {
            let factor = dy.as_f32()[0] / t as f32;
            backward.contribute(x.grad, t * v, |dx, write| {
                let rows = dx.par_chunks_mut(v).zip(x.value.as_f32().par_chunks(v));
                rows.zip(targets.par_iter().zip(&sums)).for_each(|((dx, x), (target, sum))| {
                    probabilities(dx, x, *sum as f32, factor, write == Write::Add);
                    dx[*target as usize] -= factor;
                });
            });
        });
        let mean = (total / t as f64) as f32;
        Ok(tape.var(Shape::from([1]), tape.pool().copy_of(&[mean]), out))
    }

    fn check_targets(&self, op: &'static str, targets: &[u32]) -> Result<usize> {
        let [t, v] = self.dims(op)?;
        let beyond = targets.iter().find(|target| **target as usize >= v);
        if targets.len() != t || beyond.is_some() {
            let got = match beyond {
                Some(target) => format!("a target {target}"),
                None => format!("{} targets", targets.len()),
            };
            return Err(Error::shape(op, format!("{t} targets below {v}"), got));
        }
        Ok(v)
    }
}

/// log Σ eˣ of each row.
fn log_sums(x: &[f32], v: usize) -> Vec<f64> {
    x.par_chunks(v).map(log_sum).collect()
}

simd! {
    fn log_sum<I>(x: &[f32]) -> f64 {
        let max = reduce::max(x);
        // Sums of at most 4096 in f32, those in f64.
        let mut total = 0.0_f64;
        for part in x.chunks(4096) {
            let mut lanes = [0.0_f32; 16];
            let chunks = part.chunks_exact(16);
            let rest = chunks.remainder();
            for chunk in chunks {
                for lane in 0..16 {
                    lanes[lane] += math::exp_of_negative::<I>(chunk[lane] - max);
                }
            }
            for (lane, x) in lanes.iter_mut().zip(rest) {
                *lane += math::exp_of_negative::<I>(*x - max);
            }
            for lane in lanes {
                total += f64::from(lane);
            }
        }
        f64::from(max) + total.ln()
    }
}

simd! {
    /// `y (+)= factor · exp(x − log_sum)`.
    fn probabilities<I>(y: &mut [f32], x: &[f32], log_sum: f32, factor: f32, adds: bool) {
        for (y, x) in y.iter_mut().zip(x) {
            // A probability is at most 1, but for rounding.
            let p = factor * math::exp::<I>(*x - log_sum);
            *y = if adds { *y + p } else { p };
        }
    }
}
