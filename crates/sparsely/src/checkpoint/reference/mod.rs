//! Configurations and parameters of google-research/vmoe, to and from ours.

mod config;
mod params;

pub use config::parse_config;
pub use params::{from_arrays, to_arrays};
