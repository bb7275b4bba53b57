//! A run as a value: what `config.toml` holds.

use super::schedule::Decay;
use super::{RouterTask, Schedule};
use crate::data::DataConfig;
use crate::eval::EvalConfig;
use crate::model::ModelConfig;
use crate::moe::RouterConfig;
use crate::superclass::groups_of;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use sparsely_tensor::CrossEntropy;
use sparsely_tensor::optim::Rule;

/// All that decides the outcome of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// Decides everything that is drawn.
    pub seed: u64,
    /// The images.
    pub data: DataConfig,
    /// The model. Image size, channels and classes are the data's.
    pub model: ModelConfig,
    /// How it learns.
    pub train: TrainConfig,
    /// How it is evaluated.
    pub eval: EvalConfig,
}

/// How a model learns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// How long.
    pub length: Span,
    /// Images of a step; rows of a text.
    pub batch_size: usize,
    /// The task loss.
    pub loss: LossKind,
    /// What the router of whole images is taught; without it the task loss alone teaches it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub super_classes: Option<SuperClassLoss>,
    /// How parameters follow gradients.
    pub optimizer: Optimizer,
    /// Learning rates.
    pub schedule: Schedule,
    /// Largest global norm of the gradient; larger ones are scaled down to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// How often the validation data are looked at.
    pub validate_every: Span,
    /// How often the state is saved.
    pub checkpoint_every: Interval,
    /// Steps from one line of `metrics.jsonl` to the next.
    pub log_steps: u64,
}

impl Default for TrainConfig {
    fn default() -> TrainConfig {
        TrainConfig {
            length: Span::Epochs { n: 30 },
            batch_size: 64,
            loss: LossKind::Softmax,
            super_classes: None,
            optimizer: Optimizer::default(),
            schedule: Schedule {
                lr_peak: 1e-3,
                warmup_steps: 60,
                decay: Decay::Cosine { lr_end: 0.0 },
            },
            clip_norm: Some(1.0),
            validate_every: Span::Epochs { n: 1 },
            checkpoint_every: Interval::Seconds { n: 60 },
            log_steps: 10,
        }
    }
}

/// λ · cross-entropy of the image router's softmax and the super-class of an image (Mobile V-MoE, arXiv
/// 2309.04354, section 2.2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SuperClassLoss {
    /// λ.
    pub weight: f32,
    /// The names of the classes of each super-class, one super-class for each expert.
    pub groups: Vec<Vec<String>>,
}

impl Default for SuperClassLoss {
    fn default() -> SuperClassLoss {
        SuperClassLoss { weight: 0.3, groups: Vec::new() }
    }
}

impl SuperClassLoss {
    /// What cannot work with a model, one sentence each.
    fn problems(&self, model: &ModelConfig) -> Vec<String> {
        let (groups, weight) = (self.groups.len(), self.weight);
        let moe = model.moe.as_ref();
        let is_taught = moe
            .is_some_and(|moe| moe.granularity.image_input().is_some() && moe.router.has_logits());
        let experts = moe.map_or(0, |moe| moe.num_experts);
        let checks = [
            (!(weight >= 0.0 && weight.is_finite()), format!("train.super_classes.weight {weight} is not a number from 0")),
            (!is_taught, "super-classes teach a router of whole images, which this model does not have: take a `mobile-` preset, or set model.moe.granularity.kind=image and a model.moe.router with gates".into()),
            (is_taught && groups != experts, format!("there are {groups} super-classes for {experts} experts: one is needed for each (model.moe.num_experts)")),
            (self.groups.iter().any(Vec::is_empty), "a super-class without classes".into()),
        ];
        checks.into_iter().filter(|(is_so, _)| *is_so).map(|(_, problem)| problem).collect()
    }
}

/// A number of steps, told in steps or in epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Span {
    /// Steps.
    Steps {
        /// How many.
        n: u64,
    },
    /// Passes over the training data.
    Epochs {
        /// How many.
        n: u64,
    },
}

impl Span {
    /// In steps.
    pub fn steps(self, steps_per_epoch: u64) -> u64 {
        match self {
            Span::Steps { n } => n,
            Span::Epochs { n } => n.saturating_mul(steps_per_epoch),
        }
    }
}

/// A time between two saves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Interval {
    /// Steps.
    Steps {
        /// How many.
        n: u64,
    },
    /// Seconds on the clock.
    Seconds {
        /// How many.
        n: u64,
    },
}

/// The task loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    /// Softmax cross-entropy.
    #[default]
    Softmax,
    /// Sigmoid cross-entropy, as V-MoE is pre-trained with.
    Sigmoid,
}

impl From<LossKind> for CrossEntropy {
    fn from(kind: LossKind) -> CrossEntropy {
        match kind {
            LossKind::Softmax => CrossEntropy::Softmax,
            LossKind::Sigmoid => CrossEntropy::Sigmoid,
        }
    }
}

/// How parameters follow gradients.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Optimizer {
    /// Adam with decoupled decay of kernels.
    Adamw {
        /// Rate of the first moment.
        beta1: f32,
        /// Rate of the second moment.
        beta2: f32,
        /// Added to √v̂.
        eps: f32,
        /// Decay of kernels, multiplied by the learning rate.
        weight_decay: f32,
    },
    /// Momentum: t = g + momentum · t.
    Sgd {
        /// Share of the previous step that is kept.
        momentum: f32,
        /// Decay of kernels, multiplied by the learning rate.
        weight_decay: f32,
    },
}

impl Default for Optimizer {
    fn default() -> Optimizer {
        Optimizer::Adamw { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.05 }
    }
}

impl Optimizer {
    /// The engine's rule and the decay.
    pub fn rule(self) -> (Rule, f32) {
        match self {
            Optimizer::Adamw { beta1, beta2, eps, weight_decay } => {
                (Rule::AdamW { beta1, beta2, eps }, weight_decay)
            }
            Optimizer::Sgd { momentum, weight_decay } => (Rule::Sgd { momentum }, weight_decay),
        }
    }

    fn problems(self) -> Vec<String> {
        let within = |value: f32, limit: f32| (0.0..limit).contains(&value);
        let works = match self {
            Optimizer::Adamw { beta1, beta2, eps, weight_decay } => {
                within(beta1, 1.0)
                    && within(beta2, 1.0)
                    && eps > 0.0
                    && within(weight_decay, f32::INFINITY)
            }
            Optimizer::Sgd { momentum, weight_decay } => {
                within(momentum, 1.0) && within(weight_decay, f32::INFINITY)
            }
        };
        let problem = format!(
            "train.optimizer has a rate outside [0, 1), no eps or a negative decay: {self:?}"
        );
        if works { vec![] } else { vec![problem] }
    }
}

impl RunConfig {
    /// Checks the whole of it, without looking at the data.
    ///
    /// # Errors
    /// All problems at once.
    pub fn validate(&self) -> Result<()> {
        let mut problems = self.data.problems();
        problems.extend(self.train.problems());
        problems.extend(self.eval.problems());
        match self.model.validate() {
            Err(Error::Config { problems: more }) => problems.extend(more),
            Err(other) => return Err(other),
            Ok(()) => {
                problems.extend(self.group_problem());
                let taught = self.train.super_classes.iter();
                problems.extend(taught.flat_map(|taught| taught.problems(&self.model)));
                problems.extend(self.eval.routing_problems(&self.model));
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(Error::Config { problems }) }
    }

    fn group_problem(&self) -> Option<String> {
        let moe = self.model.moe.as_ref()?;
        let (batch, length) = (self.train.batch_size, self.model.length());
        let group = moe.group.tokens(length);
        if matches!(moe.router, RouterConfig::Soft(_)) && group > length {
            return Some(format!(
                "model.moe.group of {}: slots of Soft MoE would mix the tokens of several images; \
                 set model.moe.group.n=1",
                moe.group
            ));
        }
        if group > 0 && (batch * length).is_multiple_of(group) {
            return None;
        }
        Some(format!(
            "model.moe.group of {} does not divide a batch of {batch} images of {length} tokens",
            moe.group
        ))
    }
}

impl TrainConfig {
    /// What the router of whole images is taught about these classes.
    ///
    /// # Errors
    /// If the super-classes are those of other classes.
    pub fn router_task(&self, class_names: &[String]) -> Result<Option<RouterTask>> {
        let Some(taught) = &self.super_classes else { return Ok(None) };
        let groups_v = groups_of(class_names, &taught.groups)?;
        Ok(Some(RouterTask { weight: taught.weight, groups_v }))
    }

    /// What cannot work, one sentence each.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = self.optimizer.problems();
        problems.extend(self.schedule.problems());
        let is_zero = |span: Span| span.steps(1) == 0;
        let zeros = [
            ("length", is_zero(self.length)),
            ("validate_every", is_zero(self.validate_every)),
            ("log_steps", self.log_steps == 0),
            ("batch_size", self.batch_size == 0),
            ("checkpoint_every", matches!(self.checkpoint_every, Interval::Steps { n: 0 })),
        ];
        let named = zeros.iter().filter(|(_, zero)| *zero);
        problems.extend(named.map(|(name, _)| format!("train.{name} must be at least 1")));
        if self.clip_norm.is_some_and(|norm| norm.is_nan() || norm <= 0.0) {
            problems.push("train.clip_norm must be above 0; leave it out for no clipping".into());
        }
        problems
    }
}
