//! K of the E experts of each head, for each token.

use super::HeadGate;
use crate::moe::selection::top_k;
use crate::moe::{RouterStats, dropped};
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
        let stats = self.stats(&pairs, t);
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

    fn stats(&self, pairs: &[Vec<(u32, u32)>], t: usize) -> RouterStats {
        let asked_e: Vec<u64> = pairs.iter().map(|own| own.len() as u64).collect();
        RouterStats {
            seated_e: asked_e.clone(),
            asked_e,
            tokens: t as u64,
            seats: (t * self.heads * self.selected) as u64,
            ..RouterStats::default()
        }
    }
}
