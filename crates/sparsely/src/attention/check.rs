//! What settings of attention cannot work.

use super::{AttentionConfig, RelativePositions, SwitchHeadConfig};

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
                let compressed = config.context.and_then(|context| context.width);
                (3.0 + 2.0 * config.num_experts as f64) * config.heads as f64 * a
                    + compressed.unwrap_or(0) as f64
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
                sizes.extend(routing_options(place, config));
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

/// What SwitchHead's routers have beside their kernels.
fn routing_options(place: &str, config: &SwitchHeadConfig) -> Vec<(bool, String)> {
    let &SwitchHeadConfig { num_experts, bias_rate, entropy_weight, context, .. } = config;
    let rates = [("bias_rate", bias_rate), ("entropy_weight", entropy_weight)];
    let numbers = rates.iter().map(|(name, rate)| {
        let works = *rate >= 0.0 && rate.is_finite();
        (works, format!("{place}.{name} {rate} is not a number from 0"))
    });
    let options = [
        ("bias_rate", bias_rate > 0.0),
        ("entropy_weight", entropy_weight > 0.0),
        ("context", context.is_some()),
    ];
    let choices = options.iter().map(|(name, is_on)| {
        let told = format!("{place}.{name} is of a choice: with num_experts 1 there is none");
        (!is_on || num_experts != 1, told)
    });
    let width = (
        context.and_then(|context| context.width) != Some(0),
        format!("{place}.context.width must be at least 1; leave it out for all channels"),
    );
    numbers.chain(choices).chain([width]).collect()
}
