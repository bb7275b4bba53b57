//! Softmax token choice with noise, capacity and auxiliary losses (V-MoE, arXiv 2106.05974).

use super::{RouteSettings, Router, TokenChoiceConfig};
use crate::moe::capacity::{Capacity, Priority, Seating};
use crate::moe::{RouterStats, Routing};
use crate::moe::{gshard_loss, importance_loss, load_loss, z_loss};
use crate::nn::{Init, Initializer, Mode};
use crate::{Error, Result};
use sparsely_tensor::{Activation, Param, RowGroups, Var};
use std::sync::Arc;

/// Each token takes its K experts of largest gate, the softmax over all experts.
pub struct TokenChoice {
    config: TokenChoiceConfig,
    /// `[D, E]`, no bias.
    kernel: Param,
    num_experts: usize,
}

/// Settings of one call, after the dial.
struct Choosing {
    k: usize,
    capacity: Capacity,
    priority: Priority,
    s: usize,
    e: usize,
}

impl TokenChoice {
    /// A LeCun-normal kernel.
    pub fn init(
        init: &mut Initializer,
        config: TokenChoiceConfig,
        d: usize,
        e: usize,
    ) -> TokenChoice {
        let kernel = Init::LecunNormal { fan_in: d };
        let kernel = init.kernel("kernel", [d, e], kernel);
        TokenChoice { config, kernel, num_experts: e }
    }

    fn choosing(&self, settings: &RouteSettings) -> Result<Choosing> {
        let k = settings.dial.num_selected.unwrap_or(self.config.num_selected);
        if k == 0 || k > self.num_experts {
            return Err(Error::Argument {
                op: "token choice",
                expected: format!("1 to {} selected experts per token", self.num_experts),
                got: format!("{k}"),
            });
        }
        Ok(Choosing {
            k,
            capacity: settings.dial.capacity.unwrap_or(self.config.capacity),
            priority: settings.dial.priority.unwrap_or(self.config.priority),
            s: settings.group_tokens,
            e: self.num_experts,
        })
    }

    /// Logits that decide: with noise N(0, (noise_std/E)²) in training.
    fn noisy<'t>(&self, logits_te: &Var<'t>, mode: &mut Mode<'_>) -> Result<Option<Var<'t>>> {
        match mode {
            Mode::Train(draw) if self.config.noise_std > 0.0 => {
                let mut noise = draw.normals(logits_te.shape().len());
                noise.iter_mut().for_each(|z| *z *= self.sigma());
                Ok(Some(logits_te.add_constant(&noise)?))
            }
            _ => Ok(None),
        }
    }

    fn sigma(&self) -> f32 {
        self.config.noise_std / self.num_experts as f32
    }

    fn losses<'t>(
        &self,
        [clean_logits, noisy_logits]: [&Var<'t>; 2],
        [clean_gates, gates]: [&Var<'t>; 2],
        choosing: &Choosing,
        trains: bool,
    ) -> Result<Vec<(Var<'t>, f32)>> {
        let (weights, s) = (self.config.loss, choosing.s);
        let mut losses = Vec::new();
        if weights.importance > 0.0 {
            losses.push((importance_loss(clean_gates, s)?, weights.importance));
        }
        if weights.load > 0.0 && trains && self.config.noise_std > 0.0 {
            let load = load_loss(clean_logits, noisy_logits, choosing.k, self.sigma(), s)?;
            losses.push((load, weights.load));
        }
        if weights.gshard > 0.0 {
            losses.push((gshard_loss(gates, s)?, weights.gshard));
        }
        if weights.z > 0.0 {
            losses.push((z_loss(clean_logits)?, weights.z));
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
        let choosing = self.choosing(settings)?;
        let clean_logits = x_td.linear(Activation::Identity, &self.kernel, None, None)?;
        let clean_gates = clean_logits.softmax();
        let noisy_logits = self.noisy(&clean_logits, mode)?;
        let gates_te = noisy_logits.as_ref().map_or_else(|| clean_gates.clone(), Var::softmax);

        let (pairs, picked, stats) = choosing.seat(gates_te.values())?;
        let trains = matches!(mode, Mode::Train(_));
        let noisy_logits = noisy_logits.as_ref().unwrap_or(&clean_logits);
        let losses = self.losses(
            [&clean_logits, noisy_logits],
            [&clean_gates, &gates_te],
            &choosing,
            trains,
        )?;
        Ok(Routing {
            pairs: Arc::new(pairs),
            gates_n: gates_te.pick(&Arc::new(picked))?,
            losses,
            stats,
        })
    }
}

impl Choosing {
    /// Seats all groups: the pairs by expert, where each pair's gate stands in `gates_te`, counts.
    fn seat(&self, gates_te: &[f32]) -> Result<(RowGroups, Vec<u32>, RouterStats)> {
        let &Choosing { k, s, e, .. } = self;
        let tokens = gates_te.len() / e;
        let capacity = self.capacity.seats(s * k, e)?;
        let mut tokens_of_e = vec![Vec::new(); e];
        let mut stats = RouterStats {
            asked_e: vec![0; e],
            seated_e: vec![0; e],
            tokens: tokens as u64,
            // No expert is asked more often than there are choices.
            seats: (capacity.min(s * k) * e * (tokens / s)) as u64,
            ..RouterStats::default()
        };
        for (group, gates_se) in gates_te.chunks(s * e).enumerate() {
            let (choices_sk, gates_sk) = top_k(gates_se, e, k);
            let order_s = self.priority.order(&gates_sk, k);
            let seating = Seating::new(&choices_sk, k, &order_s, e, capacity);
            for (token, seats_k) in seating.seats_sk.chunks(k).enumerate() {
                for seat in seats_k.iter().flatten() {
                    tokens_of_e[seat.expert as usize].push((group * s + token) as u32);
                }
                stats.unserved_tokens += u64::from(seats_k.iter().all(Option::is_none));
            }
            stats
                .asked_e
                .iter_mut()
                .zip(&seating.asked_e)
                .for_each(|(sum, asked)| *sum += u64::from(*asked));
        }
        let picked = tokens_of_e
            .iter()
            .enumerate()
            .flat_map(|(expert, tokens)| tokens.iter().map(move |t| t * e as u32 + expert as u32))
            .collect();
        stats.seated_e = tokens_of_e.iter().map(|tokens| tokens.len() as u64).collect();
        Ok((RowGroups::new(tokens, &tokens_of_e)?, picked, stats))
    }
}

/// Experts `[S, K]` of largest gate, largest first, ties to the lower index; and their gates, from
/// `[S, E]`. K is at most E.
pub fn top_k(gates_se: &[f32], e: usize, k: usize) -> (Vec<u32>, Vec<f32>) {
    let mut order: Vec<u32> = Vec::with_capacity(e);
    let (mut choices, mut gates) = (Vec::new(), Vec::new());
    for gates_e in gates_se.chunks(e) {
        order.clear();
        order.extend(0..e as u32);
        order.sort_by(|a, b| gates_e[*b as usize].total_cmp(&gates_e[*a as usize]));
        choices.extend_from_slice(&order[..k]);
        gates.extend(order[..k].iter().map(|expert| gates_e[*expert as usize]));
    }
    (choices, gates)
}
