//! Whole models.

mod config;
mod variant;
mod vit;

pub use config::{Classifier, ModelConfig, Positions};
pub use variant::Variant;
pub use vit::{Output, Vit};
