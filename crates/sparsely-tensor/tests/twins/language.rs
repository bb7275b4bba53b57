//! Attention with masks and distances, rotation, routed products, embeddings, token losses.

use super::attention::softmax;
use super::{Real, Twin, indicator, zeros};

/// Inputs: q `[B, Q, H·A]`, k and v `[B, L, Hk·A]`, then for distances their queries `[B, Q, H·A]` and keys
/// `[R, Hk·A]`.
#[derive(Clone)]
pub(crate) struct MaskedAttention {
    pub(crate) b: usize,
    pub(crate) q: usize,
    pub(crate) l: usize,
    /// Heads of the keys.
    pub(crate) heads: usize,
    pub(crate) shared_by: usize,
    pub(crate) a: usize,
    pub(crate) scale: f64,
    pub(crate) offset: usize,
    pub(crate) is_causal: bool,
    /// `[B, L]`, or none.
    pub(crate) removed_keys: Vec<bool>,
    /// `[Q, P]` over the last P keys, or none.
    pub(crate) removed_pairs: Vec<bool>,
    /// Row of distance 0 and number of rows.
    pub(crate) distances: Option<[usize; 2]>,
}

impl MaskedAttention {
    /// Lengths of the inputs.
    pub(crate) fn lens(&self) -> Vec<usize> {
        let (width, k_width) = (self.heads * self.shared_by * self.a, self.heads * self.a);
        let (queries, keys) = (self.b * self.q * width, self.b * self.l * k_width);
        let mut lens = vec![queries, keys, keys];
        lens.extend(self.distances.iter().flat_map(|[_, rows]| [queries, rows * k_width]));
        lens
    }

    fn sees(&self, [b, i]: [usize; 2], j: usize) -> bool {
        let pairs = self.removed_pairs.len() / self.q;
        let removed_pair =
            j + pairs >= self.l && pairs > 0 && self.removed_pairs[i * pairs + j + pairs - self.l];
        let removed_key = !self.removed_keys.is_empty() && self.removed_keys[b * self.l + j];
        !(removed_pair || removed_key || self.is_causal && j > i + self.offset)
    }

    fn at_q(&self, [b, i, h]: [usize; 3], c: usize) -> usize {
        ((b * self.q + i) * self.heads * self.shared_by + h) * self.a + c
    }

    fn at_k(&self, [b, j, h]: [usize; 3], c: usize) -> usize {
        ((b * self.l + j) * self.heads + h / self.shared_by) * self.a + c
    }

    fn at_distance(&self, [i, j, h]: [usize; 3], c: usize) -> Option<usize> {
        let [zero, _] = self.distances?;
        let row = zero + j - i - self.offset;
        Some((row * self.heads + h / self.shared_by) * self.a + c)
    }

    /// The keys that a query sees, and its weights over them.
    fn weights<R: Real>(&self, inputs: &[Vec<R>], [b, i, h]: [usize; 3]) -> Vec<(usize, R)> {
        let (q, k) = (&inputs[0], &inputs[1]);
        let seen: Vec<usize> = (0..self.l).filter(|j| self.sees([b, i], *j)).collect();
        let score = |j: &usize| -> R {
            let product = |c: usize| {
                let content = q[self.at_q([b, i, h], c)] * k[self.at_k([b, *j, h], c)];
                match self.at_distance([i, *j, h], c) {
                    Some(at) => content + inputs[3][self.at_q([b, i, h], c)] * inputs[4][at],
                    None => content,
                }
            };
            (0..self.a).map(product).sum::<R>() * R::of(self.scale)
        };
        let scores: Vec<R> = seen.iter().map(score).collect();
        let weights = if scores.is_empty() { Vec::new() } else { softmax(&scores) };
        seen.into_iter().zip(weights).collect()
    }

    fn queries(&self) -> impl Iterator<Item = [usize; 3]> + use<> {
        let (b, q, heads) = (self.b, self.q, self.heads * self.shared_by);
        (0..b * q * heads).map(move |n| [n / heads / q, n / heads % q, n % heads])
    }
}

impl<R: Real> Twin<R> for MaskedAttention {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        let mut y = zeros(inputs[0].len());
        for [b, i, h] in self.queries() {
            for (j, p) in self.weights(inputs, [b, i, h]) {
                for c in 0..self.a {
                    y[self.at_q([b, i, h], c)] += p * inputs[2][self.at_k([b, j, h], c)];
                }
            }
        }
        y
    }

    fn backward(&self, inputs: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        let mut grads: Vec<Vec<R>> = inputs.iter().map(|input| zeros(input.len())).collect();
        for [b, i, h] in self.queries() {
            let weights = self.weights(inputs, [b, i, h]);
            let dp = |j: usize| -> R {
                let at = |c| dy[self.at_q([b, i, h], c)] * inputs[2][self.at_k([b, j, h], c)];
                (0..self.a).map(at).sum()
            };
            let mean: R = weights.iter().map(|(j, p)| *p * dp(*j)).sum();
            for (j, p) in &weights {
                let d = *p * (dp(*j) - mean) * R::of(self.scale);
                for c in 0..self.a {
                    let (at_q, at_k) = (self.at_q([b, i, h], c), self.at_k([b, *j, h], c));
                    grads[2][at_k] += *p * dy[at_q];
                    grads[0][at_q] += d * inputs[1][at_k];
                    grads[1][at_k] += d * inputs[0][at_q];
                    if let Some(at) = self.at_distance([i, *j, h], c) {
                        grads[3][at_q] += d * inputs[4][at];
                        grads[4][at] += d * inputs[3][at_q];
                    }
                }
            }
        }
        grads
    }
}

/// Inputs: x `[B, L, H·A]`.
pub(crate) struct Rotary {
    pub(crate) l: usize,
    pub(crate) heads: usize,
    pub(crate) a: usize,
    pub(crate) channels: usize,
    pub(crate) first: usize,
}

impl Rotary {
    fn turn<R: Real>(&self, x: &[R], direction: f64) -> Vec<R> {
        let half = self.channels / 2;
        let mut y = x.to_vec();
        for row in 0..x.len() / (self.heads * self.a) {
            for h in 0..self.heads {
                for i in 0..half {
                    let frequency = 1e4_f64.powf(-2.0 * i as f64 / self.channels as f64);
                    let angle = (self.first + row % self.l) as f64 * frequency * direction;
                    let (one, two) = ((row * self.heads + h) * self.a + i, half);
                    let (x1, x2) = (x[one], x[one + two]);
                    let (cos, sin) = (R::of(angle.cos()), R::of(angle.sin()));
                    y[one] = x1 * cos - x2 * sin;
                    y[one + two] = x2 * cos + x1 * sin;
                }
            }
        }
        y
    }
}

impl<R: Real> Twin<R> for Rotary {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        self.turn(&inputs[0], 1.0)
    }

    /// A rotation's transpose turns back.
    fn backward(&self, _: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        vec![self.turn(dy, -1.0)]
    }
}

/// Inputs: x `[R, I]`, w `[G, I, O]`, gates `[N]`, residual `[R′, O]`.
pub(crate) struct RoutedLinear {
    /// Pairs (from, to) of each group.
    pub(crate) groups: Vec<Vec<(u32, u32)>>,
    pub(crate) i: usize,
    pub(crate) o: usize,
}

impl RoutedLinear {
    fn pairs(&self) -> Vec<(usize, usize, usize)> {
        let of_group = |(g, pairs): (usize, &Vec<(u32, u32)>)| -> Vec<_> {
            pairs.iter().map(|(from, to)| (g, *from as usize, *to as usize)).collect()
        };
        self.groups.iter().enumerate().flat_map(of_group).collect()
    }
}

impl<R: Real> Twin<R> for RoutedLinear {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        let [x, w, gates, residual] = inputs else { unreachable!("four inputs") };
        let mut y = residual.clone();
        for (n, (g, from, to)) in self.pairs().into_iter().enumerate() {
            for o in 0..self.o {
                for i in 0..self.i {
                    let product = x[from * self.i + i] * w[(g * self.i + i) * self.o + o];
                    y[to * self.o + o] += gates[n] * product;
                }
            }
        }
        y
    }

    fn backward(&self, inputs: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        let [x, w, gates, _] = inputs else { unreachable!("four inputs") };
        let (mut dx, mut dw, mut dg) = (zeros(x.len()), zeros(w.len()), zeros(gates.len()));
        for (n, (g, from, to)) in self.pairs().into_iter().enumerate() {
            for o in 0..self.o {
                for i in 0..self.i {
                    let (at_x, at_w) = (from * self.i + i, (g * self.i + i) * self.o + o);
                    let dy = dy[to * self.o + o];
                    dx[at_x] += dy * gates[n] * w[at_w];
                    dw[at_w] += dy * gates[n] * x[at_x];
                    dg[n] += dy * x[at_x] * w[at_w];
                }
            }
        }
        vec![dx, dw, dg, dy.to_vec()]
    }
}

/// Inputs: table `[V, D]`.
pub(crate) struct Embedding {
    pub(crate) indices: Vec<u32>,
    pub(crate) d: usize,
}

impl<R: Real> Twin<R> for Embedding {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        let row = |index: &u32| inputs[0][*index as usize * self.d..][..self.d].to_vec();
        self.indices.iter().flat_map(row).collect()
    }

    fn backward(&self, inputs: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        let mut grad = zeros(inputs[0].len());
        for (index, dy) in self.indices.iter().zip(dy.chunks(self.d)) {
            for c in 0..self.d {
                grad[*index as usize * self.d + c] += dy[c];
            }
        }
        vec![grad]
    }
}

/// Inputs: logits `[T, V]` → the mean loss.
pub(crate) struct TokenCrossEntropy {
    pub(crate) targets: Vec<u32>,
    pub(crate) v: usize,
}

impl<R: Real> Twin<R> for TokenCrossEntropy {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        let rows = inputs[0].chunks(self.v).zip(&self.targets);
        let sum: R = rows.map(|(row, target)| -softmax(row)[*target as usize].ln()).sum();
        vec![sum / R::of(self.targets.len() as f64)]
    }

    fn backward(&self, inputs: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        let factor = dy[0] / R::of(self.targets.len() as f64);
        let rows = inputs[0].chunks(self.v).zip(&self.targets);
        let of_row = |(row, target): (&[R], &u32)| -> Vec<R> {
            let slope = |(v, p): (usize, R)| factor * (p - indicator(v == *target as usize));
            softmax(row).into_iter().enumerate().map(slope).collect()
        };
        vec![rows.flat_map(of_row).collect()]
    }
}

/// Inputs: x, s of one element.
pub(crate) struct Scaled;

impl<R: Real> Twin<R> for Scaled {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        inputs[0].iter().map(|x| *x * inputs[1][0]).collect()
    }

    fn backward(&self, inputs: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        let dx = dy.iter().map(|dy| *dy * inputs[1][0]).collect();
        vec![dx, vec![inputs[0].iter().zip(dy).map(|(x, dy)| *x * *dy).sum()]]
    }
}

/// Inputs: sums x > 0 → Σ m ln m, m = x / count.
pub(crate) struct NegativeEntropy {
    pub(crate) count: usize,
}

impl<R: Real> Twin<R> for NegativeEntropy {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        let term = |x: &R| *x / R::of(self.count as f64) * (*x / R::of(self.count as f64)).ln();
        vec![inputs[0].iter().map(term).sum()]
    }

    fn backward(&self, inputs: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        let count = R::of(self.count as f64);
        let slope = |x: &R| dy[0] * ((*x / count).ln() + R::of(1.0)) / count;
        vec![inputs[0].iter().map(slope).collect()]
    }
}

/// Inputs: `[B, L, D]`, `[B, M, D]`.
pub(crate) struct Append {
    pub(crate) l: usize,
    pub(crate) m: usize,
    pub(crate) d: usize,
}

impl<R: Real> Twin<R> for Append {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        let both = inputs[0].chunks(self.l * self.d).zip(inputs[1].chunks(self.m * self.d));
        both.flat_map(|(x, after)| [x, after].concat()).collect()
    }

    fn backward(&self, _: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        let cut = self.l * self.d;
        let rows = || dy.chunks(cut + self.m * self.d);
        vec![
            rows().flat_map(|dy| dy[..cut].to_vec()).collect(),
            rows().flat_map(|dy| dy[cut..].to_vec()).collect(),
        ]
    }
}
