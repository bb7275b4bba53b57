//! Causal language models with mixture-of-experts attention.

mod cache;
mod check;
mod config;
mod mlp;
mod tokens;
mod transformer;

pub use cache::Cache;
pub use config::{
    BlockConfig, BlockException, DenseMlpConfig, LanguageConfig, LanguageMoeConfig, MlpConfig,
};
pub use tokens::{Memory, RoutedPart, Side, Tokens};
pub use transformer::{LanguageModel, LanguageOutput};
