//! Causal language models with mixture-of-experts attention.

mod block;
mod cache;
mod check;
mod config;
mod mlp;
mod preset;
mod tokens;
mod transformer;

pub use cache::Cache;
pub use config::{
    BlockConfig, BlockException, DenseMlpConfig, LanguageConfig, LanguageMoeConfig, MlpConfig,
};
pub use preset::{LANGUAGE_PRESETS, language_preset};
pub use tokens::{Memory, RoutedPart, Side, Tokens};
pub use transformer::{LanguageModel, LanguageOutput};
