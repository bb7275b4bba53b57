//! Configurations as typed values, and how single settings of them are changed by text.

pub mod overlay;
