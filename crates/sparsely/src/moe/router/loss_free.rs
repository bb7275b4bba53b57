//! Loss-free balancing (Wang et al., arXiv 2408.15664): a bias that only selects, moved after each
//! step by the sign of each expert's load error.

use super::affinity::{Affinity, Choosers, Scorer};
use super::config::LossFreeConfig;
use super::seats::{LearnedPriority, Seats};
use super::{Learned, RouteSettings, Router, columns_of};
use crate::Result;
use crate::moe::Routing;
use crate::nn::{Init, Initializer, Mode};
use sparsely_tensor::{Param, Slab, Spread, Var};

/// Each token takes its K experts of largest gate + bias; the gate alone weighs.
pub struct LossFree {
    scorer: Scorer,
    seats: Seats,
    priority: Option<LearnedPriority>,
    /// `[E]`; no gradient, moved by [`Router::adapt`].
    bias: Param,
    bias_rate: f32,
}

impl LossFree {
    /// Biases of 0.
    pub(super) fn init(init: &mut Initializer, config: LossFreeConfig, de: [usize; 2]) -> LossFree {
        let LossFreeConfig { num_selected, gate, noise_std, capacity, priority, bias_rate } =
            config;
        LossFree {
            scorer: Scorer::init(init, de, noise_std, Affinity::Gates(gate)),
            seats: Seats { k: num_selected, capacity, priority },
            priority: LearnedPriority::init(init, priority, de[0]),
            bias: init.frozen("balance", [de[1]], Init::Constant(0.0)),
            bias_rate,
        }
    }
}

impl Router for LossFree {
    fn route<'t>(
        &self,
        x_td: &Var<'t>,
        settings: &RouteSettings,
        mode: &mut Mode<'_>,
    ) -> Result<Routing<'t>> {
        let (e, s) = (settings.dial.num_experts(self.scorer.num_experts), settings.group_tokens);
        let seats = self.seats.under(settings, self.scorer.num_experts)?;
        let experts = settings.dial.experts.as_ref();
        let choosers = Choosers { s, spread: Spread::Rows, selected: seats.k, experts };
        let scores = self.scorer.score(x_td, choosers, mode)?;
        let factors = self.priority.as_ref().map(|priority| priority.factors(x_td)).transpose()?;

        let bias_1e =
            x_td.tape().param(&self.bias).detached().reshape([1, self.scorer.num_experts])?;
        let bias_1e = columns_of(bias_1e, experts, 1)?;
        let deciding_te = scores.gates.detached().add_constant(bias_1e.values())?;
        let learned_t = factors.as_ref().map_or(&[][..], Var::values);
        let mut seated = seats.seat(deciding_te.values(), [s, e], learned_t)?;
        scores.describe(&mut seated.stats);
        seated.routing(&scores.weighing, factors.as_ref())
    }

    /// b_e += rate · sign(mean load − load_e).
    fn adapt(&self, params: &mut Slab, learned: &Learned<'_>) {
        let asked_e = &learned.layer.asked_e;
        let total: u64 = asked_e.iter().sum();
        for (bias, asked) in params.view_mut(&self.bias).iter_mut().zip(asked_e) {
            // total / E against the load, in whole numbers.
            *bias += match total.cmp(&(asked * asked_e.len() as u64)) {
                std::cmp::Ordering::Greater => self.bias_rate,
                std::cmp::Ordering::Equal => 0.0,
                std::cmp::Ordering::Less => -self.bias_rate,
            };
        }
    }
}
