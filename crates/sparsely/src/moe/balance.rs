//! Loss-free balancing (Wang et al., arXiv 2408.15664): a bias that only selects, moved after each
//! step by the sign of each expert's load error.

use crate::Result;
use crate::nn::{Init, Initializer};
use sparsely_tensor::{Param, Slab, Tape, Var};
use std::cmp::Ordering;

/// Biases of experts: a token takes the experts of largest score + bias, and the score alone weighs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Balance {
    /// `[E]`; no gradient. Of several routers of as many choices each, one after the other.
    bias: Param,
    rate: f32,
}

impl Balance {
    /// Biases of 0 for E experts, that move by `rate` in a step.
    pub(crate) fn init(init: &mut Initializer, name: &str, e: usize, rate: f32) -> Balance {
        Balance { bias: init.frozen(name, [e], Init::Constant(0.0)), rate }
    }

    /// `[1, E]`, without gradient.
    pub(crate) fn bias_1e<'t>(&self, tape: &'t Tape<'t>) -> Result<Var<'t>> {
        let bias = tape.param(&self.bias).detached();
        Ok(bias.reshape([1, bias.shape().len()])?)
    }

    /// b_e += rate · sign(mean load − load_e).
    pub(crate) fn adapt(&self, params: &mut Slab, asked_e: &[u64]) {
        let total: u64 = asked_e.iter().sum();
        for (bias, asked) in params.view_mut(&self.bias).iter_mut().zip(asked_e) {
            // total / E against the load, in whole numbers.
            *bias += match total.cmp(&(asked * asked_e.len() as u64)) {
                Ordering::Greater => self.rate,
                Ordering::Equal => 0.0,
                Ordering::Less => -self.rate,
            };
        }
    }
}
