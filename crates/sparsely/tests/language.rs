//! Language models as wholes: causality, independence, decoding with a cache, presets, bad input.

#[path = "language/bits.rs"]
mod bits;
#[path = "language/cached.rs"]
mod cached;
#[path = "language/images.rs"]
mod images;
#[path = "language/models.rs"]
mod models;
#[path = "language/presets.rs"]
mod presets;
#[path = "language/refused.rs"]
mod refused;
#[path = "language/routing.rs"]
mod routing;
#[path = "language/training.rs"]
mod training;
