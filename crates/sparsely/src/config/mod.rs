//! Configurations as typed values, and how single settings of them are changed by text.

pub mod difference;
pub mod overlay;
