//! How a trained model is evaluated.

use crate::model::ModelConfig;
use crate::moe::router::Asked;
use crate::moe::{Capacity, Dial, Group, gcd};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Assumed power of a busy core where joules cannot be measured: between a server's 2 to 4 W a
/// core under full load and a desktop's 6 to 15.
const WATTS_PER_CORE: f64 = 5.0;

/// Most images that one group may span.
const MAX_GROUP_IMAGES: usize = 4096;

/// How a trained model is evaluated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvalConfig {
    /// Images that are computed together, raised to whole groups; no answer depends on it.
    pub batch_size: usize,
    /// Deviations from the routing that the model was trained with.
    pub dial: Dial,
    /// Assumed power of a busy core, in watts, where the processor does not tell its energy.
    pub watts_per_core: f64,
}

impl Default for EvalConfig {
    /// Each image is routed alone, and nothing is dropped: an answer depends on its image only.
    fn default() -> EvalConfig {
        EvalConfig {
            batch_size: 64,
            dial: Dial {
                capacity: Some(Capacity::Unlimited),
                group: Some(Group::Images { n: 1 }),
                ..Dial::default()
            },
            watts_per_core: WATTS_PER_CORE,
        }
    }
}

impl EvalConfig {
    /// What cannot work with the routing of `model`, one sentence each.
    pub fn routing_problems(&self, model: &ModelConfig) -> Vec<String> {
        let Some(moe) = &model.moe else { return Vec::new() };
        let group = self.dial.group.unwrap_or(moe.group);
        let mut problems = moe.router.problems(&Asked {
            dial: &self.dial,
            num_experts: moe.num_experts,
            group_tokens: moe.group_size_of(group, model.length()),
            place: "eval.dial",
        });
        problems.extend(moe.group_problem(group).map(String::from));
        problems.extend(model.skip_problem(&self.dial));
        problems.extend(self.group_images(model).err().map(|error| error.to_string()));
        problems
    }

    /// The smallest number of images whose tokens make whole groups.
    ///
    /// # Errors
    /// If that is none, or more than can be computed together.
    pub fn group_images(&self, model: &ModelConfig) -> Result<usize> {
        group_images(model, self.dial.group)
    }

    /// What cannot work, one sentence each.
    pub fn problems(&self) -> Vec<String> {
        let zero = (self.batch_size == 0).then(|| "eval.batch_size must be at least 1".into());
        let watts = (!(self.watts_per_core.is_finite() && self.watts_per_core > 0.0))
            .then(|| format!("eval.watts_per_core must be above 0, got {}", self.watts_per_core));
        zero.into_iter().chain(watts).collect()
    }
}

/// The smallest number of images whose tokens make whole groups; `group` is the model's own if
/// absent.
pub(super) fn group_images(model: &ModelConfig, group: Option<Group>) -> Result<usize> {
    let Some(moe) = &model.moe else { return Ok(1) };
    let group = group.unwrap_or(moe.group);
    let images = group.whole_images(model.length());
    if images == 0 || images > MAX_GROUP_IMAGES {
        return Err(Error::Argument {
            op: "evaluation",
            expected: format!("groups that 1 to {MAX_GROUP_IMAGES} images fill"),
            got: format!("groups of {group}"),
        });
    }
    Ok(images)
}

/// The least common multiple of two sizes that are not 0.
pub(crate) fn lcm(a: usize, b: usize) -> usize {
    a / gcd(a, b) * b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_24_tokens_fill_up_with_three_images_of_16() {
        let images = |group| {
            let dial = Dial { group: Some(group), ..Dial::default() };
            EvalConfig { batch_size: 1, dial, ..EvalConfig::default() }
                .group_images(&ModelConfig::default())
                .ok()
        };
        assert_eq!(images(Group::Tokens { n: 24 }), Some(3));
        assert_eq!(images(Group::Tokens { n: 8 }), Some(1));
        assert_eq!(images(Group::Images { n: 8 }), Some(8));
        assert_eq!(images(Group::Images { n: 0 }), None);
    }
}
