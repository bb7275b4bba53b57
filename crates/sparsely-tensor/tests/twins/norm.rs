//! Layer normalisation of rows and of heads.

use super::{Real, Twin, indicator, zeros};

/// Inputs: x `[R, D]`, scale `[D]`, bias `[D]`.
pub(crate) struct LayerNorm {
    pub(crate) d: usize,
    pub(crate) eps: f64,
}

impl LayerNorm {
    /// x̂ = (x − mean) / √(var + eps) of one row, and 1 / √(var + eps).
    fn normalised<R: Real>(&self, x: &[R]) -> (Vec<R>, R) {
        let d = R::of(self.d as f64);
        let mean = x.iter().copied().sum::<R>() / d;
        let variance = x.iter().map(|x| (*x - mean) * (*x - mean)).sum::<R>() / d;
        let rstd = R::of(1.0) / (variance + R::of(self.eps)).sqrt();
        (x.iter().map(|x| (*x - mean) * rstd).collect(), rstd)
    }
}

impl<R: Real> Twin<R> for LayerNorm {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        let [x, scale, bias] = inputs else { unreachable!("three inputs") };
        let mut y = Vec::new();
        for row in x.chunks(self.d) {
            let (normal, _) = self.normalised(row);
            y.extend((0..self.d).map(|i| normal[i] * scale[i] + bias[i]));
        }
        y
    }

    /// ∂x̂_j/∂x_i = (δ_ij − 1/D − x̂_i x̂_j / D) / √(var + eps).
    fn backward(&self, inputs: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        let [x, scale, _] = inputs else { unreachable!("three inputs") };
        let d = R::of(self.d as f64);
        let (mut dx, mut d_scale, mut d_bias) = (Vec::new(), zeros(self.d), zeros(self.d));
        for (x, dy) in x.chunks(self.d).zip(dy.chunks(self.d)) {
            let (normal, rstd) = self.normalised(x);
            for i in 0..self.d {
                d_scale[i] += dy[i] * normal[i];
                d_bias[i] += dy[i];
                let jacobian = |j: usize| {
                    (indicator::<R>(i == j) - R::of(1.0) / d - normal[i] * normal[j] / d) * rstd
                };
                dx.push((0..self.d).map(|j| dy[j] * scale[j] * jacobian(j)).sum());
            }
        }
        vec![dx, d_scale, d_bias]
    }
}

/// Inputs: x `[R, parts·H·A]`, then a scale `[A]` for each leading part.
pub(crate) struct HeadNorm {
    pub(crate) heads: usize,
    pub(crate) a: usize,
    pub(crate) parts: usize,
    pub(crate) eps: f64,
}

impl HeadNorm {
    fn head(&self) -> LayerNorm {
        LayerNorm { d: self.a, eps: self.eps }
    }

    /// The part that the `index`-th run of A elements lies in.
    fn part(&self, index: usize) -> usize {
        index / self.heads % self.parts
    }
}

impl<R: Real> Twin<R> for HeadNorm {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        let mut y = Vec::new();
        for (index, x) in inputs[0].chunks(self.a).enumerate() {
            match inputs.get(1 + self.part(index)) {
                Some(scale) => {
                    y.extend(self.head().forward(&[x.to_vec(), scale.clone(), zeros(self.a)]));
                }
                None => y.extend(x),
            }
        }
        y
    }

    fn backward(&self, inputs: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        let mut grads: Vec<Vec<R>> = inputs.iter().map(|input| zeros(input.len())).collect();
        for (index, x) in inputs[0].chunks(self.a).enumerate() {
            let run = index * self.a..(index + 1) * self.a;
            let part = self.part(index);
            let Some(scale) = inputs.get(1 + part) else {
                grads[0][run.clone()].copy_from_slice(&dy[run]);
                continue;
            };
            let head = [x.to_vec(), scale.clone(), zeros(self.a)];
            let head_grads = self.head().backward(&head, &dy[run.clone()]);
            grads[0][run].copy_from_slice(&head_grads[0]);
            for i in 0..self.a {
                grads[1 + part][i] += head_grads[1][i];
            }
        }
        grads
    }
}
