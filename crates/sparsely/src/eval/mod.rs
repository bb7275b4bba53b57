//! Accuracy, loss and what the routers did, without changing the model.

mod config;
mod evaluate;
mod saved_model;

pub use config::EvalConfig;
pub use evaluate::{Evaluation, LayerLoad, class_probabilities, evaluate};
pub(crate) use saved_model::with_arrays;
pub use saved_model::{SavedModel, numbered_classes};
