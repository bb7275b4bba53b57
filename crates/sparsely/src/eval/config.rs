//! How a trained model is evaluated.

use crate::moe::{Capacity, Dial, Group};
use serde::{Deserialize, Serialize};

/// How a trained model is evaluated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvalConfig {
    /// Images that are computed together; no answer depends on it.
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
    /// What cannot work, one sentence each.
    pub fn problems(&self) -> Vec<String> {
        let zero = (self.batch_size == 0).then(|| "eval.batch_size must be at least 1".into());
        zero.into_iter().collect()
    }
}
