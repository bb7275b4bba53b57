//! A loop of multiply-adds that never leaves the registers: what the processor can do at most.

use super::product::entries;
use crate::Precision;

/// Runs `rounds` multiply-adds of 0.5 and 1 in each of the sums of this thread and returns the
/// multiply-accumulates that were done, with a sum that nothing may skip.
pub(crate) fn multiply_adds(precision: Precision, rounds: usize) -> (usize, f32) {
    // SAFETY: the entries are those of this processor.
    unsafe { (entries(precision).multiply_adds)(rounds) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_multiply_adds_are_done() {
        for rounds in [1, 2, 3] {
            for precision in [Precision::F32, Precision::Bf16] {
                let (macs, sum) = multiply_adds(precision, rounds);
                assert_eq!(sum, 0.5 * macs as f32);
            }
        }
    }
}
