//! The training loop and what it is told.

mod config;
mod preset;
mod run;
pub mod schedule;
mod trainer;

pub use config::{Interval, LossKind, Optimizer, RunConfig, Span, SuperClassLoss, TrainConfig};
pub use preset::preset;
pub use run::{Observer, Outcome, resume, start};
pub use schedule::Schedule;
pub use trainer::{RouterTask, StepReport, Trainer};
