//! A loop of multiply-adds that never leaves the registers: what the processor can do at most.

use super::isa::simd;
#[cfg(target_arch = "x86_64")]
use super::product::entries;
use crate::Precision;
use std::hint::black_box;

/// Sums that are added to side by side where the compiler chooses the registers.
const SUMS: usize = 48;

/// Runs `rounds` multiply-adds of 0.5 and 1 in each of the sums of this thread and returns the
/// multiply-accumulates that were done, with a sum that nothing may skip.
pub(crate) fn multiply_adds(
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused))] precision: Precision,
    rounds: usize,
) -> (usize, f32) {
    #[cfg(target_arch = "x86_64")]
    if let Some(entries) = entries(precision) {
        // SAFETY: the entries are those of this processor.
        return unsafe { (entries.multiply_adds)(rounds) };
    }
    (rounds * SUMS, plain(rounds, black_box([0.5, 1.0])))
}

simd! {
    fn plain<I>(rounds: usize, factors: [f32; 2]) -> f32 {
        let [half, one] = factors;
        let mut sums = [0.0_f32; SUMS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = I::fma(half, one, *sum);
            }
        }
        sums.iter().sum()
    }
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
            assert_eq!(plain(rounds, [0.5, 1.0]), 0.5 * (rounds * SUMS) as f32);
        }
    }
}
