//! Softmax and attention.

use super::{Real, Twin, indicator, zeros};

pub(crate) fn softmax<R: Real>(x: &[R]) -> Vec<R> {
    // Shifted by an element, which changes nothing but the range: inputs of tests are small.
    let sum: R = x.iter().map(|v| (*v - x[0]).exp()).sum();
    x.iter().map(|v| (*v - x[0]).exp() / sum).collect()
}

/// Σ_j dp_j ∂p_j/∂x_i with ∂p_j/∂x_i = p_j (δ_ij − p_i).
fn softmax_backward<R: Real>(p: &[R], dp: &[R]) -> Vec<R> {
    let slope = |i: usize, j: usize| p[j] * (indicator::<R>(i == j) - p[i]);
    (0..p.len()).map(|i| (0..p.len()).map(|j| dp[j] * slope(i, j)).sum()).collect()
}

/// Inputs: x `[R, D]`.
pub(crate) struct Softmax {
    pub(crate) d: usize,
}

impl<R: Real> Twin<R> for Softmax {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        inputs[0].chunks(self.d).flat_map(softmax).collect()
    }

    fn backward(&self, inputs: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        let rows = inputs[0].chunks(self.d).zip(dy.chunks(self.d));
        vec![rows.flat_map(|(x, dy)| softmax_backward(&softmax(x), dy)).collect()]
    }
}

/// Inputs: q `[B, Q, H·A]`, kv `[B, L, 2·H·A]`.
#[derive(Clone, Copy)]
pub(crate) struct CrossAttention {
    pub(crate) b: usize,
    pub(crate) q: usize,
    pub(crate) l: usize,
    pub(crate) heads: usize,
    pub(crate) a: usize,
}

impl CrossAttention {
    fn scale<R: Real>(&self) -> R {
        R::of(1.0) / R::of(self.a as f64).sqrt()
    }

    /// Where element `c` of head `h` of query `i` of image `b` lies in q and in the output.
    fn at_q(&self, b: usize, i: usize, h: usize, c: usize) -> usize {
        ((b * self.q + i) * self.heads + h) * self.a + c
    }

    /// The same of key `m` in kv; its value lies H·A further on.
    fn at_k(&self, b: usize, m: usize, h: usize, c: usize) -> usize {
        ((b * self.l + m) * 2 * self.heads + h) * self.a + c
    }

    fn at_v(&self, b: usize, m: usize, h: usize, c: usize) -> usize {
        self.at_k(b, m, h, c) + self.heads * self.a
    }

    /// The weights of one query over the memory.
    fn weights<R: Real>(&self, q: &[R], kv: &[R], [b, i, h]: [usize; 3]) -> Vec<R> {
        let logit = |m: usize| -> R {
            (0..self.a).map(|c| q[self.at_q(b, i, h, c)] * kv[self.at_k(b, m, h, c)]).sum()
        };
        let logits: Vec<R> = (0..self.l).map(|m| logit(m) * self.scale()).collect();
        softmax(&logits)
    }

    fn queries(&self) -> impl Iterator<Item = [usize; 3]> {
        let CrossAttention { b, q, heads, .. } = *self;
        (0..b * q * heads).map(move |n| [n / heads / q, n / heads % q, n % heads])
    }
}

impl<R: Real> Twin<R> for CrossAttention {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        let [q, kv] = inputs else { unreachable!("two inputs") };
        let mut y = zeros(q.len());
        for [b, i, h] in self.queries() {
            let p = self.weights(q, kv, [b, i, h]);
            for c in 0..self.a {
                y[self.at_q(b, i, h, c)] =
                    (0..self.l).map(|m| p[m] * kv[self.at_v(b, m, h, c)]).sum();
            }
        }
        y
    }

    fn backward(&self, inputs: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        let [q, kv] = inputs else { unreachable!("two inputs") };
        let (mut dq, mut d_kv) = (zeros(q.len()), zeros(kv.len()));
        for [b, i, h] in self.queries() {
            let p = self.weights(q, kv, [b, i, h]);
            let mut dp = zeros(self.l);
            for m in 0..self.l {
                for c in 0..self.a {
                    let dy = dy[self.at_q(b, i, h, c)];
                    d_kv[self.at_v(b, m, h, c)] += p[m] * dy;
                    dp[m] += kv[self.at_v(b, m, h, c)] * dy;
                }
            }
            let d_logits = softmax_backward(&p, &dp);
            for m in 0..self.l {
                let d = d_logits[m] * self.scale();
                for c in 0..self.a {
                    dq[self.at_q(b, i, h, c)] += d * kv[self.at_k(b, m, h, c)];
                    d_kv[self.at_k(b, m, h, c)] += d * q[self.at_q(b, i, h, c)];
                }
            }
        }
        vec![dq, d_kv]
    }
}

/// Inputs: qkv `[B, L, 3·H·A]`. Cross attention of the first third over the other two.
pub(crate) struct SelfAttention {
    pub(crate) b: usize,
    pub(crate) l: usize,
    pub(crate) heads: usize,
    pub(crate) a: usize,
}

impl SelfAttention {
    fn cross(&self) -> CrossAttention {
        let SelfAttention { b, l, heads, a } = *self;
        CrossAttention { b, q: l, l, heads, a }
    }

    fn split<R: Real>(&self, qkv: &[R]) -> [Vec<R>; 2] {
        let d = self.heads * self.a;
        let rows = || qkv.chunks(3 * d);
        [
            rows().flat_map(|r| r[..d].to_vec()).collect(),
            rows().flat_map(|r| r[d..].to_vec()).collect(),
        ]
    }
}

impl<R: Real> Twin<R> for SelfAttention {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        self.cross().forward(&self.split(&inputs[0]))
    }

    fn backward(&self, inputs: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        let d = self.heads * self.a;
        let grads = self.cross().backward(&self.split(&inputs[0]), dy);
        let rows = grads[0].chunks(d).zip(grads[1].chunks(2 * d));
        vec![rows.flat_map(|(dq, d_kv)| [dq, d_kv].concat()).collect()]
    }
}
