//! Causal language models with mixture-of-experts attention.

mod config;
mod transformer;

pub use config::{
    BlockConfig, BlockException, DenseMlpConfig, LanguageConfig, LanguageMoeConfig, MlpConfig,
};
pub use transformer::{Cache, LanguageModel, LanguageOutput, Memory, RoutedPart, Side, Tokens};
