//! What is known of an arm on test images.

use crate::cost::{Call, ModelCost, Part, PartCost, Routed};
use crate::eval::{EvalConfig, Evaluation, LayerLoad};
use crate::model::{ModelConfig, Vit};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// What is told of an arm besides its accuracy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImagesFound {
    /// Share of the choices that found no seat.
    pub dropped_share: f64,
    /// FLOPs of the forward pass of an image, by the cost model from the pairs of tokens and
    /// experts that were computed.
    pub flops_per_image: f64,
    /// What it has and how much of that an image meets; nothing in readings of before it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<Weights>,
    /// What the router of each MoE layer did; nothing in readings of before it was asked, nor in means
    /// over seeds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerLoad>,
}

/// What accuracy is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// For each test image in order, 1 if its label had the largest logit, 0 if not.
    pub is_right: String,
}

impl ImagesFound {
    /// Means over seeds.
    pub(super) fn mean(of_seeds: &[&ImagesFound]) -> ImagesFound {
        let n = of_seeds.len().max(1) as f64;
        let mean = |value: fn(&ImagesFound) -> f64| {
            of_seeds.iter().map(|found| value(found)).sum::<f64>() / n
        };
        ImagesFound {
            dropped_share: mean(|found| found.dropped_share),
            flops_per_image: mean(|found| found.flops_per_image),
            weights: Weights::mean(&of_seeds.iter().map(|found| found.weights).collect::<Vec<_>>()),
            layers: Vec::new(),
        }
    }
}

impl Answers {
    /// 1 for each right answer, 0 for each wrong one.
    pub(super) fn scores(&self) -> impl ExactSizeIterator<Item = f64> + '_ {
        self.is_right.bytes().map(|byte| f64::from(u8::from(byte == b'1')))
    }
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
    fn mean(of_seeds: &[Option<Weights>]) -> Option<Weights> {
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

/// The string of [`Answers::is_right`].
pub(super) fn as_digits(is_right: &[bool]) -> String {
    is_right.iter().map(|is_right| if *is_right { '1' } else { '0' }).collect()
}

/// FLOPs of an image from what the routers did.
///
/// # Errors
/// If the routing cannot work.
pub(in crate::study) fn flops_per_image(
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
