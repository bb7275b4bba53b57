//! What makes a comparison fair, checked before anything is trained.

use super::{Matched, Predicted, Sizes, Study, Task};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// How far apart the training FLOPs of models may lie, as a share of the smallest.
pub const MAX_FLOPS_GAP: f64 = 0.02;
/// How far apart parameters may lie.
pub const MAX_PARAMS_GAP: f64 = 0.01;

/// What training a model costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingCost {
    /// The model's name.
    pub model: String,
    /// Steps of a run.
    pub steps: u64,
    /// FLOPs of a run, forward and backward, by the cost model.
    pub flops: f64,
    /// Parameters; nothing in plans of before they were counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<u64>,
}

impl<T: Task> Study<T> {
    /// What training costs, if the study is fair and whole: names are unique and known, all models
    /// see the same batches, and what they must have in common ([`Task::MATCHED`]) is equal.
    ///
    /// # Errors
    /// All problems of the description at once; or a configuration that cannot work; or models that are
    /// not matched.
    pub fn check(&self, sizes: &Sizes) -> Result<Vec<TrainingCost>> {
        let mut problems = self.name_problems();
        problems.extend(self.comparison_problems());
        problems.extend(self.tuning_problems());
        problems.extend(self.size_problems(sizes));
        if !problems.is_empty() {
            return Err(Error::Config { problems });
        }
        for model in &self.models {
            T::validate(&T::run_config(self, model, 0))?;
        }
        let costs = self.models.iter().map(|model| {
            let steps = model.steps(sizes);
            let (of_step, params) = T::training_cost(&model.model, model.train.batch_size)?;
            let flops = of_step * steps as f64;
            Ok(TrainingCost { model: model.name.clone(), steps, flops, params: Some(params) })
        });
        let costs = costs.collect::<Result<Vec<_>>>()?;
        matched(T::MATCHED, &costs)?;
        Ok(costs)
    }

    fn name_problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let models = self.models.iter().map(|model| ("model", &model.name));
        let arms = self.arms.iter().map(|arm| ("arm", &arm.name));
        let mut known = BTreeSet::new();
        for (kind, name) in models.chain(arms) {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if name.is_empty() || !name.chars().all(is_plain) {
                problems.push(format!("{kind} `{name}`: letters, digits, `-`, `_` and `.` only"));
            }
            if !known.insert((kind, name)) {
                problems.push(format!("{kind} `{name}` is there twice"));
            }
        }
        for arm in &self.arms {
            if self.model(&arm.model).is_err() {
                problems.push(format!("arm `{}` is of no model: `{}`", arm.name, arm.model));
            }
        }
        for model in &self.models {
            if self.arms_of(&model.name).next().is_none() {
                problems.push(format!("model `{}` has no arm", model.name));
            }
        }
        problems
    }

    fn comparison_problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut names = BTreeSet::new();
        for comparison in &self.comparisons {
            let name = &comparison.name;
            if !names.insert(name) {
                problems.push(format!("comparison `{name}` is there twice"));
            }
            for arm in [&comparison.arm, &comparison.baseline] {
                if self.arm(arm).is_err() {
                    problems.push(format!("comparison `{name}`: there is no arm `{arm}`"));
                }
            }
            let is_told = match comparison.predicted {
                Predicted::Difference { points } => points.is_finite() && points != 0.0,
                Predicted::Negligible { below } => below.is_finite() && below > 0.0,
            };
            if !is_told {
                problems.push(format!("comparison `{name}` predicts neither sign nor size"));
            }
        }
        let points = self.panels.iter().flat_map(|panel| &panel.curves).flat_map(|c| &c.points);
        for point in points.filter(|point| self.arm(&point.arm).is_err()) {
            problems.push(format!("a curve goes through no arm: `{}`", point.arm));
        }
        problems
    }

    fn tuning_problems(&self) -> Vec<String> {
        let Some(tuning) = &self.tuning else { return Vec::new() };
        let mut problems = Vec::new();
        if tuning.lr_peaks.is_empty() {
            problems.push("tuning has no learning rate to try".into());
        }
        if self.seeds.contains(&tuning.seed) {
            problems.push(format!("tuning with seed {} would flatter that seed", tuning.seed));
        }
        if !(tuning.length > 0.0 && tuning.length <= 1.0) {
            problems.push(format!("tuning.length {} is not in (0, 1]", tuning.length));
        }
        problems
    }

    fn size_problems(&self, sizes: &Sizes) -> Vec<String> {
        let mut problems = Vec::new();
        let seeds: BTreeSet<_> = self.seeds.iter().collect();
        if seeds.len() != self.seeds.len() || seeds.is_empty() {
            problems.push(format!("seeds must be there once each, got {:?}", self.seeds));
        }
        let batches: BTreeSet<_> = self.models.iter().map(|m| m.train.batch_size).collect();
        if batches.len() > 1 {
            problems.push(format!("models must see the same batches, got sizes {batches:?}"));
        }
        problems.extend(T::problems(self, sizes));
        if self.timing.rounds == 0 {
            problems.push("timing needs at least one round".into());
        }
        problems
    }
}

/// Refuses models that are further apart than [`MAX_FLOPS_GAP`] or [`MAX_PARAMS_GAP`], or of
/// different steps where parameters are matched.
fn matched(what: Matched, costs: &[TrainingCost]) -> Result<()> {
    match what {
        Matched::TrainingFlops => within("training FLOPs", MAX_FLOPS_GAP, costs, |cost| cost.flops),
        Matched::Parameters => {
            within("training steps", 0.0, costs, |cost| cost.steps as f64)?;
            within("parameters", MAX_PARAMS_GAP, costs, |cost| cost.params.unwrap_or(0) as f64)
        }
    }
}

fn within(
    what: &str,
    gap: f64,
    costs: &[TrainingCost],
    of: fn(&TrainingCost) -> f64,
) -> Result<()> {
    let by = |a: &&TrainingCost, b: &&TrainingCost| of(a).total_cmp(&of(b));
    let (Some(least), Some(most)) = (costs.iter().min_by(by), costs.iter().max_by(by)) else {
        return Err(Error::config("a study needs at least one model"));
    };
    if of(most) <= (1.0 + gap) * of(least) {
        return Ok(());
    }
    Err(Error::Argument {
        op: "study",
        expected: format!("{what} equal to {} %", 100.0 * gap),
        got: format!(
            "{:.4e} for `{}` and {:.4e} for `{}`, {:.2} % more",
            of(least),
            least.model,
            of(most),
            most.model,
            100.0 * (of(most) / of(least) - 1.0)
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(model: &str, flops: f64, params: u64) -> TrainingCost {
        TrainingCost { model: model.into(), steps: 1, flops, params: Some(params) }
    }

    #[test]
    fn two_percent_are_the_limit() {
        let fair = |costs: &[TrainingCost]| matched(Matched::TrainingFlops, costs);
        fair(&[cost("a", 100.0, 1), cost("b", 102.0, 9), cost("c", 101.0, 5)]).unwrap();
        assert_eq!(
            fair(&[cost("a", 1e6, 1), cost("b", 1.03e6, 1)]).unwrap_err().to_string(),
            "study: expected training FLOPs equal to 2 %, got 1.0000e6 for `a` and 1.0300e6 for \
             `b`, 3.00 % more"
        );
    }

    #[test]
    fn parameters_are_equal_to_a_percent_and_steps_are_equal() {
        let fair = |costs: &[TrainingCost]| matched(Matched::Parameters, costs);
        fair(&[cost("a", 1.0, 1000), cost("b", 5.0, 1010)]).unwrap();
        assert_eq!(
            fair(&[cost("a", 1.0, 1000), cost("b", 1.0, 1016)]).unwrap_err().to_string(),
            "study: expected parameters equal to 1 %, got 1.0000e3 for `a` and 1.0160e3 for `b`, 1.60 % \
             more"
        );
        let longer = TrainingCost { steps: 2, ..cost("b", 1.0, 1000) };
        assert_eq!(
            fair(&[cost("a", 1.0, 1000), longer]).unwrap_err().to_string(),
            "study: expected training steps equal to 0 %, got 1.0000e0 for `a` and 2.0000e0 for \
             `b`, 100.00 % more"
        );
    }
}
