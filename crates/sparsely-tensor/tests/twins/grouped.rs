//! Linear layers whose weights are stacked in groups of rows.

use super::dense::{act, slope};
use super::{Real, Twin, zeros};
use sparsely_tensor::Activation;

/// (group, row) of each entry.
fn entries(groups: &[Vec<u32>]) -> Vec<(usize, usize)> {
    let of_group = |(e, rows): (usize, &Vec<u32>)| -> Vec<_> {
        rows.iter().map(|t| (e, *t as usize)).collect()
    };
    groups.iter().enumerate().flat_map(of_group).collect()
}

/// Inputs: x `[T, I]`, w `[E, I, O]`, b `[E, O]`.
pub(crate) struct GatherLinear {
    pub(crate) groups: Vec<Vec<u32>>,
    pub(crate) i: usize,
    pub(crate) o: usize,
}

impl<R: Real> Twin<R> for GatherLinear {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        let [x, w, b] = inputs else { unreachable!("three inputs") };
        let (i, o) = (self.i, self.o);
        let mut z = Vec::new();
        for (e, t) in entries(&self.groups) {
            for c in 0..o {
                let product: R = (0..i).map(|p| x[t * i + p] * w[(e * i + p) * o + c]).sum();
                z.push(product + b[e * o + c]);
            }
        }
        z
    }

    fn backward(&self, inputs: &[Vec<R>], dz: &[R]) -> Vec<Vec<R>> {
        let [x, w, b] = inputs else { unreachable!("three inputs") };
        let (i, o) = (self.i, self.o);
        let (mut dx, mut dw, mut db) = (zeros(x.len()), zeros(w.len()), zeros(b.len()));
        for (n, (e, t)) in entries(&self.groups).into_iter().enumerate() {
            for c in 0..o {
                db[e * o + c] += dz[n * o + c];
                for p in 0..i {
                    dx[t * i + p] += dz[n * o + c] * w[(e * i + p) * o + c];
                    dw[(e * i + p) * o + c] += dz[n * o + c] * x[t * i + p];
                }
            }
        }
        vec![dx, dw, db]
    }
}

/// Inputs: z `[N, I]`, w `[E, I, O]`, b `[E, O]`, gates `[N]`, residual `[T, O]`.
pub(crate) struct ScatterLinear {
    pub(crate) act: Activation,
    pub(crate) groups: Vec<Vec<u32>>,
    pub(crate) i: usize,
    pub(crate) o: usize,
}

impl<R: Real> Twin<R> for ScatterLinear {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        let [z, w, b, gates, residual] = inputs else { unreachable!("five inputs") };
        let (i, o) = (self.i, self.o);
        let mut y = residual.clone();
        for (n, (e, t)) in entries(&self.groups).into_iter().enumerate() {
            for c in 0..o {
                let u = |p: usize| act(self.act, z[n * i + p]);
                let product: R = (0..i).map(|p| u(p) * w[(e * i + p) * o + c]).sum();
                y[t * o + c] += gates[n] * (product + b[e * o + c]);
            }
        }
        y
    }

    fn backward(&self, inputs: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        let [z, w, b, gates, _] = inputs else { unreachable!("five inputs") };
        let (i, o) = (self.i, self.o);
        let (mut dz, mut dw, mut db) = (zeros(z.len()), zeros(w.len()), zeros(b.len()));
        let mut d_gates = zeros(gates.len());
        for (n, (e, t)) in entries(&self.groups).into_iter().enumerate() {
            for c in 0..o {
                d_gates[n] += dy[t * o + c] * b[e * o + c];
                db[e * o + c] += dy[t * o + c] * gates[n];
            }
            for p in 0..i {
                let (u, s) = (act(self.act, z[n * i + p]), slope(self.act, z[n * i + p]));
                for c in 0..o {
                    let (dy, w) = (dy[t * o + c], w[(e * i + p) * o + c]);
                    d_gates[n] += dy * u * w;
                    dz[n * i + p] += dy * gates[n] * w * s;
                    dw[(e * i + p) * o + c] += dy * gates[n] * u;
                }
            }
        }
        vec![dz, dw, db, d_gates, dy.to_vec()]
    }
}
