//! ReLU routing (ReMoE, arXiv 2412.14711): differentiable throughout, with a penalty that finds its
//! own weight.

use super::config::ReluConfig;
use super::seats::Seated;
use super::{Learned, RouteSettings, Router, columns_of};
use crate::Result;
use crate::moe::stats::entropy_sum;
use crate::moe::{RouterStats, Routing};
use crate::nn::{Init, Initializer, Mode};
use sparsely_tensor::{Activation, Param, Slab, Var};

/// Beyond these the penalty's weight does not go: the least that f32 holds well, and a million.
const L1_RANGE: [f32; 2] = [1e-30, 1e6];

/// A token's experts are those whose gate max(x W, 0) is above 0, however many.
pub struct Relu {
    /// `[D, E]`, no bias.
    kernel: Param,
    /// `[1]`, the weight of the penalty; no gradient, moved by [`Router::adapt`].
    l1: Param,
    config: ReluConfig,
}

impl Relu {
    /// A LeCun-normal kernel: half of the gates are above 0 at first.
    pub(super) fn init(init: &mut Initializer, config: ReluConfig, [d, e]: [usize; 2]) -> Relu {
        Relu {
            kernel: init.kernel("kernel", [d, e], Init::LecunNormal { fan_in: d }),
            l1: init.frozen("l1", [1], Init::Constant(config.l1_start)),
            config,
        }
    }

    /// Mean over tokens and experts of the gates, each expert's times E/(K·T) of the times that it
    /// is asked (equation 9 there): 1 for each expert in balance at the aim.
    fn penalty<'t>(&self, gates_te: &Var<'t>, asked_e: &[u64]) -> Result<Var<'t>> {
        let (e, len) = (gates_te.shape().width(), gates_te.shape().len());
        let choices = f64::from(self.config.num_selected.max(f32::MIN_POSITIVE)) * (len / e) as f64;
        let of_expert = |asked: &u64| {
            let share = if self.config.balances { *asked as f64 * e as f64 / choices } else { 1.0 };
            share / len as f64
        };
        let factors_e: Vec<f64> = asked_e.iter().map(of_expert).collect();
        Ok(gates_te.dot_constant(&factors_e.repeat(len / e))?)
    }
}

impl Router for Relu {
    fn route<'t>(
        &self,
        x_td: &Var<'t>,
        settings: &RouteSettings,
        mode: &mut Mode<'_>,
    ) -> Result<Routing<'t>> {
        let logits_te = x_td.linear_f32(&self.kernel, None)?;
        let logits_te = columns_of(logits_te, settings.dial.experts.as_ref(), 1)?;
        let gates_te = logits_te.activation(Activation::Relu);
        let (e, tokens) = (gates_te.shape().width(), gates_te.shape().rows());
        let mut tokens_of_e = vec![Vec::new(); e];
        let mut unserved_tokens = 0;
        for (token, gates_e) in gates_te.values().chunks(e).enumerate() {
            let mut is_served = false;
            for (expert, _) in gates_e.iter().enumerate().filter(|(_, gate)| **gate > 0.0) {
                tokens_of_e[expert].push(token as u32);
                is_served = true;
            }
            unserved_tokens += u64::from(!is_served);
        }
        let asked_e: Vec<u64> = tokens_of_e.iter().map(|tokens| tokens.len() as u64).collect();
        let stats = RouterStats {
            tokens: tokens as u64,
            unserved_tokens,
            seats: asked_e.iter().sum(),
            entropy_sum: entropy_sum(gates_te.values(), e),
            asked_e,
            ..RouterStats::default()
        };
        let mut losses = Vec::new();
        if matches!(mode, Mode::Train(_)) {
            let weight = x_td.tape().param(&self.l1).values()[0];
            losses.push((self.penalty(&gates_te, &stats.asked_e)?, weight));
        }
        Ok(Seated::new(&tokens_of_e, tokens, stats)?.routing(&gates_te, None)?.with_losses(losses))
    }

    /// λ · growth^±1, by whether the tokens of all layers have more or fewer experts than the aim.
    fn adapt(&self, params: &mut Slab, learned: &Learned<'_>) {
        let asked: u64 = learned.model.asked_e.iter().sum();
        let aim = f64::from(self.config.num_selected) * learned.model.tokens as f64;
        let l1 = &mut params.view_mut(&self.l1)[0];
        if asked as f64 > aim {
            *l1 *= self.config.l1_growth;
        } else if (asked as f64) < aim {
            *l1 /= self.config.l1_growth;
        }
        *l1 = l1.clamp(L1_RANGE[0], L1_RANGE[1]);
    }
}
