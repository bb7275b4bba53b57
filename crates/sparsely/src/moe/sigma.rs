//! Sigma-MoE (arXiv 2310.10837): experts without biases whose gate multiplies after the ReLU.

use super::selection::top_k;
use super::stats::entropy_sum;
use super::{Mixing, RouterStats, Routing, usage_entropy_loss};
use crate::nn::{Init, Initializer, Mode, Renormalised};
use crate::rng::Rng;
use crate::{Error, Result};
use rand::{Rng as _, SeedableRng};
use serde::{Deserialize, Serialize};
use sparsely_tensor::{Activation, GroupedWeights, Param, RowGroups, Var};
use std::sync::Arc;

/// An MLP of NE experts, of which each token uses K; nothing is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SigmaMoeConfig {
    /// NE.
    pub num_experts: usize,
    /// G, the hidden width of an expert.
    pub expert_width: usize,
    /// K.
    pub num_selected: usize,
    /// What weighs the selected experts.
    pub gate: SigmaGate,
    /// Whether experts have hidden biases, and the layer one ungated output bias.
    pub has_bias: bool,
    /// γ of γ Σ m ln m ([`usage_entropy_loss`]); 0 leaves it out.
    pub entropy_weight: f32,
    /// Chance that an expert may not be chosen by a token, in training.
    pub expert_dropout: f32,
}

impl Default for SigmaMoeConfig {
    fn default() -> SigmaMoeConfig {
        SigmaMoeConfig {
            num_experts: 16,
            expert_width: 128,
            num_selected: 4,
            gate: SigmaGate::default(),
            has_bias: false,
            entropy_weight: 1e-3,
            expert_dropout: 0.0,
        }
    }
}

/// What weighs the selected experts of [`SigmaMoeConfig`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SigmaGate {
    /// Each expert for itself.
    #[default]
    Sigmoid,
    /// Over all experts, before the choice, not normalised again.
    Softmax,
    /// Over the K logits that were selected.
    SoftmaxOfSelected,
}

impl SigmaMoeConfig {
    /// What cannot work, one sentence each; `place` is where the settings stand.
    pub fn problems(&self, place: &str) -> Vec<String> {
        let &SigmaMoeConfig { num_experts: e, num_selected: k, .. } = self;
        let checks = [
            (self.expert_width > 0, format!("{place}.expert_width must be at least 1")),
            (
                (1..=e).contains(&k),
                format!("{place}.num_selected {k} is not in 1..={e}, the number of experts"),
            ),
            (
                self.entropy_weight >= 0.0 && self.entropy_weight.is_finite(),
                format!("{place}.entropy_weight {} is not a number from 0", self.entropy_weight),
            ),
            (
                (0.0..1.0).contains(&self.expert_dropout),
                format!("{place}.expert_dropout {} is not in [0, 1)", self.expert_dropout),
            ),
        ];
        checks.into_iter().filter(|(works, _)| !works).map(|(_, problem)| problem).collect()
    }
}

/// The layer: y = Σ_{e chosen} g_e · ReLU(x K_e + b_e) V_e + o.
#[derive(Clone, Debug)]
pub struct SigmaMoe {
    /// `[NE, D, G]`, with `[NE, G]` where there are biases.
    pub keys: GroupedWeights,
    /// `[NE, G, D]`.
    pub values: GroupedWeights,
    /// `[D, NE]`.
    pub router: Param,
    /// `[D]`, added once, ungated.
    pub output_bias: Option<Param>,
    config: SigmaMoeConfig,
}

impl SigmaMoe {
    /// Fresh, from width D to width O in a model of `depth` layers: with S = √(2/depth), keys N(0, S²/D),
    /// values N(0, S²/(NE·G)), the router's columns renormalised to one norm, biases 0.
    pub fn init(
        init: &mut Initializer,
        config: &SigmaMoeConfig,
        [d, o, depth]: [usize; 3],
    ) -> SigmaMoe {
        let &SigmaMoeConfig { num_experts: e, expert_width: g, has_bias, .. } = config;
        let s = (2.0 / depth as f32).sqrt();
        let from = |fan_in: usize| Init::Normal { std: s / (fan_in as f32).sqrt() };
        let zero = Init::Constant(0.0);
        let router =
            Init::Router { std: s / (d as f32).sqrt(), columns: e, keeps: Renormalised::CommonStd };
        init.scope("sigma_moe", |init| SigmaMoe {
            keys: GroupedWeights {
                w: init.stack("keys", [e, d, g], from(d), false),
                b: has_bias.then(|| init.stacked_vector("bias", [e, g], zero, false)),
            },
            values: GroupedWeights {
                w: init.stack("values", [e, g, o], from(e * g), false),
                b: None,
            },
            router: init.kernel("router", [d, e], router),
            output_bias: has_bias.then(|| init.vector("output_bias", [o], zero)),
            config: *config,
        })
    }

    /// Which experts compute which tokens of `[T, D]`; the entropy loss is with it.
    ///
    /// # Errors
    /// If K is not in 1..=NE or the width is another.
    pub fn route<'t>(&self, x_td: &Var<'t>, mode: &mut Mode<'_>) -> Result<Routing<'t>> {
        let &SigmaMoeConfig { num_experts: e, num_selected: k, .. } = &self.config;
        let [t, _] = x_td.dims("SigmaMoe::route")?;
        if k == 0 || k > e {
            let expected = format!("1 to {e} selected experts");
            return Err(Error::Argument { op: "sigma-MoE", expected, got: format!("{k}") });
        }
        let logits_te = x_td.linear_f32(&self.router, None)?;
        let (choices, _) = match dropped(logits_te.values(), self.config.expert_dropout, mode) {
            Some(scores) => top_k(&scores, e, k),
            None => top_k(logits_te.values(), e, k),
        };
        let mut tokens_of_e = vec![Vec::new(); e];
        let mut places = vec![Vec::new(); e];
        for (place, expert) in choices.iter().enumerate() {
            tokens_of_e[*expert as usize].push((place / k) as u32);
            places[*expert as usize].push(place as u32);
        }
        let gates_n = self.gates(&logits_te, &choices, &places.concat())?;
        let asked_e: Vec<u64> = tokens_of_e.iter().map(|tokens| tokens.len() as u64).collect();
        let stats = RouterStats {
            seated_e: asked_e.clone(),
            asked_e,
            tokens: t as u64,
            seats: (t * k) as u64,
            entropy_sum: self.entropy_sum(&logits_te),
            ..RouterStats::default()
        };
        let rows = RowGroups::new(t, &tokens_of_e)?;
        let routing = Routing::new(rows, Mixing::Tokens(gates_n), stats);
        Ok(routing.with_losses(self.losses(&logits_te)?).with_logits(logits_te))
    }

    /// The gates of the choices `[T, K]`, in the order of `places` among them.
    fn gates<'t>(&self, logits_te: &Var<'t>, choices: &[u32], places: &[u32]) -> Result<Var<'t>> {
        let (e, k) = (self.config.num_experts, self.config.num_selected);
        let index = |place: usize| (place / k * e) as u32 + choices[place];
        let picked = Arc::new(places.iter().map(|place| index(*place as usize)).collect());
        match self.config.gate {
            SigmaGate::Sigmoid => Ok(logits_te.pick(&picked)?.activation(Activation::Sigmoid)),
            SigmaGate::Softmax => Ok(logits_te.softmax().pick(&picked)?),
            SigmaGate::SoftmaxOfSelected => {
                let all = Arc::new((0..choices.len()).map(index).collect());
                let selected_tk = logits_te.pick(&all)?.reshape([choices.len() / k, k])?;
                Ok(selected_tk.softmax().pick(&Arc::new(places.to_vec()))?)
            }
        }
    }

    /// Of the gates as shares of their sum, before the choice.
    fn entropy_sum(&self, logits_te: &Var<'_>) -> f64 {
        let logits_te = logits_te.detached();
        let gates_te = match self.config.gate {
            SigmaGate::Sigmoid => logits_te.activation(Activation::Sigmoid),
            SigmaGate::Softmax | SigmaGate::SoftmaxOfSelected => logits_te.softmax(),
        };
        entropy_sum(gates_te.values(), self.config.num_experts)
    }

    /// The entropy loss, if it has a weight.
    fn losses<'t>(&self, logits_te: &Var<'t>) -> Result<Vec<(Var<'t>, f32)>> {
        let weight = self.config.entropy_weight;
        if weight == 0.0 {
            return Ok(Vec::new());
        }
        Ok(vec![(usage_entropy_loss(logits_te, self.config.num_experts)?, weight)])
    }

    /// residual + the mixture: `[T, D]` → `[T, O]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn forward<'t>(
        &self,
        x_td: &Var<'t>,
        routing: &Routing<'t>,
        residual_to: Option<&Var<'t>>,
    ) -> Result<Var<'t>> {
        let z_ng = routing.dispatch(x_td, &self.keys)?;
        let y_to = routing.combine(Activation::Relu, &z_ng, &self.values, residual_to)?;
        let Some(bias) = &self.output_bias else { return Ok(y_to) };
        let [t, o] = y_to.dims("SigmaMoe::forward")?;
        Ok(y_to.reshape([t, 1, o])?.add_positions(bias)?.reshape([t, o])?)
    }
}

/// The logits with −∞ where training drops an expert for a token; `None` where nothing is dropped.
pub fn dropped(logits: &[f32], rate: f32, mode: &mut Mode<'_>) -> Option<Vec<f32>> {
    let Mode::Train(draw) = mode else { return None };
    if rate <= 0.0 {
        return None;
    }
    let mut rng = Rng::seed_from_u64(draw.seed());
    let keep = |x: &f32| if rng.random::<f32>() < rate { f32::NEG_INFINITY } else { *x };
    Some(logits.iter().map(keep).collect())
}
