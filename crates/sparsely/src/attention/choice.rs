//! K of the E experts of each head, for each token.

use super::HeadGate;
use super::scene::{HeadChoices, HeadRouting};
use crate::moe::selection::top_k;
use crate::moe::{Balance, RouterStats, dropped, entropy_sum};
use crate::nn::Mode;
use crate::{Error, Result};
use sparsely_tensor::{Activation, Routes, Var};
use std::sync::Arc;

/// How experts of a head are chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chooser {
    /// H.
    pub(super) heads: usize,
    /// E.
    pub(super) experts: usize,
    /// K.
    pub(super) selected: usize,
    pub(super) gate: HeadGate,
    pub(super) dropout: f32,
}

/// The experts of each token and head, with their gates. Expert e of head h is group h·E + e.
pub(super) struct HeadChoice<'t> {
    /// Rows of tokens to rows of (token, head).
    pub(super) to_heads: Arc<Routes>,
    /// Back.
    pub(super) to_tokens: Arc<Routes>,
    /// `[N]`, in the order of the routes.
    pub(super) gates_n: Var<'t>,
}

impl Chooser {
    /// Chooses by logits `[T, H·E]`: the largest inside each head, the gradient through the gates alone. With a
    /// balance the largest of score + bias, where the scores are the gates before any choice.
    pub(super) fn choose<'t>(
        &self,
        logits: &Var<'t>,
        balance: Option<&Balance>,
        mode: &mut Mode<'_>,
    ) -> Result<(HeadChoice<'t>, HeadRouting)> {
        let &Chooser { heads, experts: e, selected: k, .. } = self;
        let [t, _] = logits.dims("choice of experts")?;
        let too_many = || Error::Argument {
            op: "choice of experts",
            expected: format!("1 to {e} selected experts"),
            got: format!("{k}"),
        };
        if k == 0 || k > e {
            return Err(too_many());
        }
        let scores = self.scores(logits)?;
        let deciding = match balance {
            Some(balance) => scores.add_constant(balance.bias_1e(logits.tape())?.values())?,
            None => logits.detached(),
        };
        let (choices, _) = match dropped(deciding.values(), self.dropout, mode) {
            Some(deciding) => top_k(&deciding, e, k),
            None => top_k(deciding.values(), e, k),
        };
        // Tokens in order within each group.
        let mut pairs = vec![Vec::new(); heads * e];
        let mut places = vec![Vec::new(); heads * e];
        for (row, chosen) in choices.chunks(k).enumerate() {
            for (rank, expert) in chosen.iter().enumerate() {
                let group = row % heads * e + *expert as usize;
                pairs[group].push(((row / heads) as u32, row as u32));
                places[group].push((row * k + rank) as u32);
            }
        }
        let back: Vec<Vec<(u32, u32)>> = pairs
            .iter()
            .map(|own| own.iter().map(|(token, row)| (*row, *token)).collect())
            .collect();
        let stats = self.stats(&pairs, &scores);
        let choice = HeadChoice {
            to_heads: Arc::new(Routes::new([t, t * heads], &pairs)?),
            to_tokens: Arc::new(Routes::new([t * heads, t], &back)?),
            gates_n: self.gates(logits, &choices, &places.concat())?,
        };
        let choices = HeadChoices { heads, num_selected: k, experts_thk: choices };
        Ok((choice, HeadRouting { stats, choices }))
    }

    /// The gates of all experts before any choice, without gradient: `[T, H·E]`.
    fn scores<'t>(&self, logits: &Var<'t>) -> Result<Var<'t>> {
        let logits = logits.detached();
        match self.gate {
            HeadGate::Sigmoid => Ok(logits.activation(Activation::Sigmoid)),
            HeadGate::SoftmaxOfSelected => {
                let rows = logits.shape().len() / self.experts;
                Ok(logits.reshape([rows, self.experts])?.softmax().reshape(logits.shape())?)
            }
        }
    }

    /// The gates of the choices, in the order of `places` among them.
    fn gates<'t>(&self, logits: &Var<'t>, choices: &[u32], places: &[u32]) -> Result<Var<'t>> {
        let (e, k) = (self.experts, self.selected);
        let index = |place: usize| (place / k * e) as u32 + choices[place];
        match self.gate {
            HeadGate::Sigmoid => {
                let picked = places.iter().map(|place| index(*place as usize)).collect();
                Ok(logits.pick(&Arc::new(picked))?.activation(Activation::Sigmoid))
            }
            HeadGate::SoftmaxOfSelected => {
                let picked = (0..choices.len()).map(index).collect();
                let selected = logits.pick(&Arc::new(picked))?.reshape([choices.len() / k, k])?;
                Ok(selected.softmax().pick(&Arc::new(places.to_vec()))?)
            }
        }
    }

    /// Counts over all heads; a token of each head is one of `tokens`.
    fn stats(&self, pairs: &[Vec<(u32, u32)>], scores: &Var<'_>) -> RouterStats {
        let asked_e: Vec<u64> = pairs.iter().map(|own| own.len() as u64).collect();
        let decisions = scores.shape().len() / self.experts;
        RouterStats {
            seated_e: asked_e.clone(),
            asked_e,
            tokens: decisions as u64,
            seats: (decisions * self.selected) as u64,
            entropy_sum: entropy_sum(scores.values(), self.experts),
            ..RouterStats::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Initializer;
    use sparsely_tensor::{Pool, Slab, Tape};

    fn chooser([heads, experts, selected]: [usize; 3], gate: HeadGate) -> Chooser {
        Chooser { heads, experts, selected, gate, dropout: 0.0 }
    }

    fn near(values: &[f32], want: &[f32]) -> bool {
        values.len() == want.len() && values.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-4)
    }

    /// A balance of these biases.
    fn balance(biases: &[f32]) -> (Balance, Slab) {
        let mut init = Initializer::default();
        let balance = Balance::init(&mut init, "balance", biases.len(), 0.5);
        let mut params = init.finish(0);
        let bias = params.layout().find("balance").unwrap().param;
        params.view_mut(&bias).copy_from_slice(biases);
        (balance, params)
    }

    #[test]
    fn each_head_takes_its_own_two_of_three_experts() {
        let (_, params) = balance(&[]);
        let pool = Pool::new();
        let tape = Tape::inference(&params, &pool);
        // Head 0 takes its experts 1 and 2, head 1 its experts 0 and 2: groups 1, 2, 3 and 5.
        let logits = tape.constant([1, 6], &[0.0, 3.0, 2.0, 5.0, 0.0, 4.0]).unwrap();
        let by = |gate| chooser([2, 3, 2], gate).choose(&logits, None, &mut Mode::Eval).unwrap();
        let (choice, told) = by(HeadGate::Sigmoid);
        assert_eq!(told.stats.asked_e, [0, 1, 1, 1, 0, 1]);
        assert_eq!((told.choices.heads, told.choices.num_selected), (2, 2));
        assert_eq!(told.choices.experts_thk, [1, 2, 0, 2]);
        let to_head = |row| vec![(0, row)];
        let pairs = [vec![], to_head(0), to_head(0), to_head(1), vec![], to_head(1)];
        assert_eq!(*choice.to_heads, Routes::new([1, 2], &pairs).unwrap());
        // 1 / (1 + e⁻ˣ) of 3, 2, 5, 4.
        assert!(near(choice.gates_n.values(), &[0.9526, 0.8808, 0.9933, 0.9820]));
        let (softmax, _) = by(HeadGate::SoftmaxOfSelected);
        // Both heads' logits are 1 apart: 1 / (1 + e⁻¹) and the rest.
        assert!(near(softmax.gates_n.values(), &[0.7311, 0.2689, 0.7311, 0.2689]));
    }

    #[test]
    fn entropy_is_that_of_the_gates_of_all_experts() {
        let (_, params) = balance(&[]);
        let pool = Pool::new();
        let tape = Tape::inference(&params, &pool);
        // Sigmoids of 0 and ln 3 are ½ and ¾: shares ⅖ and ⅗, 0.6730 nats. Softmax: shares ¼ and ¾, 0.5623. The
        // other head is even in both: ln 2 = 0.6931.
        let logits = tape.constant([1, 4], &[0.0, 3.0_f32.ln(), 1.0, 1.0]).unwrap();
        for (gate, nats) in [(HeadGate::Sigmoid, 0.6730), (HeadGate::SoftmaxOfSelected, 0.5623)] {
            let (_, told) =
                chooser([2, 2, 1], gate).choose(&logits, None, &mut Mode::Eval).unwrap();
            let expected = (nats + 2.0_f64.ln()) / 2.0;
            assert!((told.stats.entropy() - expected).abs() < 1e-4, "{gate:?}");
        }
    }

    #[test]
    fn a_bias_selects_and_does_not_weigh() {
        // Head 0: sigmoids ½, ¾ + biases 0.4, 0 → expert 0, with its gate ½. Head 1: even, no biases → the lower one.
        let (balance, params) = balance(&[0.4, 0.0, 0.0, 0.0]);
        let pool = Pool::new();
        let tape = Tape::inference(&params, &pool);
        let logits = tape.constant([1, 4], &[0.0, 3.0_f32.ln(), 0.0, 0.0]).unwrap();
        let choose = |gate, balance| {
            let chooser = chooser([2, 2, 1], gate);
            let (choice, told) = chooser.choose(&logits, balance, &mut Mode::Eval).unwrap();
            (told.choices.experts_thk, choice.gates_n.values().to_vec())
        };
        let (experts, gates) = choose(HeadGate::Sigmoid, Some(&balance));
        assert_eq!((experts, gates), (vec![0, 0], vec![0.5, 0.5]));
        assert_eq!(choose(HeadGate::Sigmoid, None).0, [1, 0]);
        // Softmax ¼, ¾: a bias of 0.4 is not enough.
        assert_eq!(choose(HeadGate::SoftmaxOfSelected, Some(&balance)).0, [1, 0]);
    }

    #[test]
    fn more_experts_than_there_are_cannot_be_selected() {
        let (_, params) = balance(&[]);
        let pool = Pool::new();
        let tape = Tape::inference(&params, &pool);
        let logits = tape.constant([1, 4], &[0.0; 4]).unwrap();
        let chosen = chooser([2, 2, 3], HeadGate::Sigmoid).choose(&logits, None, &mut Mode::Eval);
        assert_eq!(
            chosen.err().unwrap().to_string(),
            "choice of experts: expected 1 to 2 selected experts, got 3"
        );
    }
}
