//! The mixture of experts: route → dispatch → experts → combine.

mod capacity;
mod config;
mod experts;
mod layer;
mod loss;
pub mod router;
mod routing;
pub mod selection;
mod stats;
mod subset;

pub use capacity::{Capacity, Order, Priority, Rounding, Seat, Seating};
pub use config::{ExpertInit, Group, MoeConfig, Placement};
pub use experts::Experts;
pub use layer::{Dial, MoeLayer, MoeOutput};
pub use loss::{gshard_loss, importance_loss, load_loss, z_loss};
pub use router::{LossWeights, RouterConfig, TokenChoiceConfig};
pub use routing::{Mixing, Routing};
pub use stats::RouterStats;
pub use subset::Subset;
