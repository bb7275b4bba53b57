//! Activations and the dense layer.

use super::{Real, Twin, zeros};
use sparsely_tensor::Activation as Act;

const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;

pub(crate) fn act<R: Real>(act: Act, x: R) -> R {
    match act {
        Act::Identity => x,
        Act::Tanh => x.tanh(),
        Act::Sigmoid => R::of(1.0) / (R::of(1.0) + (-x).exp()),
        Act::Relu if x > R::of(0.0) => x,
        Act::Relu => R::of(0.0),
        Act::Gelu => {
            let inner = R::of(SQRT_2_OVER_PI) * (x + R::of(0.044715) * x * x * x);
            x * R::of(0.5) * (R::of(1.0) + inner.tanh())
        }
        other => unimplemented!("{other:?} has no twin"),
    }
}

/// act′(x).
pub(crate) fn slope<R: Real>(act: Act, x: R) -> R {
    let one = R::of(1.0);
    match act {
        Act::Identity => one,
        Act::Tanh => one - x.tanh() * x.tanh(),
        Act::Sigmoid => one / ((one + x.exp()) * (one + (-x).exp())),
        Act::Relu => super::indicator(x > R::of(0.0)),
        Act::Gelu => {
            let t = (R::of(SQRT_2_OVER_PI) * (x + R::of(0.044715) * x * x * x)).tanh();
            let inner_slope = R::of(SQRT_2_OVER_PI) * (one + R::of(3.0 * 0.044715) * x * x);
            R::of(0.5) * (one + t) + R::of(0.5) * x * (one - t * t) * inner_slope
        }
        other => unimplemented!("{other:?} has no twin"),
    }
}

/// Inputs: x.
pub(crate) struct Activation(pub(crate) Act);

impl<R: Real> Twin<R> for Activation {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        inputs[0].iter().map(|x| act(self.0, *x)).collect()
    }

    fn backward(&self, inputs: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        vec![inputs[0].iter().zip(dy).map(|(x, dy)| *dy * slope(self.0, *x)).collect()]
    }
}

/// Inputs: x `[R, I]`, w `[I, O]`, b `[O]`, residual `[R, O]`.
pub(crate) struct Linear {
    pub(crate) act: Act,
    pub(crate) i: usize,
    pub(crate) o: usize,
}

impl<R: Real> Twin<R> for Linear {
    fn forward(&self, inputs: &[Vec<R>]) -> Vec<R> {
        let [x, w, b, residual] = inputs else { unreachable!("four inputs") };
        let (i, o) = (self.i, self.o);
        let u: Vec<R> = x.iter().map(|x| act(self.act, *x)).collect();
        let mut y = residual.clone();
        for r in 0..x.len() / i {
            for c in 0..o {
                y[r * o + c] += b[c];
                for p in 0..i {
                    y[r * o + c] += u[r * i + p] * w[p * o + c];
                }
            }
        }
        y
    }

    fn backward(&self, inputs: &[Vec<R>], dy: &[R]) -> Vec<Vec<R>> {
        let [x, w, b, _] = inputs else { unreachable!("four inputs") };
        let (i, o) = (self.i, self.o);
        let (mut dx, mut dw, mut db) = (zeros(x.len()), zeros(w.len()), zeros(b.len()));
        for r in 0..x.len() / i {
            for c in 0..o {
                db[c] += dy[r * o + c];
            }
            for p in 0..i {
                let (u, s) = (act(self.act, x[r * i + p]), slope(self.act, x[r * i + p]));
                for c in 0..o {
                    dx[r * i + p] += dy[r * o + c] * w[p * o + c] * s;
                    dw[p * o + c] += dy[r * o + c] * u;
                }
            }
        }
        vec![dx, dw, db, dy.to_vec()]
    }
}
