//! Whole models.

mod attention;
mod config;
pub mod language;
mod positions;
mod variant;
mod vit;

pub use attention::{AttentionStats, ExpertAttention};
pub use config::{Classifier, ModelConfig, Positions};
pub use positions::{resize_positions, token_grid};
pub use variant::Variant;
pub use vit::{Output, Vit};
