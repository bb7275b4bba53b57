//! How a language model is evaluated.

use serde::{Deserialize, Serialize};

/// How a language model is evaluated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LanguageEvalConfig {
    /// Parts of the text that are read at once. Each begins without a memory, so 1 is the text as it is
    /// and more is quicker and, for a model with memory, a little worse.
    pub batch_size: usize,
    /// Most tokens of the validation text that a look at it during training reads, from its beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_validation_tokens: Option<usize>,
}

impl Default for LanguageEvalConfig {
    fn default() -> LanguageEvalConfig {
        LanguageEvalConfig { batch_size: 1, max_validation_tokens: None }
    }
}

impl LanguageEvalConfig {
    /// What cannot work, one sentence each.
    pub fn problems(&self) -> Vec<String> {
        let zero = (self.batch_size == 0).then(|| "eval.batch_size must be at least 1".into());
        let none = (self.max_validation_tokens == Some(0))
            .then(|| "eval.max_validation_tokens must be at least 1; leave it out for all".into());
        zero.into_iter().chain(none).collect()
    }
}
