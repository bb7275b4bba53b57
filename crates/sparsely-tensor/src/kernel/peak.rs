//! A loop of multiply-adds that never leaves the registers: what the processor can do at most.

use super::isa::simd;
#[cfg(target_arch = "x86_64")]
use super::isa::{Level, level};
#[cfg(target_arch = "x86_64")]
use super::register::Register;

/// Chains of multiply-adds side by side: more than latency times units, and as many as the smallest
/// register file holds beside the factors.
const CHAINS: usize = 12;
/// Lanes of a chain where the compiler chooses the registers.
const LANES: usize = 4;

/// Runs `rounds` multiply-adds in each of the chains of this thread and returns the
/// multiply-accumulates that were done, with a sum that nothing may skip.
pub(crate) fn multiply_adds(rounds: usize) -> (usize, f32) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{__m256, __m512};
        #[target_feature(enable = "avx512f,avx512dq,avx512vl,fma")]
        unsafe fn avx512(rounds: usize) -> f32 {
            // SAFETY: the features are enabled.
            unsafe { chains::<__m512>(rounds) }
        }
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2(rounds: usize) -> f32 {
            // SAFETY: the features are enabled.
            unsafe { chains::<__m256>(rounds) }
        }
        match level() {
            Level::Avx512 => {
                // SAFETY: `level` found the instruction set.
                let sum = unsafe { avx512(rounds) };
                return (rounds * CHAINS * __m512::LANES, sum);
            }
            Level::Avx2 => {
                // SAFETY: as above.
                let sum = unsafe { avx2(rounds) };
                return (rounds * CHAINS * __m256::LANES, sum);
            }
            Level::Baseline => {}
        }
    }
    (rounds * CHAINS * LANES, plain_chains(rounds))
}

/// # Safety
/// The processor has the instruction set of `V`, for which the caller is compiled.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn chains<V: Register>(rounds: usize) -> f32 {
    // SAFETY: by contract; the store has a register's room.
    unsafe {
        let (half, one) = (V::splat(&0.5), V::splat(&1.0));
        let mut acc = [V::zero(); CHAINS];
        for _ in 0..rounds {
            for acc in &mut acc {
                *acc = acc.fma(half, one);
            }
        }
        let mut total = V::zero();
        for acc in acc {
            total = total.add(acc);
        }
        let mut lanes = [0.0_f32; 16];
        total.store(lanes.as_mut_ptr());
        lanes.iter().sum()
    }
}

simd! {
    fn plain_chains<I>(rounds: usize) -> f32 {
        let mut acc = [0.0_f32; CHAINS * LANES];
        for _ in 0..rounds {
            for acc in &mut acc {
                *acc = I::fma(*acc, 0.5, 1.0);
            }
        }
        acc.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_multiply_adds_are_done() {
        // x ← x/2 + 1 from 0 gives 1, 1.5, 1.75 in every lane of every chain.
        for (rounds, lane) in [(1, 1.0), (2, 1.5), (3, 1.75)] {
            let (macs, sum) = multiply_adds(rounds);
            assert_eq!(sum, lane * (macs / rounds) as f32);
            assert_eq!(plain_chains(rounds), lane * (CHAINS * LANES) as f32);
        }
    }
}
