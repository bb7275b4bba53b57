//! Each router's settings as a value: only those that it has, so that what cannot work together
//! cannot be written.

use crate::moe::{Capacity, Dial, Priority};
use serde::{Deserialize, Deserializer, Serialize};

/// Who chooses whom.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum RouterConfig {
    /// Each token takes its K experts (V-MoE, arXiv 2106.05974).
    TokenChoice(TokenChoiceConfig),
}

impl Default for RouterConfig {
    fn default() -> RouterConfig {
        RouterConfig::TokenChoice(TokenChoiceConfig::default())
    }
}

impl RouterConfig {
    /// What cannot work with `e` experts and groups of `s` tokens, one sentence each; `place` is
    /// where the setting that decides K stands.
    pub fn problems(&self, dial: &Dial, [e, s]: [usize; 2], place: &str) -> Vec<String> {
        let RouterConfig::TokenChoice(router) = self;
        let mut problems = Vec::new();
        let k = dial.num_selected.unwrap_or(router.num_selected);
        if k == 0 || k > e {
            problems
                .push(format!("{place}.num_selected {k} is not in 1..={e}, the number of experts"));
        } else {
            let capacity = dial.capacity.unwrap_or(router.capacity);
            let seats = capacity.seats(s.saturating_mul(k), e);
            problems.extend(seats.err().map(|error| error.to_string()));
        }
        if router.noise_std < 0.0 || !router.noise_std.is_finite() {
            let noise = router.noise_std;
            problems.push(format!("model.moe.router.noise_std {noise} is not a number from 0"));
        }
        problems
    }
}

/// A router's settings; token choice where no `kind` is told.
pub(crate) fn of_kind<'de, D: Deserializer<'de>>(settings: D) -> Result<RouterConfig, D::Error> {
    let mut settings = serde_json::Map::deserialize(settings)?;
    settings.entry("kind").or_insert_with(|| "token_choice".into());
    RouterConfig::deserialize(serde_json::Value::Object(settings)).map_err(serde::de::Error::custom)
}

/// Token choice: softmax gates with noise, capacity and auxiliary losses.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenChoiceConfig {
    /// K.
    pub num_selected: usize,
    /// Noise of the logits in training, divided by E.
    pub noise_std: f32,
    /// Seats of each expert.
    pub capacity: Capacity,
    /// Who sits first.
    pub priority: Priority,
    /// Weights of the auxiliary losses.
    pub loss: LossWeights,
}

impl Default for TokenChoiceConfig {
    fn default() -> TokenChoiceConfig {
        TokenChoiceConfig {
            num_selected: 2,
            noise_std: 1.0,
            capacity: Capacity::factor(1.05),
            priority: Priority::Position,
            loss: LossWeights::default(),
        }
    }
}

/// Weights of the auxiliary losses; 0 leaves one out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LossWeights {
    /// CV² of the summed gates.
    pub importance: f32,
    /// CV² of the chances to be selected; training with noise only.
    pub load: f32,
    /// The product form of GShard.
    pub gshard: f32,
    /// Mean squared log-sum-exp of the logits.
    pub z: f32,
}

impl Default for LossWeights {
    fn default() -> LossWeights {
        LossWeights { importance: 0.005, load: 0.005, gshard: 0.0, z: 0.0 }
    }
}
