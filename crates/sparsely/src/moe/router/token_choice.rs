//! Token choice with noise, capacity and auxiliary losses (V-MoE, arXiv 2106.05974), by gates or
//! by a transport plan (arXiv 2209.15466, 2401.15969).

use super::affinity::{Affinity, Choosers, Scorer, Scores};
use super::config::{LossWeights, PlanTokenChoice, TokenChoiceConfig};
use super::seats::{LearnedPriority, Seats};
use super::{RouteSettings, Router};
use crate::Result;
use crate::moe::{Routing, gshard_loss, importance_loss, load_loss, z_loss};
use crate::nn::{Initializer, Mode};
use sparsely_tensor::{Spread, Var};

/// Each token takes its K experts of largest score.
pub struct TokenChoice {
    scorer: Scorer,
    seats: Seats,
    priority: Option<LearnedPriority>,
    loss: LossWeights,
}

impl TokenChoice {
    /// By gates.
    pub(super) fn init(
        init: &mut Initializer,
        config: TokenChoiceConfig,
        de: [usize; 2],
    ) -> TokenChoice {
        let TokenChoiceConfig { num_selected, gate, noise_std, capacity, priority, loss } = config;
        TokenChoice {
            scorer: Scorer::init(init, de, noise_std, Affinity::Gates(gate)),
            seats: Seats { k: num_selected, capacity, priority },
            priority: LearnedPriority::init(init, priority, de[0]),
            loss,
        }
    }

    /// By a plan; without auxiliary losses, since the plan balances.
    pub(super) fn by_plan<P>(
        init: &mut Initializer,
        config: &PlanTokenChoice<P>,
        de: [usize; 2],
        affinity: Affinity,
    ) -> TokenChoice {
        let &PlanTokenChoice { num_selected, noise_std, capacity, priority, .. } = config;
        TokenChoice {
            scorer: Scorer::init(init, de, noise_std, affinity),
            seats: Seats { k: num_selected, capacity, priority },
            priority: LearnedPriority::init(init, priority, de[0]),
            loss: LossWeights::NONE,
        }
    }

    fn losses<'t>(
        &self,
        scores: &Scores<'t>,
        [k, s]: [usize; 2],
        trains: bool,
    ) -> Result<Vec<(Var<'t>, f32)>> {
        let weights = self.loss;
        let mut losses = Vec::new();
        if weights.importance > 0.0 {
            losses.push((importance_loss(&scores.clean_gates, s)?, weights.importance));
        }
        if weights.load > 0.0 && trains && self.scorer.sigma() > 0.0 {
            let Scores { clean_logits, logits, .. } = scores;
            let load = load_loss(clean_logits, logits, k, self.scorer.sigma(), s)?;
            losses.push((load, weights.load));
        }
        if weights.gshard > 0.0 {
            losses.push((gshard_loss(&scores.gates, s)?, weights.gshard));
        }
        if weights.z > 0.0 {
            losses.push((z_loss(&scores.clean_logits)?, weights.z));
        }
        Ok(losses)
    }
}

impl Router for TokenChoice {
    fn route<'t>(
        &self,
        x_td: &Var<'t>,
        settings: &RouteSettings,
        mode: &mut Mode<'_>,
    ) -> Result<Routing<'t>> {
        let e = settings.dial.num_experts(self.scorer.num_experts);
        let seats = self.seats.under(settings, self.scorer.num_experts)?;
        let s = settings.group_tokens;
        let experts = settings.dial.experts.as_ref();
        let choosers = Choosers { s, spread: Spread::Rows, selected: seats.k, experts };
        let scores = self.scorer.score(x_td, choosers, mode)?;
        let factors = self.priority.as_ref().map(|priority| priority.factors(x_td)).transpose()?;

        let learned_t = factors.as_ref().map_or(&[][..], Var::values);
        let mut seated = seats.seat(scores.deciding.values(), [s, e], learned_t)?;
        scores.describe(&mut seated.stats);
        let trains = matches!(mode, Mode::Train(_));
        let losses = self.losses(&scores, [seats.k, s], trains)?;
        Ok(seated.routing(&scores.weighing, factors.as_ref())?.with_losses(losses))
    }
}
