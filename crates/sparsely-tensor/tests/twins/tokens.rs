//! Operations along the middle axis of `[B, L, D]`.

use super::{Real, Twin, zeros};

/// Inputs: x `[B, L, D]`, row `[D]`.
pub(crate) struct Prepend {
    pub(crate) l: usize,
    pub(crate) d: usize,
}

impl<R: Real> Twin<R> for Prepend {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        let images = inputs[0].chunks(self.l * self.d);
        images.flat_map(|image| [inputs[1].as_slice(), image].concat()).collect()
    }

    fn backward(&self, _: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        let (mut dx, mut d_row) = (Vec::new(), zeros(self.d));
        for image in dy.chunks((self.l + 1) * self.d) {
            for i in 0..self.d {
                d_row[i] += image[i];
            }
            dx.extend(&image[self.d..]);
        }
        vec![dx, d_row]
    }
}

/// Inputs: x, p, whose elements are repeated over those of x.
pub(crate) struct AddRepeated;

impl<R: Real> Twin<R> for AddRepeated {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        let [x, p] = inputs else { unreachable!("two inputs") };
        x.iter().enumerate().map(|(i, x)| *x + p[i % p.len()]).collect()
    }

    fn backward(&self, inputs: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        let mut dp = zeros(inputs[1].len());
        let len = dp.len();
        for (i, dy) in dy.iter().enumerate() {
            dp[i % len] += *dy;
        }
        vec![dy.to_vec(), dp]
    }
}

/// Inputs: x `[L·D]` → `times` copies.
pub(crate) struct Repeat {
    pub(crate) times: usize,
}

impl<R: Real> Twin<R> for Repeat {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        inputs[0].repeat(self.times)
    }

    fn backward(&self, inputs: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        let len = inputs[0].len();
        vec![(0..len).map(|i| (0..self.times).map(|b| dy[b * len + i]).sum()).collect()]
    }
}

/// Inputs: x `[B, L, D]` → `[B, D]`.
pub(crate) struct SelectToken {
    pub(crate) l: usize,
    pub(crate) d: usize,
    pub(crate) index: usize,
}

impl<R: Real> Twin<R> for SelectToken {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        let images = inputs[0].chunks(self.l * self.d);
        images.flat_map(|image| image[self.index * self.d..][..self.d].to_vec()).collect()
    }

    fn backward(&self, inputs: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        let mut dx = zeros(inputs[0].len());
        for (b, dy) in dy.chunks(self.d).enumerate() {
            dx[(b * self.l + self.index) * self.d..][..self.d].copy_from_slice(dy);
        }
        vec![dx]
    }
}

/// Inputs: x `[B, L, D]` → `[B, D]`.
pub(crate) struct MeanTokens {
    pub(crate) l: usize,
    pub(crate) d: usize,
}

impl<R: Real> Twin<R> for MeanTokens {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        let mut y = Vec::new();
        for image in inputs[0].chunks(self.l * self.d) {
            for i in 0..self.d {
                let column: R = (0..self.l).map(|l| image[l * self.d + i]).sum();
                y.push(column / R::of(self.l as f64));
            }
        }
        y
    }

    fn backward(&self, _: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        let row = |dy: &[R]| dy.iter().map(|dy| *dy / R::of(self.l as f64)).collect::<Vec<R>>();
        vec![dy.chunks(self.d).flat_map(|dy| row(dy).repeat(self.l)).collect()]
    }
}
