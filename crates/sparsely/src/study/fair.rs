//! What makes a comparison fair, checked before anything is trained.

use super::{Least, Predicted, Sizes, Study};
use crate::cost::training_flops;
use crate::moe::{Capacity, Dial};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// How far apart the training FLOPs of models may lie, as a share of the smallest.
pub const MAX_FLOPS_GAP: f64 = 0.02;

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
}

impl Study {
    /// What training costs, if the study is fair and whole: names are unique and known, all models
    /// see the same batches, and their training FLOPs are equal to 2 %.
    ///
    /// # Errors
    /// All problems of the description at once; or a configuration that cannot work; or unequal FLOPs.
    pub fn check(&self, sizes: &Sizes) -> Result<Vec<TrainingCost>> {
        let mut problems = self.name_problems();
        problems.extend(self.comparison_problems());
        problems.extend(self.tuning_problems());
        problems.extend(self.taught_problems());
        problems.extend(self.size_problems(sizes));
        if !problems.is_empty() {
            return Err(Error::Config { problems });
        }
        for model in &self.models {
            self.run_config(model, 0).validate()?;
        }
        let costs = self.models.iter().map(|model| {
            let (batch, steps) = (model.train.batch_size, model.steps(sizes));
            let of_step = training_flops(&model.model, &Dial::default(), batch)?;
            Ok(TrainingCost { model: model.name.clone(), steps, flops: of_step * steps as f64 })
        });
        let costs = costs.collect::<Result<Vec<_>>>()?;
        matched(&costs)?;
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
            if let Some(Capacity::Factor { factor, .. }) = arm.dial.capacity
                && arm.dial.capacity != Some(Capacity::factor(factor))
            {
                problems.push(format!("arm `{}`: its rounding has no flag", arm.name));
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
        for model in &self.models {
            let (epoch, steps) = (model.steps_per_epoch(sizes), model.steps(sizes));
            if steps < self.least.epochs * epoch || steps == 0 {
                problems.push(format!(
                    "model `{}` has {steps} steps, fewer than {} epochs of {epoch}",
                    model.name, self.least.epochs
                ));
            }
        }
        let Least { train_images, test_images, .. } = self.least;
        for (split, images, least) in
            [("training", sizes.train, train_images), ("test", sizes.test, test_images)]
        {
            if images < least.max(1) {
                let least = least.max(1);
                problems.push(format!("{images} {split} images, fewer than the {least} it needs"));
            }
        }
        if self.timing.rounds == 0 {
            problems.push("timing needs at least one round".into());
        }
        problems
    }
}

/// Refuses FLOPs further apart than [`MAX_FLOPS_GAP`].
fn matched(costs: &[TrainingCost]) -> Result<()> {
    let by_flops = |a: &&TrainingCost, b: &&TrainingCost| a.flops.total_cmp(&b.flops);
    let (Some(least), Some(most)) = (costs.iter().min_by(by_flops), costs.iter().max_by(by_flops))
    else {
        return Err(Error::config("a study needs at least one model"));
    };
    if most.flops <= (1.0 + MAX_FLOPS_GAP) * least.flops {
        return Ok(());
    }
    Err(Error::Argument {
        op: "study",
        expected: format!("training FLOPs equal to {} %", 100.0 * MAX_FLOPS_GAP),
        got: format!(
            "{:.4e} for `{}` and {:.4e} for `{}`, {:.2} % more",
            least.flops,
            least.model,
            most.flops,
            most.model,
            100.0 * (most.flops / least.flops - 1.0)
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(model: &str, flops: f64) -> TrainingCost {
        TrainingCost { model: model.into(), steps: 1, flops }
    }

    #[test]
    fn two_percent_are_the_limit() {
        matched(&[cost("a", 100.0), cost("b", 102.0), cost("c", 101.0)]).unwrap();
        assert_eq!(
            matched(&[cost("a", 1e6), cost("b", 1.03e6)]).unwrap_err().to_string(),
            "study: expected training FLOPs equal to 2 %, got 1.0000e6 for `a` and 1.0300e6 for \
             `b`, 3.00 % more"
        );
    }
}
