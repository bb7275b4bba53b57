//! Random experts: the control that any learned choice has to beat.

use super::config::RandomConfig;
use super::seats::Seated;
use super::{RouteSettings, Router};
use crate::moe::{RouterStats, Routing};
use crate::nn::Mode;
use crate::rng::{Rng, counter_of_bits};
use crate::{Error, Result};
use rand::SeedableRng;

/// K different experts, each with weight 1/K. Drawn anew in each training step; in evaluation drawn from
/// the bits of what is routed, so that an answer depends on its image alone.
pub struct Random {
    num_selected: usize,
    num_experts: usize,
}

impl Random {
    /// Without parameters.
    pub(super) fn new(config: RandomConfig, num_experts: usize) -> Random {
        Random { num_selected: config.num_selected, num_experts }
    }

    /// The tokens of each expert.
    fn draw(x_td: &[f32], d: usize, [e, k]: [usize; 2], mode: &mut Mode<'_>) -> Vec<Vec<u32>> {
        let mut tokens_of_e = vec![Vec::new(); e];
        let mut in_training = match mode {
            Mode::Train(draw) => Some(Rng::seed_from_u64(draw.seed())),
            Mode::Eval => None,
        };
        for (token, x_d) in x_td.chunks(d).enumerate() {
            let own = || Rng::seed_from_u64(counter_of_bits(x_d));
            let chosen = match &mut in_training {
                Some(rng) => rand::seq::index::sample(rng, e, k),
                None => rand::seq::index::sample(&mut own(), e, k),
            };
            chosen.iter().for_each(|expert| tokens_of_e[expert].push(token as u32));
        }
        tokens_of_e
    }
}

impl Router for Random {
    fn route<'t>(
        &self,
        x_td: &sparsely_tensor::Var<'t>,
        settings: &RouteSettings,
        mode: &mut Mode<'_>,
    ) -> Result<Routing<'t>> {
        let [t, d] = x_td.dims("Random::route")?;
        let dial = &settings.dial;
        let k = dial.num_selected.unwrap_or(self.num_selected);
        let e = dial.num_experts(self.num_experts);
        if k == 0 || k > e {
            return Err(Error::Argument {
                op: "random routing",
                expected: dial.selected_range(self.num_experts),
                got: format!("{k}"),
            });
        }
        let tokens_of_e = Random::draw(x_td.values(), d, [e, k], mode);
        let stats = RouterStats {
            asked_e: tokens_of_e.iter().map(|tokens| tokens.len() as u64).collect(),
            tokens: t as u64,
            seats: (t * k) as u64,
            entropy_sum: t as f64 * (k as f64).ln(),
            ..RouterStats::default()
        };
        let weights_te = x_td.tape().constant([t, e], &vec![1.0 / k as f32; t * e])?;
        Seated::new(&tokens_of_e, t, stats)?.routing(&weights_te, None)
    }
}
