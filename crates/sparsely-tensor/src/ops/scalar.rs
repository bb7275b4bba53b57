//! Small glue: sums of losses, constants added, elements picked.

use crate::kernel::elementwise::{add_slice, scale};
use crate::slab::Param;
use crate::tape::{Tape, Var, Write};
use crate::{Error, Result, Shape};
use rayon::prelude::*;
use std::sync::Arc;

/// Elements of a task.
const TASK: usize = 1 << 14;

fn scale_all(y: &mut [f32], factor: f32) {
    y.par_chunks_mut(TASK).for_each(|y| scale(y, factor));
}

impl<'p> Tape<'p> {
    /// Σ weight · term over terms of one element each → one element.
    ///
    /// # Errors
    /// If a term has more than one element.
    pub fn weighted_sum<'t>(&'t self, terms: &[(Var<'t>, f32)]) -> Result<Var<'t>> {
        if let Some((term, _)) = terms.iter().find(|(term, _)| term.shape.len() != 1) {
            let got = format!("{:?}", term.shape);
            return Err(Error::shape("weighted_sum", "terms of one element", got));
        }
        let total: f64 =
            terms.iter().map(|(term, w)| f64::from(term.values()[0]) * f64::from(*w)).sum();
        let inputs: Vec<&Var<'t>> = terms.iter().map(|(term, _)| term).collect();
        let out = self.grad_id_if(&inputs);
        let sources: Vec<_> = terms.iter().map(|(term, w)| (term.grad, *w)).collect();
        self.record(out, move |backward, dy| {
            for (source, weight) in sources {
                let contribution = backward.pool.copy_of(&[weight * dy.as_f32()[0]]);
                backward.give(source, contribution);
            }
        });
        Ok(self.var(Shape::from([1]), self.pool().copy_of(&[total as f32]), out))
    }
}

impl<'t> Var<'t> {
    /// x + other, of one shape, where no fused operation takes the residual.
    ///
    /// # Errors
    /// If the numbers of elements differ.
    pub fn add(&self, other: &Var<'t>) -> Result<Var<'t>> {
        if other.shape.len() != self.shape.len() {
            let expected = format!("{:?}", self.shape);
            return Err(Error::shape("add", expected, format!("{:?}", other.shape)));
        }
        let mut y = self.tape.pool().copy_of(self.values());
        crate::kernel::elementwise::add(y.as_f32_mut(), other.values());
        let out = self.tape.grad_id_if(&[self, other]);
        let (x, other) = (self.grad, other.grad);
        self.tape.record(out, move |backward, dy| {
            if x.is_some() && other.is_some() {
                let copy = backward.pool.copy_of(dy.as_f32());
                backward.give(other, copy);
                backward.give(x, dy);
            } else {
                backward.give(x.or(other), dy);
            }
        });
        Ok(self.tape.var(self.shape, y, out))
    }

    /// x · other, element by element.
    ///
    /// # Errors
    /// If the numbers of elements differ.
    pub fn mul(&self, other: &Var<'t>) -> Result<Var<'t>> {
        if other.shape.len() != self.shape.len() {
            let expected = format!("{:?}", self.shape);
            return Err(Error::shape("mul", expected, format!("{:?}", other.shape)));
        }
        let mut y = self.tape.pool().copy_of(self.values());
        y.as_f32_mut().iter_mut().zip(other.values()).for_each(|(y, other)| *y *= other);
        let out = self.tape.grad_id_if(&[self, other]);
        let (x, other) = (self.clone_saved(), other.clone_saved());
        self.tape.record(out, move |backward, dy| {
            for (to, factor) in [(&x, &other), (&other, &x)] {
                let mut grad = backward.pool.copy_of(dy.as_f32());
                let factor = factor.value.as_f32();
                grad.as_f32_mut().iter_mut().zip(factor).for_each(|(g, f)| *g *= f);
                backward.give(to.grad, grad);
            }
        });
        Ok(self.tape.var(self.shape, y, out))
    }

    /// s · x with a parameter s of one element.
    ///
    /// # Errors
    /// If the parameter has more elements.
    pub fn scaled(&self, s: &Param) -> Result<Var<'t>> {
        if s.shape().len() != 1 {
            return Err(Error::shape("scaled", "a single factor", format!("{:?}", s.shape())));
        }
        let tape = self.tape;
        let mut y = tape.pool().copy_of(self.values());
        scale_all(y.as_f32_mut(), tape.slab().view(s)[0]);
        let out = tape.grad_id();
        let (x, s) = (self.clone_saved(), *s);
        tape.record(out, move |backward, mut dy| {
            // Sums of fixed pieces in order, in f64.
            let tasks = x.value.as_f32().par_chunks(TASK).zip(dy.as_f32().par_chunks(TASK));
            let product = |(x, dy): (&f32, &f32)| f64::from(*x) * f64::from(*dy);
            let sums: Vec<f64> = tasks.map(|(x, dy)| x.iter().zip(dy).map(product).sum()).collect();
            backward.param_grad(&s)[0] += sums.iter().sum::<f64>() as f32;
            scale_all(dy.as_f32_mut(), backward.params.view(&s)[0]);
            backward.give(x.grad, dy);
        });
        Ok(tape.var(self.shape, y, out))
    }

    /// x + c, with `values` repeated over the leading axes (noise, fixed positions).
    ///
    /// # Errors
    /// If the number of elements is not a multiple of that of `values`.
    pub fn add_constant(&self, values: &[f32]) -> Result<Var<'t>> {
        if values.is_empty() || !self.shape.len().is_multiple_of(values.len()) {
            let expected = format!("a divisor of {} values", self.shape.len());
            return Err(Error::shape("add_constant", expected, format!("{}", values.len())));
        }
        let mut y = self.tape.pool().copy_of(self.values());
        y.as_f32_mut().chunks_mut(values.len()).for_each(|y| add_slice(y, values));
        // The gradient of a sum is the gradient of its term: they share one place.
        Ok(self.tape.var(self.shape, y, self.grad))
    }

    /// `y_n = x[index_n]` of the flattened x → `[N]`.
    ///
    /// # Errors
    /// If an index is out of range.
    pub fn pick(&self, indices: &Arc<Vec<u32>>) -> Result<Var<'t>> {
        let len = self.shape.len();
        if let Some(index) = indices.iter().find(|index| **index as usize >= len) {
            let expected = format!("indices below {len}");
            return Err(Error::shape("pick", expected, format!("{index}")));
        }
        let tape = self.tape;
        let mut y = tape.take(indices.len());
        for (y, index) in y.as_f32_mut().iter_mut().zip(indices.iter()) {
            *y = self.values()[*index as usize];
        }
        let out = tape.grad_id_if(&[self]);
        let (x, picked) = (self.grad, Arc::clone(indices));
        tape.record(out, move |backward, dy| {
            backward.contribute(x, len, |dx, write| {
                if write == Write::Replace {
                    dx.fill(0.0);
                }
                for (d, index) in dy.as_f32().iter().zip(picked.iter()) {
                    dx[*index as usize] += d;
                }
            });
        });
        Ok(tape.var(Shape::from([indices.len()]), y, out))
    }
}
