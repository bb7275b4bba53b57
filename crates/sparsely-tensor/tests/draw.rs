//! Random numbers for inputs: functions of a seed, so that a failing case can be run again.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub(crate) fn generator(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// `len` values in [−1.5, 1.5): large enough that GELU and tanh are not straight lines.
pub(crate) fn uniform(len: usize, seed: u64) -> Vec<f32> {
    let mut rng = generator(seed);
    (0..len).map(|_| rng.random_range(-1.5..1.5)).collect()
}

/// Lists of rows for `num_groups` groups, in no order: some groups empty, some of every row, the
/// others of a random share, so that rows lie in none, one or several groups.
pub(crate) fn row_groups(num_rows: usize, num_groups: usize, seed: u64) -> Vec<Vec<u32>> {
    use rand::seq::SliceRandom;
    let mut rng = generator(seed);
    let mut group = || {
        let share = [0.0, 0.05, 0.4, 0.4, 1.0][rng.random_range(0..5)];
        let mut rows: Vec<u32> =
            (0..num_rows as u32).filter(|_| rng.random_range(0.0..1.0) < share).collect();
        rows.shuffle(&mut rng);
        rows
    };
    (0..num_groups).map(|_| group()).collect()
}
