//! Seating: how many tokens an expert takes, and which ones when more ask. Index arithmetic only.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// How many buffer positions an expert has in each group.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Capacity {
    /// That many.
    Exact {
        /// Buffer positions.
        seats: usize,
    },
    /// round(n·factor/E) with n = S·K, or S where experts choose, raised to a multiple of `multiple_of`.
    Factor {
        /// 1.0 has room for every choice if all experts are chosen equally often.
        factor: f64,
        /// How n·factor/E becomes a whole number.
        #[serde(default)]
        rounding: Rounding,
        /// 1 here; checkpoints of the reference were trained with 4, which silently raises the factor.
        #[serde(default = "one")]
        multiple_of: usize,
    },
    /// As many as ask: nothing is dropped.
    Unlimited,
}

fn one() -> usize {
    1
}

/// How a capacity becomes a whole number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// Up.
    #[default]
    Ceil,
    /// To the nearest, halves to even.
    Round,
}

impl Capacity {
    /// The capacity of `factor`, rounded up, not raised.
    pub fn factor(factor: f64) -> Capacity {
        Capacity::Factor { factor, rounding: Rounding::Ceil, multiple_of: 1 }
    }

    /// Buffer positions of each expert, for `choices` = S·K choices in a group.
    ///
    /// # Errors
    /// If that leaves an expert without any position.
    pub fn seats(&self, choices: usize, num_experts: usize) -> Result<usize> {
        let seats = match *self {
            Capacity::Exact { seats } => seats,
            Capacity::Unlimited => choices,
            Capacity::Factor { factor, rounding, multiple_of } => {
                let exact = choices as f64 * factor / num_experts as f64;
                let whole = match rounding {
                    Rounding::Ceil => exact.ceil(),
                    Rounding::Round => exact.round_ties_even(),
                };
                // A negative or NaN product casts to 0.
                (whole as usize).next_multiple_of(multiple_of.max(1))
            }
        };
        if seats == 0 {
            return Err(Error::Argument {
                op: "capacity",
                expected: "at least one seat for each expert".into(),
                got: format!("{self} for {choices} choices among {num_experts} experts"),
            });
        }
        Ok(seats)
    }
}

impl std::fmt::Display for Capacity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Capacity::Exact { seats } => write!(f, "{seats} seats"),
            Capacity::Factor { factor, .. } => write!(f, "a factor of {factor}"),
            Capacity::Unlimited => write!(f, "no limit"),
        }
    }
}

/// Which tokens are seated first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// By position in the group ("vanilla").
    #[default]
    Position,
    /// Batch Prioritized Routing by the largest gate.
    MaxGate,
    /// Batch Prioritized Routing by the sum of the K gates.
    SumGates,
    /// By a learned score of the token, which its weights are multiplied with.
    Learned,
}

/// A token order within a group.
pub type Order = Vec<u32>;

impl Priority {
    /// Token indices of a group, those to be seated first in front. `gates_sk` are the gates of
    /// each token's choices, largest first, and `learned_s` the learned scores, if any; ties keep the
    /// order of the tokens.
    pub fn order(self, gates_sk: &[f32], k: usize, learned_s: &[f32]) -> Order {
        let score = |token: u32| {
            let gates = &gates_sk[token as usize * k..][..k];
            match self {
                Priority::Position => 0.0,
                Priority::MaxGate => gates[0],
                Priority::SumGates => gates.iter().sum(),
                Priority::Learned => learned_s[token as usize],
            }
        };
        let mut order: Order = (0..(gates_sk.len() / k) as u32).collect();
        if self == Priority::Position {
            return order;
        }
        order.sort_by(|a, b| score(*b).total_cmp(&score(*a)));
        order
    }
}

/// A place in an expert's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The expert.
    pub expert: u32,
    /// Position in its buffer, below the capacity.
    pub position: u32,
}

/// The seats of a group: `[S, K]`, `None` where a choice was dropped for want of room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seating {
    /// By token, then rank.
    pub seats_sk: Vec<Option<Seat>>,
    /// How often each expert was chosen, seated or not.
    pub asked_e: Vec<u32>,
}

impl Seating {
    /// Seats every choice in its expert's buffer (V-MoE, Algorithm 1 and its batch prioritized form).
    ///
    /// All first choices are seated before any second choice; within a rank tokens come in
    /// `order_s`, so Batch Prioritized Routing is only a different order. A full expert's
    /// choices are dropped, not routed elsewhere.
    pub fn new(
        choices_sk: &[u32],
        k: usize,
        order_s: &[u32],
        num_experts: usize,
        capacity: usize,
    ) -> Seating {
        let mut seats_sk = vec![None; choices_sk.len()];
        let mut asked_e = vec![0; num_experts];
        for rank in 0..k {
            for &token in order_s {
                let choice = token as usize * k + rank;
                let expert = choices_sk[choice];
                let position = asked_e[expert as usize];
                if (position as usize) < capacity {
                    seats_sk[choice] = Some(Seat { expert, position });
                }
                asked_e[expert as usize] += 1;
            }
        }
        Seating { seats_sk, asked_e }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_factor_one_of_ten_choices_among_four_is_three() {
        // 10 · 1.0 / 4 = 2.5 → 3 up, 2 to even; next multiple of 4 is 4.
        let factor =
            |rounding, multiple_of| Capacity::Factor { factor: 1.0, rounding, multiple_of };
        assert_eq!(factor(Rounding::Ceil, 1).seats(10, 4).unwrap(), 3);
        assert_eq!(factor(Rounding::Round, 1).seats(10, 4).unwrap(), 2);
        assert_eq!(factor(Rounding::Round, 4).seats(10, 4).unwrap(), 4);
    }

    #[test]
    fn capacity_without_a_seat_is_refused() {
        let error = Capacity::Exact { seats: 0 }.seats(8, 4).unwrap_err();
        assert_eq!(
            error.to_string(),
            "capacity: expected at least one seat for each expert, \
             got 0 seats for 8 choices among 4 experts"
        );
    }

    #[test]
    fn full_expert_drops_the_later_token() {
        // Tokens 0, 1, 2 all want expert 1, which has two seats.
        let seating = Seating::new(&[1, 1, 1], 1, &[0, 1, 2], 2, 2);
        let seat = |position| Some(Seat { expert: 1, position });
        assert_eq!(seating.seats_sk, [seat(0), seat(1), None]);
        assert_eq!(seating.asked_e, [0, 3]);
    }

    #[test]
    fn first_choices_are_seated_before_second_choices() {
        // Token 0 chooses (0, 1), token 1 chooses (1, 0); one seat each: second choices drop.
        let seating = Seating::new(&[0, 1, 1, 0], 2, &[0, 1], 2, 1);
        let seat = |expert| Some(Seat { expert, position: 0 });
        assert_eq!(seating.seats_sk, [seat(0), None, seat(1), None]);
    }

    #[test]
    fn priority_puts_the_surest_token_first() {
        // Largest gates .4, .6, .6; sums .8, .9, .7: ties keep the order of the tokens.
        let gates_sk = [0.4, 0.4, 0.6, 0.3, 0.6, 0.1];
        assert_eq!(Priority::Position.order(&gates_sk, 2, &[]), [0, 1, 2]);
        assert_eq!(Priority::MaxGate.order(&gates_sk, 2, &[]), [1, 2, 0]);
        assert_eq!(Priority::SumGates.order(&gates_sk, 2, &[]), [1, 0, 2]);
        assert_eq!(Priority::Learned.order(&gates_sk, 2, &[1.0, 1.5, 1.5]), [1, 2, 0]);
    }
}
