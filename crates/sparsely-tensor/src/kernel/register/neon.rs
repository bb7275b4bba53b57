//! The registers of Arm.

use super::Register;
use crate::kernel::isa::Fused;
use std::arch::aarch64::*;

impl Register for float32x4_t {
    type Isa = Fused;
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: by contract of the trait, here and below.
        unsafe { vdupq_n_f32(0.0) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: by contract.
        unsafe { vld1q_f32(from) }
    }

    #[inline(always)]
    unsafe fn splat(from: *const f32) -> Self {
        // SAFETY: by contract.
        unsafe { vdupq_n_f32(*from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: by contract.
        unsafe { vst1q_f32(to, self) };
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: by contract.
        unsafe { vaddq_f32(self, other) }
    }

    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        // SAFETY: by contract.
        unsafe { vfmaq_f32(c, self, b) }
    }

    /// Pairs, then halves of registers.
    #[inline(always)]
    unsafe fn transpose(block: &mut [Self]) {
        let x = &mut block[..4];
        // SAFETY: by contract.
        unsafe {
            let pairs = [
                vtrn1q_f32(x[0], x[1]),
                vtrn2q_f32(x[0], x[1]),
                vtrn1q_f32(x[2], x[3]),
                vtrn2q_f32(x[2], x[3]),
            ]
            .map(|pair| vreinterpretq_f64_f32(pair));
            x[0] = vreinterpretq_f32_f64(vtrn1q_f64(pairs[0], pairs[2]));
            x[1] = vreinterpretq_f32_f64(vtrn1q_f64(pairs[1], pairs[3]));
            x[2] = vreinterpretq_f32_f64(vtrn2q_f64(pairs[0], pairs[2]));
            x[3] = vreinterpretq_f32_f64(vtrn2q_f64(pairs[1], pairs[3]));
        }
    }
}
