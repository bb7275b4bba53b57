//! Sparse mixture-of-experts transformers, trained, evaluated and run on the machine you have.
//!
//! # Shapes
//!
//! A tensor's last name segment is its axes: `x_td` is `[tokens, width]`.
//!
//! ```text
//! B batch        L length (tokens per sequence)   T tokens, flat (B·L = G·S)
//! G groups       S tokens per group               D model width
//! E experts      K selected experts per token     C capacity per expert per group
//! N routed pairs (at most T·K)                    F expert hidden width
//! H heads        A head width                     V classes
//! ```
//!
//! # Floors
//!
//! A module imports only from floors below its own (a test holds that):
//! `error rng` · `nn` · `moe` · `attention` · `model data superclass` · `checkpoint` · `eval cost` · `train` · `study`.

pub mod attention;
pub mod checkpoint;
pub mod config;
pub mod cost;
pub mod data;
pub mod error;
pub mod eval;
pub mod model;
pub mod moe;
pub mod nn;
pub mod rng;
pub mod study;
pub mod superclass;
pub mod train;

pub use error::{Error, Result};
