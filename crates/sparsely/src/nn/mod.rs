//! Dense layers. They do not know that experts exist.

mod init;
mod linear;
mod mlp;
mod norm;
mod precision;
mod renormalise;

pub use init::{Init, Initializer, fill};
pub use linear::Linear;
pub use mlp::Mlp;
pub use norm::LayerNorm;
pub use precision::Precision;
pub use renormalise::{Renormalised, renormalise};

use crate::rng::Rng;
use rand::RngCore;

/// Whether a forward pass trains, and from where it then draws.
///
/// Randomness is reachable only in [`Mode::Train`].
pub enum Mode<'a> {
    /// Noise and dropout are on.
    Train(&'a mut dyn Draw),
    /// Deterministic.
    Eval,
}

impl Mode<'_> {
    /// A borrow of the same mode, for a call in the middle of a pass.
    pub fn reborrow(&mut self) -> Mode<'_> {
        match self {
            Mode::Train(draw) => Mode::Train(&mut **draw),
            Mode::Eval => Mode::Eval,
        }
    }
}

/// What a training pass draws.
pub trait Draw {
    /// Standard normals for the noise of one router.
    fn normals(&mut self, len: usize) -> Vec<f32>;
    /// A seed for a dropout mask.
    fn seed(&mut self) -> u64;
}

impl Draw for Rng {
    fn normals(&mut self, len: usize) -> Vec<f32> {
        use rand_distr::{Distribution, StandardNormal};
        (0..len).map(|_| StandardNormal.sample(self)).collect()
    }

    fn seed(&mut self) -> u64 {
        self.next_u64()
    }
}

/// Applies dropout in training.
///
/// # Errors
/// If `rate` is not in [0, 1).
pub fn dropout<'t>(
    x: sparsely_tensor::Var<'t>,
    rate: f32,
    mode: &mut Mode<'_>,
) -> crate::Result<sparsely_tensor::Var<'t>> {
    match mode {
        Mode::Train(draw) if rate > 0.0 => Ok(x.dropout(rate, draw.seed())?),
        _ => Ok(x),
    }
}
