//! Context-aware gates: routers of a head that read, beside the token, what the attention of the block before gave it.
//!
//! With y_t the output of that attention for token t, before dropout and the residual (a causal, attention-weighted
//! mixture of what came up to t), and x_t what the router reads without it,
//!
//! ```text
//! logits_t = x_t W + LN(y_t) C W'
//! ```
//!
//! The second router W' is learned as the first is; C compresses to a few channels, or is left out. The first block
//! has no attention before it and no context.

use crate::Result;
use crate::nn::{Init, Initializer, LayerNorm};
use serde::{Deserialize, Serialize};
use sparsely_tensor::{Param, Var};

/// Added to the variance of the norm, as in the models' own.
const NORM_EPS: f32 = 1e-5;

/// What the routers read of the attention of the block before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GateContext {
    /// Whether no gradient flows through the context into the block before.
    pub stop_gradient: bool,
    /// Channels to which it is compressed; all D as they are if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<usize>,
}

/// Makes a context of the attention of the block before.
#[derive(Clone, Debug)]
pub struct ContextReader {
    /// Over D.
    pub norm: LayerNorm,
    /// C `[D, W]`.
    pub compression: Option<Param>,
    stop_gradient: bool,
    width: usize,
}

impl ContextReader {
    /// Fresh, for width D: C N(0, 1/D), which keeps the scale of what is normed.
    pub(super) fn init(init: &mut Initializer, config: &GateContext, d: usize) -> ContextReader {
        let std = 1.0 / (d as f32).sqrt();
        let compress = |w: usize| init.kernel("context_compression", [d, w], Init::Normal { std });
        ContextReader {
            compression: config.width.map(compress),
            norm: LayerNorm::init(init, "context_norm", d).with_eps(NORM_EPS),
            stop_gradient: config.stop_gradient,
            width: config.width.unwrap_or(d),
        }
    }

    /// W.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Of the outputs `[B, L, D]` of attention: `[B, L, W]`.
    pub(super) fn read<'t>(&self, y_bld: &Var<'t>) -> Result<Var<'t>> {
        let normed = match self.stop_gradient {
            true => self.norm.forward(&y_bld.detached())?,
            false => self.norm.forward(y_bld)?,
        };
        match &self.compression {
            Some(kernel) => Ok(normed.linear_f32(kernel, None)?),
            None => Ok(normed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sparsely_tensor::{Pool, Slab, Tape};

    const T: usize = 4;
    const D: usize = 5;
    const W: usize = 3;
    const E: usize = 6;

    /// Σ c · (LN(y) C W') in plain loops; the values are y, C, scale, bias, W'.
    fn twin([y, compression, scale, bias, router]: [&[f64]; 5], factors: &[f64]) -> f64 {
        let mut total = 0.0;
        for (y_d, c_e) in y.chunks(D).zip(factors.chunks(E)) {
            let mean = y_d.iter().sum::<f64>() / D as f64;
            let variance = y_d.iter().map(|y| (y - mean).powi(2)).sum::<f64>() / D as f64;
            let std = (variance + f64::from(NORM_EPS)).sqrt();
            let normed: Vec<f64> =
                (0..D).map(|d| (y_d[d] - mean) / std * scale[d] + bias[d]).collect();
            for (e, c) in c_e.iter().enumerate() {
                for w in 0..W {
                    let own: f64 = (0..D).map(|d| normed[d] * compression[d * W + w]).sum();
                    total += c * own * router[w * E + e];
                }
            }
        }
        total
    }

    /// The gradients on the tape against central differences of plain loops in f64.
    #[test]
    fn logits_of_a_context_have_the_slopes_of_their_formula() {
        let value = |i: usize| (i * 31 % 17) as f32 / 8.0 - 1.0;
        let factors: Vec<f64> = (0..T * E).map(|i| f64::from(value(3 * i + 1))).collect();
        for stop_gradient in [false, true] {
            let mut init = Initializer::default();
            let y = init.vector("y", [T, D], Init::Constant(0.0));
            let config = GateContext { stop_gradient, width: Some(W) };
            let reader = ContextReader::init(&mut init, &config, D);
            let router = init.kernel("router", [W, E], Init::Constant(0.0));
            let mut params = init.finish(0);
            params.values_mut().iter_mut().enumerate().for_each(|(i, own)| *own = value(i));
            let pool = Pool::new();
            let tape = Tape::recording(&params, &pool);
            let read = reader.read(&tape.param(&y)).unwrap();
            let logits = read.linear_f32(&router, None).unwrap();
            let loss = logits.dot_constant(&factors).unwrap();
            let mut grads = Slab::zeros(params.layout().clone());
            tape.backward(&loss, &mut grads).unwrap();
            let compression = reader.compression.unwrap();
            let parts = [y, compression, reader.norm.scale, reader.norm.bias, router];
            let exact: Vec<f64> = params.values().iter().map(|own| f64::from(*own)).collect();
            let of = |values: &[f64]| twin(parts.map(|part| &values[part.range()]), &factors);
            assert!((f64::from(loss.values()[0]) - of(&exact)).abs() < 1e-5);
            for (i, grad) in grads.values().iter().enumerate() {
                const H: f64 = 1e-6;
                let at = |step: f64| {
                    let mut moved = exact.clone();
                    moved[i] += step;
                    of(&moved)
                };
                let is_stopped = stop_gradient && y.range().contains(&i);
                let slope = if is_stopped { 0.0 } else { (at(H) - at(-H)) / (2.0 * H) };
                // Gradients of up to 10 in f32.
                assert!((f64::from(*grad) - slope).abs() < 2e-5, "{i}: {grad} for {slope}");
            }
        }
    }
}
