//! A run on text as a value: what its `config.toml` holds.

use crate::data::text::TextConfig;
use crate::eval::language::LanguageEvalConfig;
use crate::model::language::LanguageConfig;
use crate::train::{LossKind, TrainConfig};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// All that decides the outcome of a run on text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LanguageRunConfig {
    /// Tells it from a run on images, which has none.
    pub kind: LanguageKind,
    /// Decides everything that is drawn.
    pub seed: u64,
    /// The text.
    pub data: TextConfig,
    /// The model. Its vocabulary is the tokenizer's.
    pub model: LanguageConfig,
    /// How it learns; a batch is of rows of the text, one block of each.
    pub train: TrainConfig,
    /// How it is evaluated.
    pub eval: LanguageEvalConfig,
}

/// `kind = "language"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LanguageKind {
    /// A language model that learns from text.
    #[default]
    Language,
}

impl LanguageRunConfig {
    /// Checks the whole of it, without looking at the text.
    ///
    /// # Errors
    /// All problems at once.
    pub fn validate(&self) -> Result<()> {
        let mut problems = self.data.problems();
        problems.extend(self.train.problems());
        problems.extend(self.eval.problems());
        if self.train.super_classes.is_some() {
            problems.push("train.super_classes are of images".into());
        }
        if self.train.loss != LossKind::Softmax {
            problems.push("train.loss of a language model is `softmax`".into());
        }
        match self.model.validate() {
            Err(Error::Config { problems: more }) => problems.extend(more),
            Err(other) => return Err(other),
            Ok(()) => {}
        }
        if problems.is_empty() { Ok(()) } else { Err(Error::Config { problems }) }
    }

    /// As `config.toml` holds it.
    ///
    /// # Errors
    /// Never for a configuration that was read.
    pub fn to_toml(&self) -> Result<String> {
        let mut text = format!("# sparsely {}\n", env!("CARGO_PKG_VERSION"));
        text += &toml::to_string(self).map_err(|e| Error::config(e.to_string()))?;
        Ok(text)
    }

    /// Reads `config.toml`; `path` is named in errors.
    ///
    /// # Errors
    /// If it is not the configuration of a run on text.
    pub fn from_toml(text: &str, path: &Path) -> Result<LanguageRunConfig> {
        if !is_language(text) {
            let got = "one on images (sparsely eval and predict take it)";
            return Err(Error::format(path, "the configuration of a run on text", got));
        }
        toml::from_str(text)
            .map_err(|e| Error::format(path, "the configuration of a run on text", e.message()))
    }
}

/// Whether a `config.toml` is that of a run on text.
pub fn is_language(text: &str) -> bool {
    let table: Option<toml::Table> = text.parse().ok();
    table.is_some_and(|table| table.get("kind").and_then(toml::Value::as_str) == Some("language"))
}
