//! Runs on text.

mod config;
mod preset;
mod run;
mod trainer;

pub use config::{LanguageKind, LanguageRunConfig, is_language};
pub use preset::language_preset;
pub use run::{resume, start};
pub use trainer::LanguageTrainer;
