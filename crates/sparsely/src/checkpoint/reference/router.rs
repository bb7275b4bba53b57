//! The reference's routers, by the names of their classes.

use crate::moe::router::{
    Combine, ExpertChoiceConfig, Gate, PlanExpertChoice, PlanTokenChoice, Sinkhorn, Slots,
    SoftConfig, SoftMixing, SparsePlan, Support,
};
use crate::moe::{Capacity, LossWeights, Priority, Rounding, RouterConfig, TokenChoiceConfig};
use crate::{Error, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Its default: token choice with softmax.
const TOKEN_CHOICE: &str = "NoisyTopExpertsPerItemRouter";

/// A router of the reference, and whether it goes through bf16.
#[derive(Debug, PartialEq)]
pub struct ReferenceRouter {
    /// Who chooses whom.
    pub config: RouterConfig,
    /// Whether tokens and experts' outputs are rounded.
    pub through_bf16: bool,
}

/// Reads a router's dictionary: the class in `name` (with or without its modules) and its settings.
///
/// # Errors
/// What is not understood or not supported, all at once where it parses at all.
pub fn parse_router(json: &Value) -> Result<ReferenceRouter> {
    let mut settings = json.as_object().cloned().unwrap_or_default();
    let name = settings.remove("name");
    let name = name.as_ref().and_then(Value::as_str).unwrap_or(TOKEN_CHOICE);
    let settings = Value::Object(settings);
    match name.rsplit('.').next().unwrap_or(name) {
        TOKEN_CHOICE => read::<TokenChoice>(settings)?.into_router(),
        "NoisyTopItemsPerExpertRouter" => read::<ExpertChoice>(settings)?.into_router(),
        "KLProjectionNoisyTopExpertsPerItemRouter" => {
            read::<PlannedTokens>(settings)?.into_router(|router| {
                let plan = Sinkhorn { iterations: router.maxiter, ..Sinkhorn::default() };
                // Its noise moves the plan alone.
                RouterConfig::SinkhornTokenChoice(router.config(plan, Combine::CleanGates))
            })
        }
        "KSparseProjectionTransportTopExpertsPerItemRouter" => read::<PlannedTokens>(settings)?
            .into_router(|router| {
                let plan = router.sparse(Support::Selected);
                RouterConfig::SparseTokenChoice(PlanTokenChoice {
                    noise_std: 0.0,
                    ..router.config(plan, Combine::Gates)
                })
            }),
        "KLProjectionNoisyTopItemsPerExpertRouter" => read::<PlannedExperts>(settings)?
            .into_router(|router| {
                let plan = Sinkhorn { iterations: router.maxiter, ..Sinkhorn::default() };
                RouterConfig::SinkhornExpertChoice(router.config(plan))
            }),
        "KSparseProjectionTransportTopItemsPerExpertRouter" => read::<PlannedExperts>(settings)?
            .into_router(|router| {
                RouterConfig::SparseExpertChoice(router.noiseless(Support::Selected))
            }),
        "SparseProjectionTransportTopItemsPerExpertRouter" => read::<PlannedExperts>(settings)?
            .into_router(|router| RouterConfig::SparseExpertChoice(router.noiseless(Support::Any))),
        "SoftRouter" => read::<Soft>(settings)?.into_router(),
        _ => Err(Error::config(format!("unsupported router `{name}`"))),
    }
}

fn read<T: DeserializeOwned>(settings: Value) -> Result<T> {
    serde_path_to_error::deserialize(settings)
        .map_err(|error| Error::config(format!("router `{}`: {}", error.path(), error.inner())))
}

/// The router, or all problems.
fn checked(
    problems: Vec<Option<&str>>,
    config: RouterConfig,
    through_bf16: bool,
) -> Result<ReferenceRouter> {
    let problems: Vec<String> = problems.into_iter().flatten().map(Into::into).collect();
    if problems.is_empty() {
        Ok(ReferenceRouter { config, through_bf16 })
    } else {
        Err(Error::Config { problems })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Dispatcher {
    #[serde(rename = "name")]
    _name: String,
    bfloat16: bool,
    capacity: Option<usize>,
    capacity_factor: Option<f64>,
    capacity_ceil_or_round: Rounding,
    capacity_multiple_of: Option<usize>,
    batch_priority: bool,
    /// Where its devices keep the tokens.
    #[serde(rename = "partition_spec")]
    _partition_spec: Value,
}

impl Default for Dispatcher {
    fn default() -> Dispatcher {
        Dispatcher {
            _name: String::new(),
            bfloat16: false,
            capacity: None,
            capacity_factor: None,
            capacity_ceil_or_round: Rounding::Ceil,
            // Silently raises the factor; the reference does so unless told otherwise.
            capacity_multiple_of: Some(4),
            batch_priority: false,
            _partition_spec: Value::Null,
        }
    }
}

impl Dispatcher {
    fn problem(&self) -> Option<&'static str> {
        (self.capacity.is_some() == self.capacity_factor.is_some())
            .then_some("the dispatcher needs either `capacity` or `capacity_factor`")
    }

    fn capacity(&self) -> Capacity {
        match (self.capacity, self.capacity_factor) {
            (Some(seats), _) => Capacity::Exact { seats },
            (None, factor) => Capacity::Factor {
                factor: factor.unwrap_or(1.0),
                rounding: self.capacity_ceil_or_round,
                multiple_of: self.capacity_multiple_of.unwrap_or(1),
            },
        }
    }

    fn priority(&self) -> Priority {
        if self.batch_priority { Priority::MaxGate } else { Priority::Position }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TokenChoice {
    num_selected_experts: usize,
    noise_std: f32,
    importance_loss_weight: f32,
    load_loss_weight: f32,
    gshard_loss_weight: f32,
    dispatcher: Dispatcher,
}

impl Default for TokenChoice {
    fn default() -> TokenChoice {
        TokenChoice {
            num_selected_experts: 1,
            noise_std: 1.0,
            importance_loss_weight: 1.0,
            load_loss_weight: 1.0,
            gshard_loss_weight: 0.0,
            dispatcher: Dispatcher::default(),
        }
    }
}

impl TokenChoice {
    fn into_router(self) -> Result<ReferenceRouter> {
        let config = RouterConfig::TokenChoice(TokenChoiceConfig {
            num_selected: self.num_selected_experts,
            gate: Gate::Softmax,
            noise_std: self.noise_std,
            capacity: self.dispatcher.capacity(),
            priority: self.dispatcher.priority(),
            loss: LossWeights {
                importance: self.importance_loss_weight,
                load: self.load_loss_weight,
                gshard: self.gshard_loss_weight,
                z: 0.0,
            },
        });
        checked(vec![self.dispatcher.problem()], config, self.dispatcher.bfloat16)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ExpertChoice {
    noise_std: f32,
    dispatcher: Dispatcher,
}

impl Default for ExpertChoice {
    fn default() -> ExpertChoice {
        ExpertChoice { noise_std: 1.0, dispatcher: Dispatcher::default() }
    }
}

impl ExpertChoice {
    fn into_router(self) -> Result<ReferenceRouter> {
        let (noise_std, capacity) = (self.noise_std, self.dispatcher.capacity());
        let config = ExpertChoiceConfig { gate: Gate::Softmax, noise_std, capacity };
        let problems = vec![self.dispatcher.problem()];
        checked(problems, RouterConfig::ExpertChoice(config), self.dispatcher.bfloat16)
    }
}

/// Token choice by a plan.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PlannedTokens {
    num_selected_experts: usize,
    noise_std: f32,
    importance_loss_weight: f32,
    load_loss_weight: f32,
    gshard_loss_weight: f32,
    maxiter: usize,
    adam_lr: f32,
    use_softmax_combine_weights: bool,
    use_lbfgs: bool,
    #[serde(rename = "use_implicit_differentiation")]
    _use_implicit_differentiation: bool,
    dispatcher: Dispatcher,
}

impl Default for PlannedTokens {
    fn default() -> PlannedTokens {
        PlannedTokens {
            num_selected_experts: 1,
            noise_std: 1.0,
            importance_loss_weight: 0.0,
            load_loss_weight: 0.0,
            gshard_loss_weight: 0.0,
            maxiter: 20,
            adam_lr: 1e-2,
            use_softmax_combine_weights: true,
            use_lbfgs: false,
            _use_implicit_differentiation: true,
            dispatcher: Dispatcher::default(),
        }
    }
}

impl PlannedTokens {
    fn into_router(self, config: impl FnOnce(&Self) -> RouterConfig) -> Result<ReferenceRouter> {
        let has_loss = self.importance_loss_weight != 0.0 || self.load_loss_weight != 0.0;
        let problems = vec![
            self.dispatcher.problem(),
            self.use_lbfgs.then_some("unsupported plans by L-BFGS"),
            has_loss.then_some("unsupported auxiliary losses beside a transport plan"),
        ];
        checked(problems, config(&self), self.dispatcher.bfloat16)
    }

    fn sparse(&self, support: Support) -> SparsePlan {
        SparsePlan { support, steps: self.maxiter, lr: self.adam_lr }
    }

    fn config<P>(&self, plan: P, gates: Combine) -> PlanTokenChoice<P> {
        PlanTokenChoice {
            num_selected: self.num_selected_experts,
            noise_std: self.noise_std,
            capacity: self.dispatcher.capacity(),
            priority: self.dispatcher.priority(),
            combine: if self.use_softmax_combine_weights { gates } else { Combine::Plan },
            plan,
        }
    }
}

/// Expert choice by a plan.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PlannedExperts {
    noise_std: f32,
    maxiter: usize,
    adam_lr: f32,
    use_softmax_combine_weights: bool,
    #[serde(rename = "use_implicit_differentiation")]
    _use_implicit_differentiation: bool,
    dispatcher: Dispatcher,
}

impl Default for PlannedExperts {
    fn default() -> PlannedExperts {
        PlannedExperts {
            noise_std: 1.0,
            maxiter: 20,
            adam_lr: 1e-2,
            use_softmax_combine_weights: true,
            _use_implicit_differentiation: true,
            dispatcher: Dispatcher::default(),
        }
    }
}

impl PlannedExperts {
    fn into_router(self, config: impl FnOnce(&Self) -> RouterConfig) -> Result<ReferenceRouter> {
        checked(vec![self.dispatcher.problem()], config(&self), self.dispatcher.bfloat16)
    }

    fn config<P>(&self, plan: P) -> PlanExpertChoice<P> {
        PlanExpertChoice {
            noise_std: self.noise_std,
            capacity: self.dispatcher.capacity(),
            combine: if self.use_softmax_combine_weights { Combine::Gates } else { Combine::Plan },
            plan,
        }
    }

    /// The sparse ones take no noise.
    fn noiseless(&self, support: Support) -> PlanExpertChoice<SparsePlan> {
        let plan = SparsePlan { support, steps: self.maxiter, lr: self.adam_lr };
        PlanExpertChoice { noise_std: 0.0, ..self.config(plan) }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Soft {
    num_slots: Option<usize>,
    capacity_factor: Option<f64>,
    noise_std: f32,
    #[serde(rename = "compute_similarity_metrics")]
    _compute_similarity_metrics: bool,
    #[serde(rename = "partition_spec")]
    _partition_spec: Value,
}

impl Default for Soft {
    fn default() -> Soft {
        Soft {
            num_slots: None,
            capacity_factor: Some(1.0),
            noise_std: 0.0,
            _compute_similarity_metrics: true,
            _partition_spec: Value::Null,
        }
    }
}

impl Soft {
    fn into_router(self) -> Result<ReferenceRouter> {
        let slots = match (self.num_slots, self.capacity_factor) {
            (Some(n), _) => Slots::Exact { n },
            (None, factor) => Slots::Factor { factor: factor.unwrap_or_default() },
        };
        let has_none = self.num_slots.is_none() && self.capacity_factor.is_none();
        let problem =
            has_none.then_some("the router needs either `num_slots` or `capacity_factor`");
        let config = SoftConfig { slots, mixing: SoftMixing::Soft, noise_std: self.noise_std };
        checked(vec![problem], RouterConfig::Soft(config), true)
    }
}
