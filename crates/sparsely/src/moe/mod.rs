//! The mixture of experts: route → dispatch → experts → combine.

mod balance;
mod capacity;
mod config;
mod experts;
mod granularity;
mod group_router;
mod image_router;
mod layer;
mod loss;
mod mixture;
pub mod router;
mod routing;
pub mod selection;
mod sigma;
mod stats;
mod subset;

pub(crate) use balance::Balance;
pub use capacity::{Capacity, Order, Priority, Rounding, Seat, Seating};
pub(crate) use config::gcd;
pub use config::{ExpertInit, Group, MoeConfig, Placement};
pub use experts::Experts;
pub use granularity::{Granularity, ImageInput};
pub use group_router::GroupRouter;
pub use image_router::ImageRouter;
pub use layer::{Dial, MoeLayer, MoeOutput};
pub use loss::{gshard_loss, importance_loss, load_loss, usage_entropy_loss, z_loss};
pub use mixture::Mixture;
pub use router::{LossWeights, RouterConfig, TokenChoiceConfig};
pub use routing::{Mixing, Routing};
pub use sigma::{SigmaGate, SigmaMoe, SigmaMoeConfig, dropped};
pub use stats::RouterStats;
pub(crate) use stats::entropy_sum;
pub use subset::Subset;
