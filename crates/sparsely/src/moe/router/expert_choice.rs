//! Expert choice (arXiv 2202.09368), by gates or by a transport plan: no auxiliary loss, since every
//! expert takes as many tokens as every other.

use super::affinity::{Affinity, Choosers, Scorer};
use super::seats::Seated;
use super::{RouteSettings, Router};
use crate::Result;
use crate::moe::selection::top_tokens;
use crate::moe::{Capacity, RouterStats, Routing};
use crate::nn::{Initializer, Mode};
use sparsely_tensor::{Spread, Var};

/// Each expert takes its C tokens of largest score; a token may have 0 to E experts.
pub struct ExpertChoice {
    scorer: Scorer,
    capacity: Capacity,
}

impl ExpertChoice {
    pub(super) fn init(
        init: &mut Initializer,
        de: [usize; 2],
        (capacity, noise_std): (Capacity, f32),
        affinity: Affinity,
    ) -> ExpertChoice {
        ExpertChoice { scorer: Scorer::init(init, de, noise_std, affinity), capacity }
    }
}

impl Router for ExpertChoice {
    fn route<'t>(
        &self,
        x_td: &Var<'t>,
        settings: &RouteSettings,
        mode: &mut Mode<'_>,
    ) -> Result<Routing<'t>> {
        let (e, s) = (settings.dial.num_experts(self.scorer.num_experts), settings.group_tokens);
        let capacity = match settings.dial.capacity {
            // Nothing is dropped here; each expert goes on taking its share.
            None | Some(Capacity::Unlimited) => self.capacity,
            Some(capacity) => capacity,
        };
        let selected = capacity.seats(s, e)?.min(s);
        let experts = settings.dial.experts.as_ref();
        let choosers = Choosers { s, spread: Spread::Columns, selected, experts };
        let scores = self.scorer.score(x_td, choosers, mode)?;

        let deciding_te = scores.deciding.values();
        let (tokens, mut tokens_of_e) = (deciding_te.len() / e, vec![Vec::new(); e]);
        for (group, scores_se) in deciding_te.chunks(s * e).enumerate() {
            for (all, own) in tokens_of_e.iter_mut().zip(top_tokens(scores_se, e, selected)) {
                all.extend(own.iter().map(|token| (group * s) as u32 + token));
            }
        }
        let mut stats = RouterStats {
            asked_e: tokens_of_e.iter().map(|tokens| tokens.len() as u64).collect(),
            tokens: tokens as u64,
            unserved_tokens: unserved(&tokens_of_e, tokens),
            seats: (selected * e * (tokens / s)) as u64,
            ..RouterStats::default()
        };
        scores.describe(&mut stats);
        Seated::new(&tokens_of_e, tokens, stats)?.routing(&scores.weighing, None)
    }
}

fn unserved(tokens_of_e: &[Vec<u32>], tokens: usize) -> u64 {
    let mut is_served = vec![false; tokens];
    tokens_of_e.iter().flatten().for_each(|token| is_served[*token as usize] = true);
    is_served.iter().filter(|served| !**served).count() as u64
}
