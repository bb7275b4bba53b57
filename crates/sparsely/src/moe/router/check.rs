//! What settings and dials of a router cannot work, told before anything is computed.

use super::{RouterConfig, Slots, SoftMixing};
use crate::moe::{Capacity, Dial, Priority};

/// What the routing of one layer is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Deviations from the router's settings.
    pub dial: &'a Dial,
    /// E.
    pub num_experts: usize,
    /// S.
    pub group_tokens: usize,
    /// Where the setting that decides K stands, for messages.
    pub place: &'a str,
}

impl RouterConfig {
    /// K, where each token takes as many.
    pub fn num_selected(&self) -> Option<usize> {
        match self {
            RouterConfig::TokenChoice(router) => Some(router.num_selected),
            RouterConfig::SinkhornTokenChoice(router) => Some(router.num_selected),
            RouterConfig::SparseTokenChoice(router) => Some(router.num_selected),
            RouterConfig::LossFree(router) => Some(router.num_selected),
            _ => None,
        }
    }

    /// Seats of each expert, where the router has them.
    pub fn capacity(&self) -> Option<Capacity> {
        match self {
            RouterConfig::TokenChoice(router) => Some(router.capacity),
            RouterConfig::SinkhornTokenChoice(router) => Some(router.capacity),
            RouterConfig::SparseTokenChoice(router) => Some(router.capacity),
            RouterConfig::LossFree(router) => Some(router.capacity),
            RouterConfig::ExpertChoice(router) => Some(router.capacity),
            RouterConfig::SinkhornExpertChoice(router) => Some(router.capacity),
            RouterConfig::SparseExpertChoice(router) => Some(router.capacity),
            RouterConfig::Soft(_) | RouterConfig::Relu(_) => None,
        }
    }

    /// Who sits first, where tokens queue for seats.
    pub fn priority(&self) -> Option<Priority> {
        match self {
            RouterConfig::TokenChoice(router) => Some(router.priority),
            RouterConfig::SinkhornTokenChoice(router) => Some(router.priority),
            RouterConfig::SparseTokenChoice(router) => Some(router.priority),
            RouterConfig::LossFree(router) => Some(router.priority),
            _ => None,
        }
    }

    /// Noise of the logits in training.
    pub fn noise_std(&self) -> f32 {
        match self {
            RouterConfig::TokenChoice(router) => router.noise_std,
            RouterConfig::SinkhornTokenChoice(router) => router.noise_std,
            RouterConfig::SparseTokenChoice(router) => router.noise_std,
            RouterConfig::LossFree(router) => router.noise_std,
            RouterConfig::ExpertChoice(router) => router.noise_std,
            RouterConfig::SinkhornExpertChoice(router) => router.noise_std,
            RouterConfig::SparseExpertChoice(router) => router.noise_std,
            RouterConfig::Soft(router) => router.noise_std,
            RouterConfig::Relu(_) => 0.0,
        }
    }

    /// Why a dial does not go with this router, if so: one sentence.
    pub fn refusal(&self, dial: &Dial) -> Option<String> {
        let has_no_k = match self {
            RouterConfig::Soft(_) => "Soft MoE has no K: every expert sees a mixture of all tokens",
            RouterConfig::Relu(_) => {
                "ReLU routing has no K: each token takes the experts whose gate is above 0"
            }
            _ if self.num_selected().is_none() => {
                "expert choice has no K: each expert takes its tokens, as many as its capacity says"
            }
            _ if dial.priority == Some(Priority::Learned)
                && self.priority() != Some(Priority::Learned) =>
            {
                return Some("this router was not trained with a learned priority".into());
            }
            _ => return None,
        };
        if let RouterConfig::Soft(router) = self
            && router.mixing == SoftMixing::Identity
            && dial.experts.is_some()
        {
            return Some(
                "Soft MoE with identity mixing needs all experts: slot i is token i".into(),
            );
        }
        if dial.num_selected.is_some() {
            return Some(has_no_k.into());
        }
        if dial.priority.is_some() {
            let name = has_no_k.split(" has ").next().unwrap_or_default();
            return Some(format!("{name} has no priority: tokens do not queue for seats"));
        }
        // No limit is what they have anyway.
        let asks_for_seats = dial.capacity.is_some_and(|capacity| capacity != Capacity::Unlimited);
        match self {
            RouterConfig::Soft(_) if asks_for_seats => {
                Some("Soft MoE has no capacity: its slots are parameters".into())
            }
            RouterConfig::Relu(_) if asks_for_seats => {
                Some("ReLU routing has no capacity: it computes every expert that is asked".into())
            }
            _ => None,
        }
    }

    /// What cannot work, one sentence each.
    pub fn problems(&self, asked: &Asked<'_>) -> Vec<String> {
        let mut problems: Vec<String> = self.refusal(asked.dial).into_iter().collect();
        if asked.num_experts == 0 {
            problems.push("model.moe.num_experts must be at least 1".into());
        } else if problems.is_empty() {
            problems.extend(self.seat_problem(asked));
        }
        problems.extend(self.number_problems());
        problems
    }

    fn seat_problem(&self, asked: &Asked<'_>) -> Option<String> {
        let &Asked { dial, num_experts: e, group_tokens: s, place } = asked;
        if let Some(problem) = experts_problem(dial, e) {
            return Some(problem);
        }
        if let RouterConfig::Soft(router) = self {
            return router.slots.per_expert(s, e).err();
        }
        let (left, e) =
            (if dial.experts.is_some() { " that take part" } else { "" }, dial.num_experts(e));
        let mut choices = s;
        if let Some(k) = self.num_selected() {
            let k = dial.num_selected.unwrap_or(k);
            if k == 0 || k > e {
                return Some(format!(
                    "{place}.num_selected {k} is not in 1..={e}, the number of experts{left}"
                ));
            }
            choices = s.saturating_mul(k);
        } else if self.capacity() == Some(Capacity::Unlimited) {
            return Some(
                "expert choice needs a capacity: without one every expert takes every token".into(),
            );
        }
        let capacity = self.capacity_under(dial)?;
        capacity.seats(choices, e).err().map(|error| error.to_string())
    }

    /// The capacity under a dial. Experts that choose keep theirs where nothing may be dropped: they
    /// drop nothing.
    pub fn capacity_under(&self, dial: &Dial) -> Option<Capacity> {
        let own = self.capacity()?;
        match dial.capacity {
            Some(Capacity::Unlimited) if self.num_selected().is_none() => Some(own),
            asked => Some(asked.unwrap_or(own)),
        }
    }

    fn number_problems(&self) -> Vec<String> {
        let from_zero = |name: &str, value: f32| {
            let works = value >= 0.0 && value.is_finite();
            (!works).then(|| format!("model.moe.router.{name} {value} is not a number from 0"))
        };
        let mut checks = vec![from_zero("noise_std", self.noise_std())];
        match self {
            RouterConfig::SinkhornTokenChoice(router) => checks.push(router.plan.problem()),
            RouterConfig::SinkhornExpertChoice(router) => checks.push(router.plan.problem()),
            RouterConfig::SparseTokenChoice(router) => checks.push(router.plan.problem()),
            RouterConfig::SparseExpertChoice(router) => checks.push(router.plan.problem()),
            RouterConfig::LossFree(router) => checks.push(from_zero("bias_rate", router.bias_rate)),
            RouterConfig::Relu(router) => {
                let growth = router.l1_growth;
                let grows = growth >= 1.0 && growth.is_finite();
                checks.push(from_zero("num_selected", router.num_selected));
                checks.push(from_zero("l1_start", router.l1_start));
                checks.push((!grows).then(|| {
                    format!("model.moe.router.l1_growth {growth} is not a number from 1")
                }));
            }
            _ => {}
        }
        checks.into_iter().flatten().collect()
    }
}

/// What is wrong with the experts that a dial asks for, of `e`: one sentence.
pub(crate) fn experts_problem(dial: &Dial, e: usize) -> Option<String> {
    let missing = dial.experts.as_ref()?.beyond(e)?;
    Some(format!("there is no expert {missing}: they are 0 to {}", e.saturating_sub(1)))
}

impl Slots {
    /// P for groups of `s` tokens and `e` experts; or what is wrong.
    ///
    /// # Errors
    /// One sentence.
    pub fn per_expert(self, s: usize, e: usize) -> Result<usize, String> {
        let slots = match self {
            Slots::Exact { n } => n,
            // A negative or NaN product casts to 0.
            Slots::Factor { factor } => (s as f64 * factor / e as f64).round_ties_even() as usize,
        };
        let told = match self {
            Slots::Exact { n } => format!("{n} slots"),
            Slots::Factor { factor } => format!("a factor of {factor}"),
        };
        if slots == 0 {
            return Err(format!(
                "slots: expected at least one for each expert, got {told} for {s} tokens among {e} experts"
            ));
        }
        Ok(slots)
    }
}
