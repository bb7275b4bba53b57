//! Glue: elements picked, terms weighted; and the task losses.

use super::attention::softmax;
use super::{Real, Twin, zeros};
use sparsely_tensor::CrossEntropy as Kind;

/// Inputs: x → its elements at `indices`.
pub(crate) struct Pick {
    pub(crate) indices: Vec<u32>,
}

impl<R: Real> Twin<R> for Pick {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        self.indices.iter().map(|index| inputs[0][*index as usize]).collect()
    }

    fn backward(&self, inputs: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        let mut dx = zeros(inputs[0].len());
        for (index, dy) in self.indices.iter().zip(dy) {
            dx[*index as usize] += *dy;
        }
        vec![dx]
    }
}

/// Inputs: terms of one element.
pub(crate) struct WeightedSum {
    pub(crate) weights: Vec<f32>,
}

impl<R: Real> Twin<R> for WeightedSum {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        vec![inputs.iter().zip(&self.weights).map(|(x, w)| x[0] * R::of((*w).into())).sum()]
    }

    fn backward(&self, _: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        self.weights.iter().map(|w| vec![dy[0] * R::of((*w).into())]).collect()
    }
}

/// Inputs: x → Σ c·x.
pub(crate) struct DotConstant {
    pub(crate) coefficients: Vec<f64>,
}

impl<R: Real> Twin<R> for DotConstant {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        vec![inputs[0].iter().zip(&self.coefficients).map(|(x, c)| *x * R::of(*c)).sum()]
    }

    fn backward(&self, _: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        vec![self.coefficients.iter().map(|c| dy[0] * R::of(*c)).collect()]
    }
}

/// Inputs: logits `[B, V]` → the mean loss over rows.
pub(crate) struct CrossEntropy {
    pub(crate) kind: Kind,
    pub(crate) v: usize,
    pub(crate) targets: Vec<f32>,
}

fn sigmoid<R: Real>(x: R) -> R {
    R::of(1.0) / (R::of(1.0) + (-x).exp())
}

impl<R: Real> Twin<R> for CrossEntropy {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        let (one, rows) = (R::of(1.0), R::of((inputs[0].len() / self.v) as f64));
        let mut loss = R::of(0.0);
        for (x, t) in inputs[0].chunks(self.v).zip(self.targets.chunks(self.v)) {
            let p = softmax(x);
            for v in 0..self.v {
                let t = R::of(t[v].into());
                loss -= match self.kind {
                    Kind::Softmax => t * p[v].ln(),
                    Kind::Sigmoid => {
                        t * sigmoid(x[v]).ln() + (one - t) * (one - sigmoid(x[v])).ln()
                    }
                };
            }
        }
        vec![loss / rows]
    }

    /// Softmax: ∂L/∂x_v = Σ_w t_w (p_v − δ_vw). Sigmoid: σ(x_v) − t_v.
    fn backward(&self, inputs: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        let rows = R::of((inputs[0].len() / self.v) as f64);
        let mut dx = Vec::new();
        for (x, t) in inputs[0].chunks(self.v).zip(self.targets.chunks(self.v)) {
            let p = softmax(x);
            let mass: R = t.iter().map(|t| R::of((*t).into())).sum();
            for v in 0..self.v {
                let expected = match self.kind {
                    Kind::Softmax => mass * p[v],
                    Kind::Sigmoid => sigmoid(x[v]),
                };
                dx.push(dy[0] * (expected - R::of(t[v].into())) / rows);
            }
        }
        vec![dx]
    }
}
