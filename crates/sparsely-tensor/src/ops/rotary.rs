//! Rotary positions (Su et al. 2021, arXiv 2104.09864), on a part of each head's channels.

use crate::tape::Var;
use crate::{DType, Error, Result};
use rayon::prelude::*;

/// Which channels turn, and from which place on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rotary {
    /// A.
    pub head_width: usize,
    /// n, even: the first channels of each head. Channel i turns with channel i + n/2 by
    /// place · base^(−2i/n).
    pub channels: usize,
    /// The place of the first row of each sequence.
    pub first: usize,
    /// 10⁴ in the paper.
    pub base: f64,
}

impl<'t> Var<'t> {
    /// Turns each head by its place: `[B, L, H·A]` → same shape; (x₁, x₂) → (x₁ cos − x₂ sin, x₂ cos + x₁ sin).
    ///
    /// # Errors
    /// If the width is not a multiple of A, or n is odd or above A.
    pub fn rotary(&self, rotary: &Rotary) -> Result<Var<'t>> {
        let [_, l, width] = self.dims("rotary")?;
        let &Rotary { head_width: a, channels: n, .. } = rotary;
        if a == 0 || !width.is_multiple_of(a) || !n.is_multiple_of(2) || n > a {
            let expected = format!("rows of H·{a} and an even number of channels up to {a}");
            return Err(Error::shape("rotary", expected, format!("rows of {width}, {n} channels")));
        }
        if n == 0 {
            return Ok(self.clone());
        }
        let tape = self.tape;
        let table = rotary.table(l);
        let mut y = tape.pool().copy_of(self.values());
        turn(y.as_f32_mut(), &table, [l, width, a], 1.0);
        let out = tape.grad_id_if(&[self]);
        let x = self.grad;
        tape.record(out, move |backward, dy| {
            let mut dx = backward.pool.take(DType::F32, dy.len());
            dx.as_f32_mut().copy_from_slice(dy.as_f32());
            turn(dx.as_f32_mut(), &table, [l, width, a], -1.0);
            backward.give(x, dx);
        });
        Ok(tape.var(self.shape, y, out))
    }
}

impl Rotary {
    /// cos and sin of each angle, `[L, n/2]` pairs.
    fn table(&self, l: usize) -> Vec<(f32, f32)> {
        let angle = |place: usize, i: usize| {
            place as f64 * self.base.powf(-2.0 * i as f64 / self.channels as f64)
        };
        let places = self.first..self.first + l;
        places
            .flat_map(|place| (0..self.channels / 2).map(move |i| angle(place, i)))
            .map(|angle| (angle.cos() as f32, angle.sin() as f32))
            .collect()
    }
}

fn turn(x: &mut [f32], table: &[(f32, f32)], [l, width, a]: [usize; 3], direction: f32) {
    let half = table.len() / l.max(1);
    x.par_chunks_mut((l * width).max(1)).for_each(|x| {
        for (row, angles) in x.chunks_mut(width).zip(table.chunks(half)) {
            for head in row.chunks_mut(a) {
                let (first, second) = head.split_at_mut(half);
                for ((x1, x2), (cos, sin)) in first.iter_mut().zip(second).zip(angles) {
                    let sin = direction * sin;
                    (*x1, *x2) = (*x1 * cos - *x2 * sin, *x2 * cos + *x1 * sin);
                }
            }
        }
    });
}
