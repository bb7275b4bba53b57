//! The training loop and what it is told.

mod config;
pub mod language;
mod learner;
mod preset;
mod run;
pub mod schedule;
mod task;
mod trainer;
mod vision;

pub use config::{Interval, LossKind, Optimizer, RunConfig, Span, SuperClassLoss, TrainConfig};
pub use learner::{Learner, StepReport};
pub use preset::preset;
pub use run::{Observer, Outcome};
pub use schedule::Schedule;
pub use task::Beginning;
pub use trainer::{RouterTask, Trainer};
pub use vision::{resume, start};
