//! Accuracy, loss and what the routers did, without changing the model.

mod config;
mod energy;
mod evaluate;
mod in_turn;
mod saved_model;

pub use config::EvalConfig;
pub(crate) use config::lcm;
pub use energy::{EnergySource, Mark, Meter};
pub use evaluate::{Answer, Evaluation, LayerLoad, answers, confusion, evaluate};
pub use in_turn::{ImageCost, Subject, TimingConfig, cost_in_turn};
pub(crate) use saved_model::with_arrays;
pub use saved_model::{SavedModel, numbered_classes};
