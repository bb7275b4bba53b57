//! Routers by themselves: examples by hand, properties, and that their gradients are slopes.

#[path = "routers/by_hand.rs"]
mod by_hand;
#[path = "routers/properties.rs"]
mod properties;
#[path = "routers/slopes.rs"]
mod slopes;
#[path = "routers/state.rs"]
mod state;
#[path = "routers/subset.rs"]
mod subset;
