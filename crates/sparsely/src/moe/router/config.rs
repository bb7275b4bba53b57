//! Each router's settings as a value: only those that it has, so that what cannot work together
//! cannot be written.

use super::affinity::{Combine, Gate, Sinkhorn, SparsePlan};
use crate::moe::{Capacity, Priority};
use serde::{Deserialize, Deserializer, Serialize};

/// Who chooses whom.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum RouterConfig {
    /// Each token takes its K experts of largest gate (V-MoE, arXiv 2106.05974).
    TokenChoice(TokenChoiceConfig),
    /// Each token takes its K experts by an entropic transport plan (arXiv 2401.15969).
    SinkhornTokenChoice(PlanTokenChoice<Sinkhorn>),
    /// Each token takes its K experts by a plan of that many experts a token (arXiv 2209.15466).
    SparseTokenChoice(PlanTokenChoice<SparsePlan>),
    /// Each expert takes its C tokens of largest gate (arXiv 2202.09368).
    ExpertChoice(ExpertChoiceConfig),
    /// Each expert takes its C tokens by an entropic transport plan.
    SinkhornExpertChoice(PlanExpertChoice<Sinkhorn>),
    /// Each expert takes its C tokens by a plan of that many tokens an expert.
    SparseExpertChoice(PlanExpertChoice<SparsePlan>),
    /// Slots mixed from all tokens of a group (Soft MoE, arXiv 2308.00951).
    Soft(SoftConfig),
    /// Token choice balanced by a bias that no loss moves (arXiv 2408.15664).
    LossFree(LossFreeConfig),
    /// Experts whose gate max(x W, 0) is above 0 (ReMoE, arXiv 2412.14711).
    Relu(ReluConfig),
    /// Random experts: the control of any learned choice.
    Random(RandomConfig),
}

impl Default for RouterConfig {
    fn default() -> RouterConfig {
        RouterConfig::TokenChoice(TokenChoiceConfig::default())
    }
}

/// A router's settings; token choice where no `kind` is told.
pub(crate) fn of_kind<'de, D: Deserializer<'de>>(settings: D) -> Result<RouterConfig, D::Error> {
    let mut settings = serde_json::Map::deserialize(settings)?;
    settings.entry("kind").or_insert_with(|| "token_choice".into());
    RouterConfig::deserialize(serde_json::Value::Object(settings)).map_err(serde::de::Error::custom)
}

/// Token choice: gates with noise, capacity and auxiliary losses.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenChoiceConfig {
    /// K.
    pub num_selected: usize,
    /// How logits become gates.
    pub gate: Gate,
    /// Noise of the logits in training, divided by E.
    pub noise_std: f32,
    /// Seats of each expert.
    pub capacity: Capacity,
    /// Who sits first.
    pub priority: Priority,
    /// Weights of the auxiliary losses.
    pub loss: LossWeights,
}

impl Default for TokenChoiceConfig {
    fn default() -> TokenChoiceConfig {
        TokenChoiceConfig {
            num_selected: 2,
            gate: Gate::Softmax,
            noise_std: 1.0,
            capacity: Capacity::factor(1.05),
            priority: Priority::Position,
            loss: LossWeights::default(),
        }
    }
}

/// Weights of the auxiliary losses; 0 leaves one out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LossWeights {
    /// CV² of the summed gates.
    pub importance: f32,
    /// CV² of the chances to be selected; training with noise only.
    pub load: f32,
    /// The product form of GShard.
    pub gshard: f32,
    /// Mean squared log-sum-exp of the logits.
    pub z: f32,
}

impl LossWeights {
    /// No auxiliary loss.
    pub const NONE: LossWeights = LossWeights { importance: 0.0, load: 0.0, gshard: 0.0, z: 0.0 };
}

impl Default for LossWeights {
    fn default() -> LossWeights {
        LossWeights { importance: 0.005, load: 0.005, ..LossWeights::NONE }
    }
}

/// Token choice by a transport plan, which balances by itself.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlanTokenChoice<P> {
    /// K.
    pub num_selected: usize,
    /// Noise of the logits in training, divided by E.
    pub noise_std: f32,
    /// Seats of each expert.
    pub capacity: Capacity,
    /// Who sits first, by the plan's values.
    pub priority: Priority,
    /// What weighs the experts' outputs.
    pub combine: Combine,
    /// How the plan is made.
    pub plan: P,
}

impl<P: Default> Default for PlanTokenChoice<P> {
    fn default() -> Self {
        PlanTokenChoice {
            num_selected: 2,
            noise_std: 1.0,
            capacity: Capacity::factor(1.05),
            priority: Priority::Position,
            combine: Combine::Gates,
            plan: P::default(),
        }
    }
}

/// Expert choice: gates over experts, from which each expert takes its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExpertChoiceConfig {
    /// How logits become gates.
    pub gate: Gate,
    /// Noise of the logits in training, divided by E.
    pub noise_std: f32,
    /// Tokens of each expert, for S choices.
    pub capacity: Capacity,
}

impl Default for ExpertChoiceConfig {
    fn default() -> ExpertChoiceConfig {
        let capacity = Capacity::factor(1.0);
        ExpertChoiceConfig { gate: Gate::Softmax, noise_std: 1.0, capacity }
    }
}

/// Expert choice by a transport plan.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlanExpertChoice<P> {
    /// Noise of the logits in training, divided by E.
    pub noise_std: f32,
    /// Tokens of each expert, for S choices.
    pub capacity: Capacity,
    /// What weighs the experts' outputs.
    pub combine: Combine,
    /// How the plan is made.
    pub plan: P,
}

impl<P: Default> Default for PlanExpertChoice<P> {
    fn default() -> Self {
        PlanExpertChoice {
            noise_std: 1.0,
            capacity: Capacity::factor(1.0),
            combine: Combine::Gates,
            plan: P::default(),
        }
    }
}

/// Soft MoE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SoftConfig {
    /// P.
    pub slots: Slots,
    /// How slots are made of tokens, and tokens of slots.
    pub mixing: SoftMixing,
    /// Noise of the logits in training.
    pub noise_std: f32,
}

/// Slots of each expert.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Slots {
    /// That many.
    Exact {
        /// Slots of an expert.
        n: usize,
    },
    /// round(S·factor/E), halves to even.
    Factor {
        /// 1.0 makes as many slots as there are tokens in a group.
        factor: f64,
    },
}

impl Default for Slots {
    fn default() -> Slots {
        Slots::Factor { factor: 1.0 }
    }
}

/// The ablations of Soft MoE's paper, section 3.5 and appendix A.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SoftMixing {
    /// Learned dispatch and combine.
    #[default]
    Soft,
    /// Each slot is the mean of the tokens; learned combine.
    UniformDispatch,
    /// Learned dispatch; each token gets the mean of the slots.
    UniformCombine,
    /// Means in both directions.
    Uniform,
    /// Slot i is token i, and back; needs as many slots as tokens.
    Identity,
}

/// Token choice by gate + bias, weighed by the gate alone. After each step the bias of an
/// expert moves by `bias_rate` towards balance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LossFreeConfig {
    /// K.
    pub num_selected: usize,
    /// How logits become gates.
    pub gate: Gate,
    /// Noise of the logits in training, divided by E.
    pub noise_std: f32,
    /// Seats of each expert.
    pub capacity: Capacity,
    /// Who sits first.
    pub priority: Priority,
    /// By how much a bias moves in a step.
    pub bias_rate: f32,
}

impl Default for LossFreeConfig {
    fn default() -> LossFreeConfig {
        LossFreeConfig {
            num_selected: 2,
            gate: Gate::Sigmoid,
            noise_std: 0.0,
            capacity: Capacity::factor(1.05),
            priority: Priority::Position,
            bias_rate: 1e-3,
        }
    }
}

/// Gates max(x W, 0), and as many experts as are above 0. An L1 penalty brings their mean
/// number to `num_selected`: after each step its weight is multiplied by `l1_growth` where there are more,
/// divided by it where there are fewer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReluConfig {
    /// The mean number of experts of a token that is aimed at.
    pub num_selected: f32,
    /// The penalty's weight at the first step.
    pub l1_start: f32,
    /// By what the weight is multiplied in a step.
    pub l1_growth: f32,
    /// Whether the penalty of an expert grows with its share of the choices.
    pub balances: bool,
}

impl Default for ReluConfig {
    fn default() -> ReluConfig {
        ReluConfig { num_selected: 2.0, l1_start: 1e-8, l1_growth: 1.2, balances: true }
    }
}

/// Random experts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RandomConfig {
    /// K.
    pub num_selected: usize,
}

impl Default for RandomConfig {
    fn default() -> RandomConfig {
        RandomConfig { num_selected: 2 }
    }
}
