//! What settings of attention cannot work.

use super::{AttentionConfig, RelativePositions};

impl AttentionConfig {
    /// Where keys are.
    pub fn positions(&self) -> RelativePositions {
        match self {
            AttentionConfig::Dense(config) => config.positions,
            AttentionConfig::SwitchHead(config) => config.positions,
            AttentionConfig::Moa(config) => config.positions,
        }
    }

    /// A.
    pub fn head_width(&self) -> usize {
        match self {
            AttentionConfig::Dense(config) => config.head_width,
            AttentionConfig::SwitchHead(config) => config.head_width,
            AttentionConfig::Moa(config) => config.head_width,
        }
    }

    /// Parameters of a layer for each channel of the model, roughly.
    pub(crate) fn approximate_columns(&self) -> f64 {
        let a = self.head_width() as f64;
        match self {
            AttentionConfig::Dense(config) => 5.0 * config.heads as f64 * a,
            AttentionConfig::SwitchHead(config) => {
                (3.0 + 2.0 * config.num_experts as f64) * config.heads as f64 * a
            }
            AttentionConfig::Moa(config) => (3.0 + 2.0 * config.num_experts as f64) * a,
        }
    }

    /// What cannot work, one sentence each; `place` is where the settings stand.
    pub fn problems(&self, place: &str) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |works: bool, problem: String| {
            if !works {
                problems.push(problem);
            }
        };
        let at_least_one =
            |name: &str, size: usize| (size > 0, format!("{place}.{name} must be at least 1"));
        let mut sizes = vec![at_least_one("head_width", self.head_width())];
        match self {
            AttentionConfig::Dense(config) => sizes.push(at_least_one("heads", config.heads)),
            AttentionConfig::SwitchHead(config) => {
                sizes.push(at_least_one("heads", config.heads));
                sizes.push(selected(place, config.num_selected, config.num_experts));
                sizes.push((
                    (0.0..1.0).contains(&config.expert_dropout),
                    format!("{place}.expert_dropout {} is not in [0, 1)", config.expert_dropout),
                ));
                let experts = config.experts;
                sizes.push((
                    experts.source() || experts.destination(),
                    format!("{place}.experts names no projection: use dense attention"),
                ));
            }
            AttentionConfig::Moa(config) => {
                sizes.push(selected(place, config.num_selected, config.num_experts));
                let weights = config.loss;
                for (name, weight) in
                    [("cv", weights.cv), ("switch", weights.switch), ("z", weights.z)]
                {
                    let works = weight >= 0.0 && weight.is_finite();
                    sizes.push((
                        works,
                        format!("{place}.loss.{name} {weight} is not a number from 0"),
                    ));
                }
            }
        }
        sizes.into_iter().for_each(|(works, problem)| check(works, problem));
        if let RelativePositions::Rope { fraction } = self.positions() {
            let channels = self.positions().rotated_channels(self.head_width());
            check(
                (0.0..=1.0).contains(&fraction),
                format!("{place}.positions.fraction {fraction} is not in [0, 1]"),
            );
            check(
                channels.is_multiple_of(2),
                format!(
                    "{place}.positions rotates {channels} of {} channels, an odd number: channels turn in pairs",
                    self.head_width()
                ),
            );
        }
        problems
    }
}

fn selected(place: &str, k: usize, e: usize) -> (bool, String) {
    let told = format!("{place}.num_selected {k} is not in 1..={e}, the number of experts");
    ((1..=e).contains(&k), told)
}
