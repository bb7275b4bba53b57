//! Randomness without state: every draw is a function of the seed, what it is for, and a counter.
//!
//! A generator that is carried along would have to be saved with each checkpoint and would tie
//! the result to the order of calls. Here the generator of, say, the router noise of step 51
//! is made from `(seed, Purpose::RouterNoise, 51)`, so a resumed run draws what the
//! uninterrupted one would have drawn.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The generator that all of the library draws from.
pub type Rng = ChaCha8Rng;

/// What the random numbers are for. The discriminants are part of what a seed means: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Initial parameters; the counter is the parameter's index in the layout.
    Init = 1,
    /// Order of the training images; the counter is the epoch.
    DataOrder = 2,
    /// Crops, flips, mixup; the counter is the step.
    Augmentation = 3,
    /// Router noise and dropout masks; the counter is the step.
    Model = 4,
    /// Choice of validation images out of a training split; the counter is 0.
    Split = 5,
}

/// The generator for `purpose` at `counter` (a step, an epoch, an index) under `seed`.
///
/// ```
/// use rand::Rng as _;
/// use sparsely::rng::{stream, Purpose};
/// let a = stream(0, Purpose::DataOrder, 3).random::<u64>();
/// assert_eq!(a, stream(0, Purpose::DataOrder, 3).random::<u64>());
/// assert_ne!(a, stream(0, Purpose::DataOrder, 4).random::<u64>());
/// ```
pub fn stream(seed: u64, purpose: Purpose, counter: u64) -> Rng {
    let mut key = [0_u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&(purpose as u64).to_le_bytes());
    key[16..24].copy_from_slice(&counter.to_le_bytes());
    Rng::from_seed(key)
}
