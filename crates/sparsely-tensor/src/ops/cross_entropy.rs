//! Task losses: sums over classes, means over rows, summed in f64.

use crate::tape::{Var, Write};
use crate::{Error, Result, Shape};

/// Which task loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrossEntropy {
    /// −Σ_v t_v · log softmax(x)_v.
    Softmax,
    /// −Σ_v (t_v · log σ(x_v) + (1 − t_v) · log(1 − σ(x_v))).
    Sigmoid,
}

impl CrossEntropy {
    /// Loss of one row; `grad` gets its derivative.
    fn row(self, logits: &[f32], targets: &[f32], grad: &mut [f64]) -> f64 {
        match self {
            CrossEntropy::Softmax => softmax_row(logits, targets, grad),
            CrossEntropy::Sigmoid => sigmoid_row(logits, targets, grad),
        }
    }
}

fn softmax_row(logits: &[f32], targets: &[f32], grad: &mut [f64]) -> f64 {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let log_sum = max + logits.iter().map(|x| (f64::from(*x) - max).exp()).sum::<f64>().ln();
    let mass: f64 = targets.iter().map(|t| f64::from(*t)).sum();
    let mut loss = 0.0;
    for ((x, t), g) in logits.iter().zip(targets).zip(grad) {
        let log_p = f64::from(*x) - log_sum;
        loss -= f64::from(*t) * log_p;
        *g = mass * log_p.exp() - f64::from(*t);
    }
    loss
}

fn sigmoid_row(logits: &[f32], targets: &[f32], grad: &mut [f64]) -> f64 {
    let mut loss = 0.0;
    for ((x, t), g) in logits.iter().zip(targets).zip(grad) {
        let (x, t) = (f64::from(*x), f64::from(*t));
        // log(1 + eˣ) without overflow.
        loss += x.max(0.0) + (-x.abs()).exp().ln_1p() - t * x;
        *g = 1.0 / (1.0 + (-x).exp()) - t;
    }
    loss
}

impl<'t> Var<'t> {
    /// Mean over rows of the loss of logits `[B, V]` against `targets` (`B·V` values, each a
    /// probability) → one element.
    ///
    /// # Errors
    /// If the number of targets is not that of the logits, or there are none.
    pub fn cross_entropy(&self, kind: CrossEntropy, targets: &[f32]) -> Result<Var<'t>> {
        let [b, v] = self.dims("cross_entropy")?;
        if targets.len() != b * v || targets.is_empty() {
            let expected = format!("{} targets, at least one", b * v);
            return Err(Error::shape("cross_entropy", expected, format!("{}", targets.len())));
        }
        let tape = self.tape;
        let mut dx = tape.take(b * v);
        let mut row_grad = vec![0.0; v];
        let mut total = 0.0;
        let rows =
            self.values().chunks(v).zip(targets.chunks(v)).zip(dx.as_f32_mut().chunks_mut(v));
        for ((logits, targets), dx) in rows {
            total += kind.row(logits, targets, &mut row_grad);
            dx.iter_mut().zip(&row_grad).for_each(|(d, g)| *d = (*g / b as f64) as f32);
        }
        let loss = tape.pool().copy_of(&[(total / b as f64) as f32]);

        let out = tape.grad_id_if(&[self]);
        let x = self.grad;
        tape.record(out, move |backward, dy| {
            let factor = dy.as_f32()[0];
            backward.contribute(x, b * v, |grad, write| {
                for (g, d) in grad.iter_mut().zip(dx.as_f32()) {
                    match write {
                        Write::Replace => *g = factor * d,
                        Write::Add => *g += factor * d,
                    }
                }
            });
        });
        Ok(tape.var(Shape::from([1]), loss, out))
    }
}
