//! K of the E experts of each head, for each token.

use super::HeadGate;
use crate::moe::selection::top_k;
use crate::moe::{RouterStats, dropped, entropy_sum};
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
    pub(super) stats: RouterStats,
}

impl Chooser {
    /// Chooses by logits `[T, H·E]`: the largest inside each head, the gradient through the gates alone.
    pub(super) fn choose<'t>(
        &self,
        logits: &Var<'t>,
        mode: &mut Mode<'_>,
    ) -> Result<HeadChoice<'t>> {
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
        let (choices, _) = match dropped(logits.values(), self.dropout, mode) {
            Some(scores) => top_k(&scores, e, k),
            None => top_k(logits.values(), e, k),
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
        let stats = self.stats(&pairs, logits);
        let gates_n = self.gates(logits, &choices, &places.concat())?;
        Ok(HeadChoice {
            to_heads: Arc::new(Routes::new([t, t * heads], &pairs)?),
            to_tokens: Arc::new(Routes::new([t * heads, t], &back)?),
            gates_n,
            stats,
        })
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
    fn stats(&self, pairs: &[Vec<(u32, u32)>], logits: &Var<'_>) -> RouterStats {
        let asked_e: Vec<u64> = pairs.iter().map(|own| own.len() as u64).collect();
        let gates = logits.detached().activation(Activation::Sigmoid);
        let decisions = logits.shape().len() / self.experts;
        RouterStats {
            seated_e: asked_e.clone(),
            asked_e,
            tokens: decisions as u64,
            seats: (decisions * self.selected) as u64,
            entropy_sum: entropy_sum(gates.values(), self.experts),
            ..RouterStats::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sparsely_tensor::{Layout, Pool, Slab, Tape};

    #[test]
    fn each_head_takes_its_own_two_of_three_experts() {
        let params = Slab::zeros(Arc::new(Layout::default()));
        let pool = Pool::new();
        let tape = Tape::inference(&params, &pool);
        // Head 0 takes its experts 1 and 2, head 1 its experts 0 and 2: groups 1, 2, 3 and 5.
        let logits = tape.constant([1, 6], &[0.0, 3.0, 2.0, 5.0, 0.0, 4.0]).unwrap();
        let chooser = |gate| Chooser { heads: 2, experts: 3, selected: 2, gate, dropout: 0.0 };
        let choice = chooser(HeadGate::Sigmoid).choose(&logits, &mut Mode::Eval).unwrap();
        assert_eq!(choice.stats.asked_e, [0, 1, 1, 1, 0, 1]);
        let to_head = |row| vec![(0, row)];
        let pairs = [vec![], to_head(0), to_head(0), to_head(1), vec![], to_head(1)];
        assert_eq!(*choice.to_heads, Routes::new([1, 2], &pairs).unwrap());
        let near = |gates: &[f32], want: [f32; 4]| {
            gates.iter().zip(want).all(|(gate, want)| (gate - want).abs() < 1e-4)
        };
        // 1 / (1 + e⁻ˣ) of 3, 2, 5, 4.
        assert!(near(choice.gates_n.values(), [0.9526, 0.8808, 0.9933, 0.9820]));
        let softmax =
            chooser(HeadGate::SoftmaxOfSelected).choose(&logits, &mut Mode::Eval).unwrap();
        // Both heads' logits are 1 apart: 1 / (1 + e⁻¹) and the rest.
        assert!(near(softmax.gates_n.values(), [0.7311, 0.2689, 0.7311, 0.2689]));
    }
}
