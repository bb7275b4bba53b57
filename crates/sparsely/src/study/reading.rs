//! What is known after each piece of work, as it lies on disk.

use crate::cost::{Call, ModelCost, Routed};
use crate::eval::{EvalConfig, Evaluation, ImageCost};
use crate::model::Vit;
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
    /// For each test image in order, 1 if its label had the largest logit, 0 if not.
    pub is_right: String,
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
