//! The models that papers tell the cost of, as typed values. What they cost is counted, never
//! stored.

mod switchhead;
mod vmoe;

pub use switchhead::{LanguageRow, switchhead};
pub use vmoe::{LARGEST_CLASSES, VisionRow, vmoe};
