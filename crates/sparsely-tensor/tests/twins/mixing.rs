//! Dense mixtures of rows within groups, and the logits and sums around them.

use super::attention::softmax;
use super::{Real, Twin, zeros};

/// Inputs: x `[T, D]`, mu `[D, N]`, scale `[1]` → scale · cosine, with eps in both squared norms.
pub(crate) struct CosineLogits {
    pub(crate) d: usize,
    pub(crate) eps: f64,
}

impl CosineLogits {
    /// For row t and column n: 1/‖x‖, 1/‖μ‖ and ⟨x, μ⟩.
    fn parts<R: Real>(&self, inputs: &[Vec<R>], t: usize, n: usize) -> [R; 3] {
        let columns = inputs[1].len() / self.d;
        let (x, mu) = (&inputs[0], &inputs[1]);
        let at = |i: usize| (x[t * self.d + i], mu[i * columns + n]);
        let sum = |f: fn((R, R)) -> R| -> R { (0..self.d).map(|i| f(at(i))).sum() };
        let inverse = |square: R| R::of(1.0) / (square + R::of(self.eps)).sqrt();
        [inverse(sum(|(x, _)| x * x)), inverse(sum(|(_, mu)| mu * mu)), sum(|(x, mu)| x * mu)]
    }
}

impl<R: Real> Twin<R> for CosineLogits {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        let (rows, columns) = (inputs[0].len() / self.d, inputs[1].len() / self.d);
        let logit = |t: usize, n: usize| {
            let [a, b, product] = self.parts(inputs, t, n);
            inputs[2][0] * a * b * product
        };
        (0..rows)
            .flat_map(|t| (0..columns).map(move |n| (t, n)))
            .map(|(t, n)| logit(t, n))
            .collect()
    }

    /// d(s a b ⟨x, μ⟩) with da = −a³ x dx and db = −b³ μ dμ.
    fn backward(&self, inputs: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        let [x, mu, scale] = inputs else { unreachable!("three inputs") };
        let (d, columns) = (self.d, mu.len() / self.d);
        let (mut dx, mut d_mu, mut d_scale) = (zeros(x.len()), zeros(mu.len()), zeros(1));
        for (at, dy) in dy.iter().enumerate() {
            let (t, n) = (at / columns, at % columns);
            let [a, b, product] = self.parts(inputs, t, n);
            let s = scale[0];
            d_scale[0] += *dy * a * b * product;
            for i in 0..d {
                let (x, mu) = (x[t * d + i], mu[i * columns + n]);
                dx[t * d + i] += *dy * s * b * (a * mu - a * a * a * x * product);
                d_mu[i * columns + n] += *dy * s * a * (b * x - b * b * b * mu * product);
            }
        }
        vec![dx, d_mu, d_scale]
    }
}

/// Inputs: x `[G·S, N]` → softmax over the rows of each group, by column.
pub(crate) struct SoftmaxColumns {
    pub(crate) s: usize,
    pub(crate) n: usize,
}

impl SoftmaxColumns {
    fn by_column<R: Real>(&self, x: &[R], of_column: impl Fn(&[R], usize) -> Vec<R>) -> Vec<R> {
        let mut y = zeros(x.len());
        for group in 0..x.len() / (self.s * self.n) {
            for n in 0..self.n {
                let at = |s: usize| (group * self.s + s) * self.n + n;
                let column: Vec<R> = (0..self.s).map(|s| x[at(s)]).collect();
                for (s, value) in of_column(&column, at(0)).into_iter().enumerate() {
                    y[at(s)] = value;
                }
            }
        }
        y
    }
}

impl<R: Real> Twin<R> for SoftmaxColumns {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        self.by_column(&inputs[0], |column, _| softmax(column))
    }

    /// dx = p (dy − Σ p dy).
    fn backward(&self, inputs: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        vec![self.by_column(&inputs[0], |column, first| {
            let p = softmax(column);
            let dy = |s: usize| dy[first + s * self.n];
            let total: R = (0..self.s).map(|s| p[s] * dy(s)).sum();
            (0..self.s).map(|s| p[s] * (dy(s) - total)).collect()
        })]
    }
}

/// Inputs: x `[G·S, D]`, weights `[G·S, N]` → `[G·N, D]`.
pub(crate) struct GatherMix {
    pub(crate) s: usize,
    pub(crate) n: usize,
    pub(crate) d: usize,
}

impl GatherMix {
    /// Calls `f(row element, weight, slot element)` with the indices of every product.
    fn each(&self, rows: usize, mut f: impl FnMut(usize, usize, usize)) {
        for t in 0..rows {
            for n in 0..self.n {
                for c in 0..self.d {
                    let slot = (t / self.s * self.n + n) * self.d + c;
                    f(t * self.d + c, t * self.n + n, slot);
                }
            }
        }
    }
}

impl<R: Real> Twin<R> for GatherMix {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        let (x, w) = (&inputs[0], &inputs[1]);
        let rows = x.len() / self.d;
        let mut y = zeros(rows / self.s * self.n * self.d);
        self.each(rows, |row, weight, slot| y[slot] += w[weight] * x[row]);
        y
    }

    fn backward(&self, inputs: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        let (x, w) = (&inputs[0], &inputs[1]);
        let (mut dx, mut dw) = (zeros(x.len()), zeros(w.len()));
        self.each(x.len() / self.d, |row, weight, slot| {
            dx[row] += w[weight] * dy[slot];
            dw[weight] += x[row] * dy[slot];
        });
        vec![dx, dw]
    }
}

/// Inputs: slots `[G·N, D]`, weights `[G·S, N]`, residual `[G·S, D]` → `[G·S, D]`.
pub(crate) struct ScatterMix {
    pub(crate) s: usize,
    pub(crate) n: usize,
    pub(crate) d: usize,
}

impl ScatterMix {
    fn each(&self, rows: usize, f: impl FnMut(usize, usize, usize)) {
        GatherMix { s: self.s, n: self.n, d: self.d }.each(rows, f);
    }
}

impl<R: Real> Twin<R> for ScatterMix {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        let (slots, w) = (&inputs[0], &inputs[1]);
        let mut y = inputs[2].clone();
        self.each(y.len() / self.d, |row, weight, slot| y[row] += w[weight] * slots[slot]);
        y
    }

    fn backward(&self, inputs: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        let (slots, w) = (&inputs[0], &inputs[1]);
        let (mut d_slots, mut dw) = (zeros(slots.len()), zeros(w.len()));
        self.each(dy.len() / self.d, |row, weight, slot| {
            d_slots[slot] += w[weight] * dy[row];
            dw[weight] += slots[slot] * dy[row];
        });
        vec![d_slots, dw, dy.to_vec()]
    }
}

/// Inputs: x `[N, D]`, gates `[N]`, residual `[T, D]`; entry n goes to row `rows[n]`.
pub(crate) struct ScatterRows {
    pub(crate) rows: Vec<u32>,
    pub(crate) d: usize,
}

impl<R: Real> Twin<R> for ScatterRows {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        let mut y = inputs[2].clone();
        for (n, t) in self.rows.iter().enumerate() {
            for c in 0..self.d {
                y[*t as usize * self.d + c] += inputs[1][n] * inputs[0][n * self.d + c];
            }
        }
        y
    }

    fn backward(&self, inputs: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        let (mut dx, mut dg) = (zeros(inputs[0].len()), zeros(self.rows.len()));
        for (n, t) in self.rows.iter().enumerate() {
            for c in 0..self.d {
                let dy = dy[*t as usize * self.d + c];
                dx[n * self.d + c] += inputs[1][n] * dy;
                dg[n] += inputs[0][n * self.d + c] * dy;
            }
        }
        vec![dx, dg, dy.to_vec()]
    }
}

/// Inputs: x, y → x·y by element.
pub(crate) struct Mul;

impl<R: Real> Twin<R> for Mul {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        inputs[0].iter().zip(&inputs[1]).map(|(x, y)| *x * *y).collect()
    }

    fn backward(&self, inputs: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        let times = |x: &[R]| dy.iter().zip(x).map(|(dy, x)| *dy * *x).collect();
        vec![times(&inputs[1]), times(&inputs[0])]
    }
}
