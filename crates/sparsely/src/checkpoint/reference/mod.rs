//! Configurations and parameters of google-research/vmoe, to and from ours.

mod config;
mod describe;
mod flat;
mod load;
mod params;
mod router;

pub use config::parse_config;
pub use describe::describe_config;
pub use load::ReferenceParams;
pub use params::{from_arrays, to_arrays};
pub use router::{ReferenceRouter, parse_router};
