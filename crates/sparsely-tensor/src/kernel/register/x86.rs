//! The registers of SSE2, AVX2 and AVX-512.

use super::Register;
use crate::kernel::isa::{Fused, Plain};
use std::arch::x86_64::*;

impl Register for __m128 {
    type Isa = Plain;
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: by contract of the trait, here and below.
        unsafe { _mm_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: by contract.
        unsafe { _mm_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn splat(from: *const f32) -> Self {
        // SAFETY: by contract.
        unsafe { _mm_set1_ps(*from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: by contract.
        unsafe { _mm_storeu_ps(to, self) };
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: by contract.
        unsafe { _mm_add_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        // SAFETY: by contract.
        unsafe { _mm_add_ps(_mm_mul_ps(self, b), c) }
    }

    #[inline(always)]
    unsafe fn transpose(block: &mut [Self]) {
        let [mut a, mut b, mut c, mut d] = [block[0], block[1], block[2], block[3]];
        // SAFETY: by contract.
        unsafe { _MM_TRANSPOSE4_PS(&mut a, &mut b, &mut c, &mut d) };
        block[..4].copy_from_slice(&[a, b, c, d]);
    }
}

impl Register for __m256 {
    type Isa = Fused;
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: by contract of the trait, here and below.
        unsafe { _mm256_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: by contract.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn splat(from: *const f32) -> Self {
        // SAFETY: by contract.
        unsafe { _mm256_broadcast_ss(&*from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: by contract.
        unsafe { _mm256_storeu_ps(to, self) };
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: by contract.
        unsafe { _mm256_add_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        // SAFETY: by contract.
        unsafe { _mm256_fmadd_ps(self, b, c) }
    }

    /// Pairs, fours, then halves of registers.
    #[inline(always)]
    unsafe fn transpose(block: &mut [Self]) {
        let x = &mut block[..8];
        // SAFETY: by contract.
        unsafe {
            let mut pairs = [_mm256_setzero_ps(); 8];
            for i in (0..8).step_by(2) {
                pairs[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
                pairs[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
            }
            let mut fours = [_mm256_setzero_ps(); 8];
            for i in [0, 4] {
                fours[i] = _mm256_shuffle_ps::<0b01_00_01_00>(pairs[i], pairs[i + 2]);
                fours[i + 1] = _mm256_shuffle_ps::<0b11_10_11_10>(pairs[i], pairs[i + 2]);
                fours[i + 2] = _mm256_shuffle_ps::<0b01_00_01_00>(pairs[i + 1], pairs[i + 3]);
                fours[i + 3] = _mm256_shuffle_ps::<0b11_10_11_10>(pairs[i + 1], pairs[i + 3]);
            }
            for c in 0..4 {
                x[c] = _mm256_permute2f128_ps::<0x20>(fours[c], fours[4 + c]);
                x[4 + c] = _mm256_permute2f128_ps::<0x31>(fours[c], fours[4 + c]);
            }
        }
    }

    #[inline(always)]
    unsafe fn round(self) -> Self {
        // SAFETY: by contract.
        unsafe {
            let bits = _mm256_castps_si256(self);
            // Half a unit of the last kept place, less one where that place is even.
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
            let kept = _mm256_set1_epi32(0xffff_0000_u32.cast_signed());
            let rounded = _mm256_and_si256(_mm256_add_epi32(bits, half), kept);
            let is_nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(self, self);
            _mm256_blendv_ps(_mm256_castsi256_ps(rounded), self, is_nan)
        }
    }
}

impl Register for __m512 {
    type Isa = Fused;
    const LANES: usize = 16;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: by contract of the trait, here and below.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: by contract.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn splat(from: *const f32) -> Self {
        // SAFETY: by contract.
        unsafe { _mm512_set1_ps(*from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: by contract.
        unsafe { _mm512_storeu_ps(to, self) };
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: by contract.
        unsafe { _mm512_add_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        // SAFETY: by contract.
        unsafe { _mm512_fmadd_ps(self, b, c) }
    }

    /// Pairs, fours, then quarters of registers twice.
    #[inline(always)]
    unsafe fn transpose(block: &mut [Self]) {
        let x = &mut block[..16];
        // SAFETY: by contract.
        unsafe {
            let mut pairs = [_mm512_setzero_ps(); 16];
            for i in (0..16).step_by(2) {
                pairs[i] = _mm512_unpacklo_ps(x[i], x[i + 1]);
                pairs[i + 1] = _mm512_unpackhi_ps(x[i], x[i + 1]);
            }
            let mut fours = pairs;
            for i in (0..16).step_by(4) {
                for half in 0..2 {
                    let a = _mm512_castps_pd(pairs[i + half]);
                    let b = _mm512_castps_pd(pairs[i + 2 + half]);
                    fours[i + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
                    fours[i + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
                }
            }
            // fours[4g + c] holds, in quarter q, elements 4q + c of rows 4g..4g+4.
            for c in 0..4 {
                let low01 = _mm512_shuffle_f32x4::<0b10_00_10_00>(fours[c], fours[4 + c]);
                let high01 = _mm512_shuffle_f32x4::<0b11_01_11_01>(fours[c], fours[4 + c]);
                let low23 = _mm512_shuffle_f32x4::<0b10_00_10_00>(fours[8 + c], fours[12 + c]);
                let high23 = _mm512_shuffle_f32x4::<0b11_01_11_01>(fours[8 + c], fours[12 + c]);
                // low01 = quarters 0, 2 of groups 0 and 1; and so on.
                x[c] = _mm512_shuffle_f32x4::<0b10_00_10_00>(low01, low23);
                x[8 + c] = _mm512_shuffle_f32x4::<0b11_01_11_01>(low01, low23);
                x[4 + c] = _mm512_shuffle_f32x4::<0b10_00_10_00>(high01, high23);
                x[12 + c] = _mm512_shuffle_f32x4::<0b11_01_11_01>(high01, high23);
            }
        }
    }
}
