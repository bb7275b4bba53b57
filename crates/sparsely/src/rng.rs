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

/// What the random numbers are for. The discriminants are part of what a seed means: never reuse
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Initial parameters; the counter is [`counter_of`] the parameter's name.
    Init = 1,
    /// Order of the training images; the counter is the epoch.
    DataOrder = 2,
    /// Crops, flips, mixup; the counter is the step.
    Augmentation = 3,
    /// Router noise and dropout masks; the counter is the step.
    Model = 4,
    /// Choice of validation images out of a training split; the counter is 0.
    Split = 5,
    /// Resampling of seeds and images for intervals; the counter is the comparison.
    Bootstrap = 6,
    /// Choice of the training images that a smaller run keeps; the counter is 0.
    Subset = 7,
    /// Order of the validation (counter 0) and test images (1).
    EvalOrder = 8,
    /// Starts of a clustering of classes, and random groups; the counter is the start.
    SuperClasses = 9,
    /// Tokens that a language model writes; the counter is the token's place in the answer.
    Sampling = 10,
}

/// The generator for `purpose` at `counter` (a step, an epoch, an index) under `seed`.
///
/// ```
/// use rand::Rng as _;
/// use sparsely::rng::{stream, Purpose};
/// let draw = |counter| stream(0, Purpose::DataOrder, counter).random::<u64>();
/// assert_eq!(draw(3), draw(3));
/// assert_ne!(draw(3), draw(4));
/// ```
pub fn stream(seed: u64, purpose: Purpose, counter: u64) -> Rng {
    let mut key = [0_u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&(purpose as u64).to_le_bytes());
    key[16..24].copy_from_slice(&counter.to_le_bytes());
    Rng::from_seed(key)
}

/// A counter for what has a name instead of a number: FNV-1a (Fowler, Noll, Vo) in 64 bits.
///
/// ```
/// // The published value for one letter.
/// assert_eq!(sparsely::rng::counter_of("a"), 0xaf63_dc4c_8601_ec8c);
/// ```
pub fn counter_of(name: &str) -> u64 {
    fnv_1a(name.bytes())
}

/// A counter for what is told apart by its numbers alone: FNV-1a of their bits.
pub fn counter_of_bits(values: &[f32]) -> u64 {
    fnv_1a(values.iter().flat_map(|value| value.to_bits().to_le_bytes()))
}

fn fnv_1a(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
