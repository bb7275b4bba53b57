//! What of a router decides the cost of its layer: who chooses, and how many rows experts compute.

use super::call::{Call, Routed};
use crate::moe::{Capacity, Dial, MoeConfig, RouterConfig};
use crate::{Error, Result};

/// Who meets whom, as far as the cost depends on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Choice {
    /// Each token takes K experts, as far as the capacity goes.
    Tokens {
        /// K.
        k: usize,
        /// Seats of each expert.
        capacity: Capacity,
        /// Whether noise in training makes gates of its own beside the clean ones.
        noisy: bool,
    },
    /// Each expert takes its tokens of a group, as many as its capacity says.
    Experts {
        /// Tokens of each expert.
        capacity: Capacity,
        /// As above.
        noisy: bool,
    },
    /// Soft MoE: each expert computes P slots of each group, mixed from all of the group's tokens.
    Slots {
        /// P.
        p: usize,
    },
}

impl Choice {
    /// The router's settings under a dial: the one place that reads them.
    ///
    /// `length` is L. A transport plan is not counted: it is no product.
    ///
    /// # Errors
    /// If K is not in 1..=E, or the router does not have what the dial asks for.
    pub fn of(moe: &MoeConfig, dial: &Dial, length: usize) -> Result<Choice> {
        moe.router.check_dial(dial, moe.num_experts)?;
        let noisy = moe.router.noise_std() > 0.0;
        let capacity = moe.router.capacity_under(dial).unwrap_or(Capacity::Unlimited);
        let k = match &moe.router {
            RouterConfig::Soft(router) => {
                let p = router.slots.per_expert(moe.group.tokens(length), moe.num_experts);
                return Ok(Choice::Slots { p: p.map_err(Error::config)? });
            }
            // As many as are aimed at.
            RouterConfig::Relu(router) => {
                (router.num_selected.round() as usize).clamp(1, dial.num_experts(moe.num_experts))
            }
            router => match router.num_selected() {
                None => return Ok(Choice::Experts { capacity, noisy }),
                Some(k) => dial.num_selected.unwrap_or(k),
            },
        };
        if k == 0 || k > dial.num_experts(moe.num_experts) {
            return Err(Error::Argument {
                op: "cost",
                expected: dial.selected_range(moe.num_experts),
                got: format!("{k}"),
            });
        }
        Ok(Choice::Tokens { k, capacity, noisy })
    }

    /// Experts that one token meets.
    pub(super) fn experts_per_token(self, num_experts: usize) -> usize {
        match self {
            Choice::Tokens { k, .. } => k,
            // In the mean, and at least one.
            Choice::Experts { capacity: Capacity::Factor { factor, .. }, .. } => {
                (factor.ceil() as usize).clamp(1, num_experts)
            }
            Choice::Experts { .. } => 1,
            Choice::Slots { .. } => num_experts,
        }
    }

    /// Rows that the experts compute for a group of `tokens`, if all are asked equally often.
    fn rows(self, tokens: usize, num_experts: usize) -> Result<usize> {
        match self {
            Choice::Slots { p } => Ok(p * num_experts),
            Choice::Experts { capacity, .. } => {
                Ok(capacity.seats(tokens, num_experts)?.min(tokens) * num_experts)
            }
            Choice::Tokens { k, capacity, .. } => {
                let seats = capacity.seats(tokens * k, num_experts)?;
                Ok(seats.saturating_mul(num_experts).min(tokens * k))
            }
        }
    }
}

/// What the experts of one layer do for a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    /// Rows that are computed: N routed pairs, or slots.
    pub(super) rows: u64,
    /// Experts that compute any.
    pub(super) experts: u64,
}

impl Load {
    /// That of a layer that is left out.
    pub(super) const NONE: Load = Load { rows: 0, experts: 0 };

    /// The load of the layer of `block` among the experts that take part, for `tokens` tokens in groups of `group` and, where that
    /// does not divide them, a smaller last one.
    pub(super) fn of(
        choice: Choice,
        num_experts: usize,
        [tokens, group]: [usize; 2],
        (block, call): (usize, &Call<'_>),
    ) -> Result<Load> {
        if let Routed::Measured(stats) = call.routed {
            return measured(stats, block);
        }
        let mut rows = tokens / group * choice.rows(group.min(tokens), num_experts)?;
        if !tokens.is_multiple_of(group) {
            rows += choice.rows(tokens % group, num_experts)?;
        }
        Ok(Load { rows: rows as u64, experts: rows.min(num_experts) as u64 })
    }
}

fn measured(stats: &[(usize, crate::moe::RouterStats)], block: usize) -> Result<Load> {
    let Some((_, stats)) = stats.iter().find(|(index, _)| *index == block) else {
        return Err(Error::Argument {
            op: "cost",
            expected: format!("measured routing of block {block}"),
            got: format!("that of {} other blocks", stats.len()),
        });
    };
    let seated = stats.seated_e.iter();
    Ok(Load {
        rows: seated.clone().sum(),
        experts: seated.filter(|count| **count > 0).count() as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(choice: Choice, tokens_and_group: [usize; 2]) -> Load {
        Load::of(choice, 4, tokens_and_group, (0, &Call::balanced(1))).unwrap()
    }

    #[test]
    fn capacity_binds_in_each_group() {
        // Groups of 10 tokens, K = 1: ceil(10 · 0.5 / 4) = 2 seats, 8 rows of the 10 asked for. The
        // last 5 tokens: ceil(5 · 0.5 / 4) = 1 seat, 4 rows.
        let choice = Choice::Tokens { k: 1, capacity: Capacity::factor(0.5), noisy: false };
        assert_eq!(load(choice, [20, 10]), Load { rows: 16, experts: 4 });
        assert_eq!(load(choice, [25, 10]), Load { rows: 20, experts: 4 });
    }

    #[test]
    fn no_more_rows_than_choices_and_no_more_experts_than_rows() {
        let choice = Choice::Tokens { k: 2, capacity: Capacity::Unlimited, noisy: false };
        assert_eq!(load(choice, [1, 1]), Load { rows: 2, experts: 2 });
        assert_eq!(load(choice, [10, 10]), Load { rows: 20, experts: 4 });
    }

    #[test]
    fn experts_that_choose_take_their_share_of_each_group() {
        // Groups of 10 tokens: ceil(10 · 0.5 / 4) = 2 tokens for each of four experts.
        let choice = Choice::Experts { capacity: Capacity::factor(0.5), noisy: false };
        assert_eq!(load(choice, [20, 10]), Load { rows: 16, experts: 4 });
    }

    #[test]
    fn slots_do_not_depend_on_the_tokens() {
        assert_eq!(load(Choice::Slots { p: 3 }, [20, 10]), Load { rows: 24, experts: 4 });
        assert_eq!(load(Choice::Slots { p: 3 }, [200, 100]), Load { rows: 24, experts: 4 });
    }
}
