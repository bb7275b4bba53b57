//! Mixture of attention heads (Zhang et al. 2022, arXiv 2210.05144): experts are heads that share keys
//! and values.

use super::positions::Positions;
use super::scene::{HeadChoices, HeadRouting, KeysValues, Report, Scene};
use super::{MoaConfig, MoaGate, MoaLossWeights};
use crate::moe::selection::top_k;
use crate::moe::{RouterStats, entropy_sum, z_loss};
use crate::nn::{Init, Initializer};
use crate::{Error, Result};
use sparsely_tensor::{Activation, Param, Routes, Var};
use std::sync::Arc;

/// E heads, of which each token uses K.
#[derive(Clone, Debug)]
pub struct Moa {
    /// `[E, D, A]`.
    pub queries: Param,
    /// `[D, A]`.
    pub keys: Param,
    /// `[D, A]`.
    pub values: Param,
    /// `[E, A, D]`.
    pub outputs: Param,
    /// `[D, E]`.
    pub router: Param,
    /// `[1]`.
    pub scale: Param,
    /// Where keys are.
    pub positions: Positions,
    config: MoaConfig,
}

/// The heads of each token: its j-th is row t·K + j.
struct Choice<'t> {
    to_heads: Arc<Routes>,
    to_tokens: Arc<Routes>,
    gates_n: Var<'t>,
}

impl Moa {
    /// Fresh, for width D in a model of `depth` layers: N(0, S²/D) with S = √(2/depth), outputs N(0, S²/(K·A)), scale
    /// 1/√A.
    pub fn init(init: &mut Initializer, config: &MoaConfig, [d, depth]: [usize; 2]) -> Moa {
        let &MoaConfig { num_experts: e, num_selected: k, head_width: a, positions, .. } = config;
        let s = (2.0 / depth as f32).sqrt();
        let from = |fan_in: usize| Init::Normal { std: s / (fan_in as f32).sqrt() };
        Moa {
            queries: init.stack("queries", [e, d, a], from(d), false),
            keys: init.kernel("keys", [d, a], from(d)),
            values: init.kernel("values", [d, a], from(d)),
            outputs: init.stack("outputs", [e, a, d], from(k * a), false),
            router: init.kernel("router", [d, e], from(d)),
            scale: init.vector("scale", [1], Init::Constant(1.0 / (a as f32).sqrt())),
            positions: Positions::init(init, positions, [d, a, a], from(d)),
            config: *config,
        }
    }

    /// Keys and values of `[B, L, D]`, one head of each, the first at place `first`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn source<'t>(&self, x: &Var<'t>, first: usize) -> Result<KeysValues<'t>> {
        KeysValues::dense(x, [&self.keys, &self.values], &self.positions, first)
    }

    /// Queries of `[B, Q, D]` over a source: Σ_j g_j O_{e_j}(P_j v), `[B, Q, D]`, plus the residual.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn attend<'t>(
        &self,
        x: &Var<'t>,
        source: &KeysValues<'t>,
        scene: &Scene<'_, 't>,
        residual: Option<&Var<'t>>,
        report: &mut Report<'t>,
    ) -> Result<Var<'t>> {
        let [b, l, d] = x.dims("Moa::attend")?;
        let &MoaConfig { num_selected: k, head_width: a, .. } = &self.config;
        let choice = self.choose(&x.reshape([b * l, d])?, report)?;
        let queries = x.routed_linear(&self.queries, &choice.to_heads, None, None)?;
        let queries = queries.reshape([b, l, k * a])?.scaled(&self.scale)?;
        let pair = [queries.clone(), queries];
        let mixed = scene.attend(&self.positions, pair, source, (a, 1.0))?;
        let gates = Some(&choice.gates_n);
        let y = mixed.routed_linear(&self.outputs, &choice.to_tokens, gates, residual)?;
        Ok(y.reshape([b, l, d])?)
    }

    fn choose<'t>(&self, x_td: &Var<'t>, report: &mut Report<'t>) -> Result<Choice<'t>> {
        let &MoaConfig { num_experts: e, num_selected: k, gate, .. } = &self.config;
        let t = x_td.shape().rows();
        if k == 0 || k > e {
            return Err(Error::Argument {
                op: "choice of heads",
                expected: format!("1 to {e} selected heads"),
                got: format!("{k}"),
            });
        }
        let logits_te = x_td.linear_f32(&self.router, None)?;
        let gates_te = match gate {
            MoaGate::Softmax => logits_te.softmax(),
            MoaGate::Sigmoid => logits_te.activation(Activation::Sigmoid),
        };
        let (choices, _) = top_k(logits_te.values(), e, k);
        let mut pairs = vec![Vec::new(); e];
        for (place, expert) in choices.iter().enumerate() {
            pairs[*expert as usize].push(((place / k) as u32, place as u32));
        }
        let swap = |own: &Vec<(u32, u32)>| own.iter().map(|(token, row)| (*row, *token)).collect();
        let back: Vec<Vec<(u32, u32)>> = pairs.iter().map(swap).collect();
        let picked = pairs.iter().enumerate().flat_map(|(expert, own)| {
            own.iter().map(move |(token, _)| token * e as u32 + expert as u32)
        });
        let gates_n = gates_te.pick(&Arc::new(picked.collect()))?;
        let asked_e: Vec<u64> = pairs.iter().map(|own| own.len() as u64).collect();
        report.losses.extend(self.losses(&logits_te, &gates_te, &choices)?);
        let stats = RouterStats {
            seated_e: asked_e.clone(),
            asked_e,
            tokens: t as u64,
            seats: (t * k) as u64,
            entropy_sum: entropy_sum(gates_te.values(), e),
            ..RouterStats::default()
        };
        let choices = HeadChoices { heads: 1, num_selected: k, experts_thk: choices };
        report.destination = Some(HeadRouting { stats, choices });
        Ok(Choice {
            to_heads: Arc::new(Routes::new([t, t * k], &pairs)?),
            to_tokens: Arc::new(Routes::new([t * k, t], &back)?),
            gates_n,
        })
    }

    /// The balancing losses, over all tokens and the axis of the experts.
    fn losses<'t>(
        &self,
        logits_te: &Var<'t>,
        gates_te: &Var<'t>,
        choices: &[u32],
    ) -> Result<Vec<(Var<'t>, f32)>> {
        let MoaLossWeights { cv, switch, z } = self.config.loss;
        let k = self.config.num_selected;
        let mut losses = Vec::new();
        if cv > 0.0 {
            losses.push((moa_cv_loss(gates_te, choices, k)?, cv));
        }
        if switch > 0.0 {
            losses.push((moa_switch_loss(gates_te, choices)?, switch));
        }
        if z > 0.0 {
            losses.push((z_loss(logits_te)?, z));
        }
        Ok(losses)
    }
}

/// Unbiased variance over mean² of the experts' summed gates where they were chosen: gates `[T, E]`,
/// choices `[T, K]`.
///
/// # Errors
/// If there are no tokens.
pub fn moa_cv_loss<'t>(gates_te: &Var<'t>, choices: &[u32], k: usize) -> Result<Var<'t>> {
    let [t, e] = gates_te.dims("moa_cv_loss")?;
    let mut chosen_te = vec![0.0; t * e];
    for (place, expert) in choices.iter().enumerate() {
        chosen_te[place / k * e + *expert as usize] = 1.0;
    }
    let chosen_te = gates_te.tape().constant([t, e], &chosen_te)?;
    let population = gates_te.mul(&chosen_te)?.sum_groups(t)?.cv_squared()?;
    let unbiased = e as f64 / (e as f64 - 1.0).max(1.0);
    Ok(population.dot_constant(&[unbiased])?)
}

/// E · Σ_e (share of gates)_e · (share of choices)_e (Fedus et al. 2021, arXiv 2101.03961).
///
/// # Errors
/// If there are no tokens.
pub fn moa_switch_loss<'t>(gates_te: &Var<'t>, choices: &[u32]) -> Result<Var<'t>> {
    let [t, e] = gates_te.dims("moa_switch_loss")?;
    let mut counts_e = vec![0.0; e];
    choices.iter().for_each(|expert| counts_e[*expert as usize] += 1.0);
    // Rows of softmax gates sum to 1, so all gates sum to T.
    let factor = e as f64 / (choices.len() as f64 * t as f64);
    counts_e.iter_mut().for_each(|count| *count *= factor);
    Ok(gates_te.sum_groups(t)?.dot_constant(&counts_e)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sparsely_tensor::{Layout, Pool, Slab, Tape};

    /// Two tokens of gates (¾, ¼) each.
    fn loss(of: impl for<'t> Fn(&Var<'t>) -> Result<Var<'t>>) -> f32 {
        let params = Slab::zeros(Arc::new(Layout::default()));
        let pool = Pool::new();
        let tape = Tape::inference(&params, &pool);
        of(&tape.constant([2, 2], &[0.75, 0.25, 0.75, 0.25]).unwrap()).unwrap().values()[0]
    }

    #[test]
    fn cv_loss_of_three_to_one_is_a_half() {
        // One choice each, different ones: sums (¾, ¼), mean ½, unbiased variance 2 · 1/16, over ¼.
        assert!((loss(|gates_te| moa_cv_loss(gates_te, &[0, 1], 1)) - 0.5).abs() < 1e-6);
    }

    #[test]
    fn switch_loss_is_one_in_balance_and_more_where_all_choose_one() {
        // 2 · (¾ · ½ + ¼ · ½) = 1; 2 · ¾ · 1 = 1.5.
        assert!((loss(|gates_te| moa_switch_loss(gates_te, &[0, 1])) - 1.0).abs() < 1e-6);
        assert!((loss(|gates_te| moa_switch_loss(gates_te, &[0, 0])) - 1.5).abs() < 1e-6);
    }
}
