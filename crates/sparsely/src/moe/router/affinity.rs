//! Tokens to scores: gates by softmax or sigmoid, and transport plans made of them.

use super::columns_of;
use crate::Result;
use crate::moe::stats::{entropy_sum, softmax_entropy_sum};
use crate::moe::{RouterStats, Subset};
use crate::nn::{Init, Initializer, Mode};
use serde::{Deserialize, Serialize};
use sparsely_tensor as engine;
use sparsely_tensor::{Activation, Param, Spread, Var};

/// How logits become gates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// Over all experts, before any choice; never normalised again over those chosen.
    #[default]
    Softmax,
    /// Each expert for itself.
    Sigmoid,
}

/// What weighs the outputs of the experts that a transport plan selects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Combine {
    /// The softmax gates of the logits that the plan is made of, with their noise.
    #[default]
    Gates,
    /// The softmax gates without noise, as the reference's Sinkhorn token choice combines.
    CleanGates,
    /// The plan; the gradient goes through the way it is made.
    Plan,
}

/// An entropic plan.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sinkhorn {
    /// Scalings of columns and rows.
    pub iterations: usize,
    /// Weight of the entropy.
    pub epsilon: f32,
}

impl Default for Sinkhorn {
    fn default() -> Sinkhorn {
        Sinkhorn { iterations: 20, epsilon: 1.0 }
    }
}

impl Sinkhorn {
    pub(super) fn problem(&self) -> Option<String> {
        let works = self.iterations > 0 && self.epsilon > 0.0 && self.epsilon.is_finite();
        (!works).then(|| {
            "model.moe.router.plan needs iterations from 1 and an epsilon above 0".to_string()
        })
    }
}

/// A plan of few entries, by Adam on the semi-dual. 20 steps leave it unconverged, as in the
/// reference; [`crate::moe::RouterStats::marginal_error`] tells how far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SparsePlan {
    /// How many entries a token, or an expert, may have.
    pub support: Support,
    /// Steps of Adam.
    pub steps: usize,
    /// Their rate.
    pub lr: f32,
}

/// How many entries of a plan a token has, where tokens choose, or an expert, where experts do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Support {
    /// As many as are selected: K experts of a token, C tokens of an expert.
    #[default]
    Selected,
    /// Any number: plain quadratic transport.
    Any,
}

impl Default for SparsePlan {
    fn default() -> SparsePlan {
        SparsePlan { support: Support::Selected, steps: 20, lr: 1e-2 }
    }
}

impl SparsePlan {
    pub(super) fn problem(&self) -> Option<String> {
        let works = self.lr >= 0.0 && self.lr.is_finite();
        (!works).then(|| format!("model.moe.router.plan.lr {} is not a number from 0", self.lr))
    }
}

/// How scores come about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Affinity {
    /// The gates are the scores.
    Gates(Gate),
    /// An entropic plan decides.
    Sinkhorn(Sinkhorn, Combine),
    /// A sparse plan decides.
    Sparse(SparsePlan, Combine),
}

/// The logits of a router and what is made of them.
pub(super) struct Scorer {
    /// `[D, E]`, no bias.
    kernel: Param,
    pub(super) num_experts: usize,
    noise_std: f32,
    affinity: Affinity,
}

/// Who chooses how many, in groups of how many tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choosers<'a> {
    /// S.
    pub(super) s: usize,
    /// Rows if tokens choose, columns if experts do.
    pub(super) spread: Spread,
    /// K or C.
    pub(super) selected: usize,
    /// Among which experts.
    pub(super) experts: Option<&'a Subset>,
}

/// Scores `[T, E]` of one call.
pub(super) struct Scores<'t> {
    pub(super) clean_logits: Var<'t>,
    /// With noise in training.
    pub(super) logits: Var<'t>,
    pub(super) clean_gates: Var<'t>,
    pub(super) gates: Var<'t>,
    /// Decides who is selected.
    pub(super) deciding: Var<'t>,
    /// Weighs the outputs of the selected.
    pub(super) weighing: Var<'t>,
    gate: Gate,
    /// How far a plan is from its marginals, as a share of them.
    pub(super) marginal_error: Option<f64>,
}

impl Scorer {
    /// A LeCun-normal kernel.
    pub(super) fn init(
        init: &mut Initializer,
        [d, e]: [usize; 2],
        noise_std: f32,
        affinity: Affinity,
    ) -> Scorer {
        let kernel = init.kernel("kernel", [d, e], Init::LecunNormal { fan_in: d });
        Scorer { kernel, num_experts: e, noise_std, affinity }
    }

    /// σ of the noise in training.
    pub(super) fn sigma(&self) -> f32 {
        self.noise_std / self.num_experts as f32
    }

    /// Scores of `[T, D]`.
    pub(super) fn score<'t>(
        &self,
        x_td: &Var<'t>,
        choosers: Choosers<'_>,
        mode: &mut Mode<'_>,
    ) -> Result<Scores<'t>> {
        let logits_te = x_td.linear_f32(&self.kernel, None)?;
        let clean_logits = columns_of(logits_te, choosers.experts, 1)?;
        let logits = with_noise(&clean_logits, self.sigma(), mode)?;
        let gate = match self.affinity {
            Affinity::Gates(gate) => gate,
            Affinity::Sinkhorn(..) | Affinity::Sparse(..) => Gate::Softmax,
        };
        let clean_gates = gate.of(&clean_logits);
        let gates = logits.as_ref().map_or_else(|| clean_gates.clone(), |logits| gate.of(logits));
        let logits = logits.unwrap_or_else(|| clean_logits.clone());
        let (deciding, combine) = self.decide(&logits, &gates, choosers)?;
        let weighing = match combine {
            Combine::Gates => &gates,
            Combine::CleanGates => &clean_gates,
            Combine::Plan => &deciding,
        };
        let has_plan = !matches!(self.affinity, Affinity::Gates(_));
        let marginal_error =
            has_plan.then(|| marginal_error(deciding.values(), gates.shape().width(), choosers.s));
        let weighing = weighing.clone();
        Ok(Scores {
            clean_logits,
            logits,
            clean_gates,
            gates,
            deciding,
            weighing,
            gate,
            marginal_error,
        })
    }

    fn decide<'t>(
        &self,
        logits: &Var<'t>,
        gates: &Var<'t>,
        choosers: Choosers<'_>,
    ) -> Result<(Var<'t>, Combine)> {
        let Choosers { s, spread, selected, .. } = choosers;
        // A plan that only selects has no gradient, and keeps nothing for one.
        let source =
            |x: &Var<'t>, combine| if combine == Combine::Plan { x.clone() } else { x.detached() };
        match self.affinity {
            Affinity::Gates(_) => Ok((gates.clone(), Combine::Gates)),
            Affinity::Sinkhorn(Sinkhorn { iterations, epsilon }, combine) => {
                let settings = engine::Sinkhorn { group_rows: s, iterations, epsilon };
                Ok((source(logits, combine).sinkhorn(&settings)?, combine))
            }
            Affinity::Sparse(SparsePlan { support, steps, lr }, combine) => {
                let support = match support {
                    Support::Selected => selected,
                    Support::Any => s.max(self.num_experts),
                };
                let settings =
                    engine::SparseTransport { group_rows: s, spread, support, steps, lr };
                Ok((source(gates, combine).sparse_transport(&settings)?, combine))
            }
        }
    }
}

impl Scores<'_> {
    /// Notes what the gates and the plan are like.
    pub(super) fn describe(&self, stats: &mut RouterStats) {
        let (logits, gates) = (self.logits.values(), self.gates.values());
        let e = self.gates.shape().width();
        stats.entropy_sum = match self.gate {
            Gate::Softmax => softmax_entropy_sum(logits, gates, e),
            Gate::Sigmoid => entropy_sum(gates, e),
        };
        stats.marginal_error = self.marginal_error;
    }
}

impl Gate {
    pub(super) fn of<'t>(self, logits: &Var<'t>) -> Var<'t> {
        match self {
            Gate::Softmax => logits.softmax(),
            Gate::Sigmoid => logits.activation(Activation::Sigmoid),
        }
    }
}

/// The logits with noise N(0, σ²) in training; `None` where there is none.
pub(super) fn with_noise<'t>(
    logits: &Var<'t>,
    sigma: f32,
    mode: &mut Mode<'_>,
) -> Result<Option<Var<'t>>> {
    match mode {
        Mode::Train(draw) if sigma > 0.0 => {
            let mut noise = draw.normals(logits.shape().len());
            noise.iter_mut().for_each(|z| *z *= sigma);
            Ok(Some(logits.add_constant(&noise)?))
        }
        _ => Ok(None),
    }
}

/// The largest distance of a sum over a token from 1, or over an expert from S/E, as a share of that.
pub(super) fn marginal_error(plan_te: &[f32], e: usize, s: usize) -> f64 {
    let mut largest = 0.0_f64;
    for plan_se in plan_te.chunks(s * e) {
        let mut columns = vec![0.0_f32; e];
        for plan_e in plan_se.chunks(e) {
            let sum: f32 = plan_e.iter().sum();
            largest = largest.max(f64::from((sum - 1.0).abs()));
            columns.iter_mut().zip(plan_e).for_each(|(column, t)| *column += t);
        }
        let asked = s as f64 / e as f64;
        for column in columns {
            largest = largest.max((f64::from(column) / asked - 1.0).abs());
        }
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::marginal_error;

    #[test]
    fn a_token_without_mass_is_all_of_it_off() {
        // Rows sum to 1, 1, 0; columns to 1 and 1, where 1.5 are asked for: a third is missing.
        assert_eq!(marginal_error(&[1.0, 0.0, 0.0, 1.0, 0.0, 0.0], 2, 3), 1.0);
        assert_eq!(marginal_error(&[0.5; 4], 2, 2), 0.0);
    }
}
