//! The sums from which a router's auxiliary losses are made.

use super::attention::softmax;
use super::{Real, Twin, density, zeros};

/// Inputs: x `[G·S, E]` → `[G, E]`.
pub(crate) struct SumGroups {
    pub(crate) group_rows: usize,
    pub(crate) e: usize,
}

impl<R: Real> Twin<R> for SumGroups {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        let mut y = Vec::new();
        for group in inputs[0].chunks(self.group_rows * self.e) {
            for e in 0..self.e {
                y.push((0..self.group_rows).map(|s| group[s * self.e + e]).sum());
            }
        }
        y
    }

    fn backward(&self, _: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        vec![dy.chunks(self.e).flat_map(|dy| dy.repeat(self.group_rows)).collect()]
    }
}

/// Inputs: x `[G, E]` → mean over rows of var / mean².
pub(crate) struct CvSquared {
    pub(crate) e: usize,
}

impl<R: Real> Twin<R> for CvSquared {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        let (e, rows) = (R::of(self.e as f64), R::of((inputs[0].len() / self.e) as f64));
        let of_row = |x: &[R]| {
            let mean = x.iter().copied().sum::<R>() / e;
            x.iter().map(|x| (*x - mean) * (*x - mean)).sum::<R>() / e / (mean * mean)
        };
        vec![inputs[0].chunks(self.e).map(of_row).sum::<R>() / rows]
    }

    /// var/mean² = E Σx² / (Σx)² − 1, so the slope is 2 E x / (Σx)² − 2 E Σx² / (Σx)³.
    fn backward(&self, inputs: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        let rows = R::of((inputs[0].len() / self.e) as f64);
        let two_e = R::of(2.0 * self.e as f64);
        let mut dx = Vec::new();
        for x in inputs[0].chunks(self.e) {
            let sum: R = x.iter().copied().sum();
            let squares: R = x.iter().map(|x| *x * *x).sum();
            let slope = |x: R| two_e * x / (sum * sum) - two_e * squares / (sum * sum * sum);
            dx.extend(x.iter().map(|x| dy[0] * slope(*x) / rows));
        }
        vec![dx]
    }
}

/// Inputs: x `[T, E]` → mean over rows of log(Σ eˣ)².
pub(crate) struct MeanSquaredLogSumExp {
    pub(crate) e: usize,
}

fn log_sum_exp<R: Real>(x: &[R]) -> R {
    x.iter().map(|x| x.exp()).sum::<R>().ln()
}

impl<R: Real> Twin<R> for MeanSquaredLogSumExp {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        let rows = R::of((inputs[0].len() / self.e) as f64);
        vec![inputs[0].chunks(self.e).map(|x| log_sum_exp(x) * log_sum_exp(x)).sum::<R>() / rows]
    }

    fn backward(&self, inputs: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        let rows = R::of((inputs[0].len() / self.e) as f64);
        let slopes = |x: &[R]| -> Vec<R> {
            let factor = dy[0] * R::of(2.0) * log_sum_exp(x) / rows;
            softmax(x).into_iter().map(|p| factor * p).collect()
        };
        vec![inputs[0].chunks(self.e).flat_map(slopes).collect()]
    }
}

/// Inputs: x `[T, E]`, noisy `[T, E]` → Φ((x − θ)/σ), θ the k-th largest of the noisy row.
pub(crate) struct ChanceAmongLargest {
    pub(crate) e: usize,
    pub(crate) k: usize,
    pub(crate) sigma: f64,
}

impl ChanceAmongLargest {
    /// The element that k − 1 others are ahead of; of equal ones, the first is ahead.
    fn threshold<R: Real>(&self, noisy: &[R]) -> usize {
        let is_ahead = |a: usize, b: usize| noisy[a] > noisy[b] || (noisy[a] == noisy[b] && a < b);
        let rank = |b: usize| (0..self.e).filter(|a| is_ahead(*a, b)).count();
        (0..self.e).find(|b| rank(*b) == self.k - 1).expect("ranks are 0..E")
    }
}

impl<R: Real> Twin<R> for ChanceAmongLargest {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        let mut y = Vec::new();
        for (x, noisy) in inputs[0].chunks(self.e).zip(inputs[1].chunks(self.e)) {
            let theta = noisy[self.threshold(noisy)];
            y.extend(x.iter().map(|x| ((*x - theta) / R::of(self.sigma)).normal_cdf()));
        }
        y
    }

    fn backward(&self, inputs: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        let (mut dx, mut d_noisy) = (zeros(dy.len()), zeros(dy.len()));
        let sigma = R::of(self.sigma);
        for row in 0..dy.len() / self.e {
            let first = row * self.e;
            let at = first + self.threshold(&inputs[1][first..first + self.e]);
            for i in first..first + self.e {
                let d = dy[i] * density((inputs[0][i] - inputs[1][at]) / sigma) / sigma;
                dx[i] += d;
                d_noisy[at] -= d;
            }
        }
        vec![dx, d_noisy]
    }
}
