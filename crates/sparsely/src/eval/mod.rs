//! Accuracy, loss and what the routers did, without changing the model.

mod answer;
mod config;
pub(crate) mod csv;
mod energy;
mod evaluate;
mod in_turn;
pub mod language;
mod saved_model;

pub use answer::{Answer, answers, confusion};
pub use config::EvalConfig;
pub(crate) use config::lcm;
pub use energy::{EnergySource, Mark, Meter};
pub use evaluate::{Evaluation, LayerLoad, evaluate};
pub use in_turn::{ImageCost, Subject, TimingConfig, cost_in_turn, in_turn};
pub(crate) use saved_model::with_arrays;
pub use saved_model::{SavedModel, numbered_classes};
