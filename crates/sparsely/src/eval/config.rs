//! How a trained model is evaluated.

use crate::model::ModelConfig;
use crate::moe::router::Asked;
use crate::moe::{Capacity, Dial, Group};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

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
            group_tokens: group.tokens(model.length()),
            place: "eval.dial",
        });
        problems.extend(self.group_images(model).err().map(|error| error.to_string()));
        problems
    }

    /// The smallest number of images whose tokens make whole groups.
    ///
    /// # Errors
    /// If that is none, or more than can be computed together.
    pub fn group_images(&self, model: &ModelConfig) -> Result<usize> {
        let Some(moe) = &model.moe else { return Ok(1) };
        let (group, length) = (self.dial.group.unwrap_or(moe.group), model.length());
        let tokens = group.tokens(length);
        let images = tokens / gcd(tokens, length).max(1);
        if images == 0 || images > MAX_GROUP_IMAGES {
            return Err(Error::Argument {
                op: "evaluation",
                expected: format!("groups that 1 to {MAX_GROUP_IMAGES} images fill"),
                got: format!("groups of {group}"),
            });
        }
        Ok(images)
    }

    /// What cannot work, one sentence each.
    pub fn problems(&self) -> Vec<String> {
        let zero = (self.batch_size == 0).then(|| "eval.batch_size must be at least 1".into());
        zero.into_iter().collect()
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_24_tokens_fill_up_with_three_images_of_16() {
        let images = |group| {
            let dial = Dial { group: Some(group), ..Dial::default() };
            EvalConfig { batch_size: 1, dial }.group_images(&ModelConfig::default()).ok()
        };
        assert_eq!(images(Group::Tokens { n: 24 }), Some(3));
        assert_eq!(images(Group::Tokens { n: 8 }), Some(1));
        assert_eq!(images(Group::Images { n: 8 }), Some(8));
        assert_eq!(images(Group::Images { n: 0 }), None);
    }
}
