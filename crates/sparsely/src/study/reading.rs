//! What is known after each piece of work, as it lies on disk.

use crate::cost::{Call, ModelCost, Part, PartCost, Routed};
use crate::eval::{EvalConfig, Evaluation, ImageCost, LayerLoad};
use crate::model::{ModelConfig, Vit};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What an arm did for one seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reading {
    /// Its name.
    pub arm: String,
    /// The seed that its model was trained with.
    pub seed: u64,
    /// Version and commit of the program that evaluated it.
    pub program: String,
    /// The learning rate that its model was trained with.
    pub lr_peak: f64,
    /// Steps that the model had learned for.
    pub step: u64,
    /// Mean task loss.
    pub loss: f64,
    /// Share of the choices that found no seat.
    pub dropped_share: f64,
    /// FLOPs of the forward pass of an image, by the cost model from the pairs of tokens and
    /// experts that were computed.
    pub flops_per_image: f64,
    /// What it has and how much of that an image meets; nothing in readings of before it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<Weights>,
    /// What the router of each MoE layer did; nothing in readings of before it was asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerLoad>,
    /// For each test image in order, 1 if its label had the largest logit, 0 if not.
    pub is_right: String,
}

/// What a model has, how much of it an image meets, and how its experts are used on the test images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// Parameters.
    pub params: f64,
    /// Parameters that an image meets, of experts those that at least one of its tokens goes to.
    pub touched_params: f64,
    /// Experts that an image meets, mean over MoE layers; 0 of a dense model.
    pub experts_per_image: f64,
    /// Experts that no test image meets, mean over MoE layers.
    pub dead_experts: f64,
    /// Standard deviation of the experts' loads over their mean, mean over MoE layers.
    pub load_variation: f64,
    /// Share of the test images whose super-class the router finds, where it was taught any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router_top1: Option<f64>,
}

impl Weights {
    /// From what the routers did.
    ///
    /// # Errors
    /// If the model has no cost.
    pub(super) fn of(config: &ModelConfig, found: &Evaluation) -> Result<Weights> {
        let cost = ModelCost::of(config, &Call::balanced(1))?;
        let mut weights = Weights { params: cost.params() as f64, ..Weights::default() };
        weights.touched_params = weights.params;
        weights.router_top1 = found.router_top1;
        let layers = found.layers.len() as f64;
        for layer in &found.layers {
            let experts = layer.asked.len() as f64;
            let is_own =
                |part: &&PartCost| part.part == Part::Experts && part.block == Some(layer.block);
            let own: f64 = cost.parts.iter().filter(is_own).map(|part| part.params as f64).sum();
            let shared = config.moe.as_ref().map_or(0.0, |moe| moe.num_shared as f64);
            let of_expert = own / (experts + shared);
            weights.touched_params -= (experts - layer.experts_per_image) * of_expert;
            weights.experts_per_image += layer.experts_per_image / layers;
            weights.load_variation += layer.load_variation / layers;
            let dead = layer.asked.iter().filter(|asked| **asked == 0).count();
            weights.dead_experts += dead as f64 / layers;
        }
        Ok(weights)
    }

    /// Means over seeds; nothing if a seed has none.
    pub(super) fn mean(of_seeds: &[Option<Weights>]) -> Option<Weights> {
        let all: Vec<Weights> = of_seeds.iter().copied().collect::<Option<_>>()?;
        let mean = |value: fn(&Weights) -> f64| {
            all.iter().map(value).sum::<f64>() / all.len().max(1) as f64
        };
        let router: Option<Vec<f64>> = all.iter().map(|weights| weights.router_top1).collect();
        Some(Weights {
            params: mean(|w| w.params),
            touched_params: mean(|w| w.touched_params),
            experts_per_image: mean(|w| w.experts_per_image),
            dead_experts: mean(|w| w.dead_experts),
            load_variation: mean(|w| w.load_variation),
            router_top1: router.map(|top1| top1.iter().sum::<f64>() / top1.len().max(1) as f64),
        })
    }
}

/// What an image cost under each arm, for the models of one seed, measured in turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedCosts {
    /// The models' seed.
    pub seed: u64,
    /// When they were measured.
    pub date: String,
    /// Threads that computed.
    pub threads: usize,
    /// Where the joules come from.
    pub energy_source: String,
    /// By arm.
    pub of_image: BTreeMap<String, ImageCost>,
}

/// What a learning rate gave on validation images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// The model's name.
    pub model: String,
    /// Peak learning rate.
    pub lr_peak: f64,
    /// Share of right answers.
    pub validation_top1: f64,
    /// Mean task loss.
    pub validation_loss: f64,
}

impl Trial {
    /// The one with more right answers; or the lower loss; or else the lower rate.
    pub(super) fn best(trials: &[Trial]) -> Option<&Trial> {
        trials.iter().min_by(|a, b| {
            let by_top1 = b.validation_top1.total_cmp(&a.validation_top1);
            let by_loss = a.validation_loss.total_cmp(&b.validation_loss);
            by_top1.then(by_loss).then(a.lr_peak.total_cmp(&b.lr_peak))
        })
    }
}

impl Reading {
    /// 1 for each right answer, 0 for each wrong one.
    pub(super) fn scores(&self) -> impl ExactSizeIterator<Item = f64> + '_ {
        self.is_right.bytes().map(|byte| f64::from(u8::from(byte == b'1')))
    }

    /// Share of right answers.
    pub fn top1(&self) -> f64 {
        self.scores().sum::<f64>() / self.is_right.len().max(1) as f64
    }
}

/// The string of [`Reading::is_right`].
pub(super) fn as_digits(is_right: &[bool]) -> String {
    is_right.iter().map(|is_right| if *is_right { '1' } else { '0' }).collect()
}

/// FLOPs of an image from what the routers did.
///
/// # Errors
/// If the routing cannot work.
pub(super) fn flops_per_image(
    model: &Vit,
    config: &EvalConfig,
    evaluation: &Evaluation,
) -> Result<f64> {
    if evaluation.n == 0 {
        let expected = "at least one test image".into();
        return Err(Error::Argument { op: "study", expected, got: "none".into() });
    }
    let routed = Routed::Measured(&evaluation.stats);
    let call = Call { batch: evaluation.n, dial: config.dial.clone(), routed };
    Ok(ModelCost::of(model.config(), &call)?.flops() as f64 / evaluation.n as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(lr_peak: f64, validation_top1: f64, validation_loss: f64) -> Trial {
        Trial { model: "m".into(), lr_peak, validation_top1, validation_loss }
    }

    #[test]
    fn the_best_trial_has_more_right_answers_then_a_lower_loss_then_a_lower_rate() {
        let best = |trials: &[Trial]| Trial::best(trials).unwrap().lr_peak;
        assert_eq!(best(&[trial(1.0, 0.5, 0.1), trial(2.0, 0.6, 0.9)]), 2.0);
        assert_eq!(best(&[trial(1.0, 0.5, 0.2), trial(2.0, 0.5, 0.1)]), 2.0);
        assert_eq!(best(&[trial(2.0, 0.5, 0.1), trial(1.0, 0.5, 0.1)]), 1.0);
        assert_eq!(Trial::best(&[]), None);
    }
}
