//! Token choice under loss-free balancing ([`Balance`]).

use super::affinity::{Affinity, Choosers, Scorer};
use super::config::LossFreeConfig;
use super::seats::{LearnedPriority, Seats};
use super::{Learned, RouteSettings, Router, columns_of};
use crate::Result;
use crate::moe::Routing;
use crate::moe::balance::Balance;
use crate::nn::{Initializer, Mode};
use sparsely_tensor::{Slab, Spread, Var};

/// Each token takes its K experts of largest gate + bias; the gate alone weighs.
pub struct LossFree {
    scorer: Scorer,
    seats: Seats,
    priority: Option<LearnedPriority>,
    balance: Balance,
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
            balance: Balance::init(init, "balance", de[1], bias_rate),
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

        let bias_1e = columns_of(self.balance.bias_1e(x_td.tape())?, experts, 1)?;
        let deciding_te = scores.gates.detached().add_constant(bias_1e.values())?;
        let learned_t = factors.as_ref().map_or(&[][..], Var::values);
        let mut seated = seats.seat(deciding_te.values(), [s, e], learned_t)?;
        scores.describe(&mut seated.stats);
        let routing = seated.routing(&scores.weighing, factors.as_ref())?;
        Ok(routing.with_logits(scores.clean_logits))
    }

    fn adapt(&self, params: &mut Slab, learned: &Learned<'_>) {
        self.balance.adapt(params, &learned.layer.asked_e);
    }
}
