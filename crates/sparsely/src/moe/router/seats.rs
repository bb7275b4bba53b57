//! What the token-choice routers share: K, capacity and priority of a call, and the seats that follow.

use super::RouteSettings;
use crate::moe::capacity::{Capacity, Priority, Seating};
use crate::moe::selection::top_k;
use crate::moe::{Mixing, RouterStats, Routing};
use crate::nn::{Init, Initializer};
use crate::{Error, Result};
use sparsely_tensor::{Activation, Param, RowGroups, Var};
use std::sync::Arc;

/// K, capacity and priority as configured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seats {
    pub(super) k: usize,
    pub(super) capacity: Capacity,
    pub(super) priority: Priority,
}

/// The pairs of tokens and experts of a call.
pub(super) struct Seated {
    rows: RowGroups,
    /// Where the weight of each pair stands in `[T, E]`.
    picked: Arc<Vec<u32>>,
    pub(super) stats: RouterStats,
}

/// A learned order: tokens of larger x·w first, and their weights times 1 + tanh(x·w), which
/// carries the gradient. It starts as 1 everywhere, with the tokens in their own order.
pub(super) struct LearnedPriority {
    /// `[D, 1]`.
    kernel: Param,
}

impl LearnedPriority {
    pub(super) fn init(
        init: &mut Initializer,
        priority: Priority,
        d: usize,
    ) -> Option<LearnedPriority> {
        let kernel = || init.kernel("priority", [d, 1], Init::Constant(0.0));
        (priority == Priority::Learned).then(kernel).map(|kernel| LearnedPriority { kernel })
    }

    /// 1 + tanh(x·w): `[T, D]` → `[T, 1]`.
    pub(super) fn factors<'t>(&self, x_td: &Var<'t>) -> Result<Var<'t>> {
        let score = x_td.linear_f32(&self.kernel, None)?;
        Ok(score.activation(Activation::Tanh).add_constant(&[1.0])?)
    }
}

impl Seats {
    /// As they are under a dial.
    ///
    /// # Errors
    /// If K is not in 1..=E, or more than the experts that take part of `num_experts`.
    pub(super) fn under(self, settings: &RouteSettings, num_experts: usize) -> Result<Seats> {
        let dial = &settings.dial;
        let k = dial.num_selected.unwrap_or(self.k);
        if k == 0 || k > dial.num_experts(num_experts) {
            return Err(Error::Argument {
                op: "token choice",
                expected: dial.selected_range(num_experts),
                got: format!("{k}"),
            });
        }
        let capacity = dial.capacity.unwrap_or(self.capacity);
        Ok(Seats { k, capacity, priority: dial.priority.unwrap_or(self.priority) })
    }

    /// Seats all groups of `s` tokens by the scores `[T, E]` that decide.
    ///
    /// # Errors
    /// If an expert has no seat.
    pub(super) fn seat(
        self,
        deciding_te: &[f32],
        [s, e]: [usize; 2],
        learned_t: &[f32],
    ) -> Result<Seated> {
        let Seats { k, priority, .. } = self;
        let tokens = deciding_te.len() / e;
        let capacity = self.capacity.seats(s * k, e)?;
        let mut tokens_of_e = vec![Vec::new(); e];
        let mut stats = RouterStats {
            asked_e: vec![0; e],
            tokens: tokens as u64,
            // No expert is asked more often than there are choices.
            seats: (capacity.min(s * k) * e * (tokens / s)) as u64,
            ..RouterStats::default()
        };
        for (group, scores_se) in deciding_te.chunks(s * e).enumerate() {
            let (choices_sk, scores_sk) = top_k(scores_se, e, k);
            let learned_s = learned_t.get(group * s..(group + 1) * s).unwrap_or_default();
            let order_s = priority.order(&scores_sk, k, learned_s);
            let seating = Seating::new(&choices_sk, k, &order_s, e, capacity);
            for (token, seats_k) in seating.seats_sk.chunks(k).enumerate() {
                for seat in seats_k.iter().flatten() {
                    tokens_of_e[seat.expert as usize].push((group * s + token) as u32);
                }
                stats.unserved_tokens += u64::from(seats_k.iter().all(Option::is_none));
            }
            let asked = stats.asked_e.iter_mut().zip(&seating.asked_e);
            asked.for_each(|(sum, asked)| *sum += u64::from(*asked));
        }
        Seated::new(&tokens_of_e, tokens, stats)
    }
}

impl Seated {
    /// From the tokens of each expert; fills in the experts' loads.
    pub(super) fn new(
        tokens_of_e: &[Vec<u32>],
        tokens: usize,
        mut stats: RouterStats,
    ) -> Result<Seated> {
        let e = tokens_of_e.len() as u32;
        let of_expert = |(expert, tokens): (usize, &Vec<u32>)| -> Vec<u32> {
            tokens.iter().map(|token| token * e + expert as u32).collect()
        };
        let picked = tokens_of_e.iter().enumerate().flat_map(of_expert).collect();
        stats.seated_e = tokens_of_e.iter().map(|tokens| tokens.len() as u64).collect();
        Ok(Seated { rows: RowGroups::new(tokens, tokens_of_e)?, picked: Arc::new(picked), stats })
    }

    /// The routing with the weights `[T, E]`, times a factor of each token.
    pub(super) fn routing<'t>(
        self,
        weighing_te: &Var<'t>,
        factors_t: Option<&Var<'t>>,
    ) -> Result<Routing<'t>> {
        let mut gates_n = weighing_te.pick(&self.picked)?;
        if let Some(factors_t) = factors_t {
            gates_n = gates_n.mul(&factors_t.pick(&Arc::new(self.rows.rows().to_vec()))?)?;
        }
        Ok(Routing::new(self.rows, Mixing::Tokens(gates_n), self.stats))
    }
}
