//! What is known after each piece of work, as it lies on disk.

use super::statistics::{Unit, mean};
use super::{Images, Task};
use crate::eval::ImageCost;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What an arm did for one seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Reading<T: Task = Images> {
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
    /// What is told besides the score.
    #[serde(flatten)]
    pub found: T::Found,
    /// What the score is made of.
    #[serde(flatten)]
    pub scores: T::Scores,
}

/// What an image, or a step on text, cost under each arm, for the models of one seed, measured in turn.
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
    #[serde(alias = "of_image")]
    pub costs: BTreeMap<String, ImageCost>,
}

/// What a learning rate gave on validation data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// The model's name.
    pub model: String,
    /// Peak learning rate.
    pub lr_peak: f64,
    /// Share of right answers, where there are answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_top1: Option<f64>,
    /// Mean task loss.
    pub validation_loss: f64,
}

impl Trial {
    /// The one with more right answers; or the lower loss; or else the lower rate.
    pub(super) fn best(trials: &[Trial]) -> Option<&Trial> {
        trials.iter().min_by(|a, b| {
            let top1 = |trial: &Trial| trial.validation_top1.unwrap_or(0.0);
            let by_top1 = top1(b).total_cmp(&top1(a));
            let by_loss = a.validation_loss.total_cmp(&b.validation_loss);
            by_top1.then(by_loss).then(a.lr_peak.total_cmp(&b.lr_peak))
        })
    }
}

impl<T: Task> Reading<T> {
    /// The mean of its units.
    pub fn score(&self) -> f64 {
        mean(&T::units(&self.scores))
    }

    /// Its units.
    pub(super) fn units(&self) -> Vec<Unit> {
        T::units(&self.scores)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(lr_peak: f64, top1: f64, validation_loss: f64) -> Trial {
        Trial { model: "m".into(), lr_peak, validation_top1: Some(top1), validation_loss }
    }

    #[test]
    fn the_best_trial_has_more_right_answers_then_a_lower_loss_then_a_lower_rate() {
        let best = |trials: &[Trial]| Trial::best(trials).unwrap().lr_peak;
        assert_eq!(best(&[trial(1.0, 0.5, 0.1), trial(2.0, 0.6, 0.9)]), 2.0);
        assert_eq!(best(&[trial(1.0, 0.5, 0.2), trial(2.0, 0.5, 0.1)]), 2.0);
        assert_eq!(best(&[trial(2.0, 0.5, 0.1), trial(1.0, 0.5, 0.1)]), 1.0);
        assert_eq!(Trial::best(&[]), None);
        let text = |lr_peak, loss| Trial { validation_top1: None, ..trial(lr_peak, 0.0, loss) };
        assert_eq!(best(&[text(1.0, 2.5), text(2.0, 2.4)]), 2.0);
    }
}
