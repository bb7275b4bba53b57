//! Configurations and parameters of google-research/vmoe, to and from ours.

mod config;
mod params;
mod router;

pub use config::parse_config;
pub use params::{from_arrays, to_arrays};
pub use router::{ReferenceRouter, parse_router};
