//! Four lanes in plain code, which compilers put into whatever registers there are.

use super::Register;
use crate::kernel::isa::{Isa, Plain};

/// Four lanes, without fused multiply-add.
#[derive(Clone, Copy)]
pub(in crate::kernel) struct Four([f32; 4]);

impl Register for Four {
    type Isa = Plain;
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Four([0.0; 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: by contract of the trait: there are as many.
        Four(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn splat(from: *const f32) -> Self {
        // SAFETY: by contract of the trait.
        Four([unsafe { *from }; 4])
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: by contract of the trait: there is room for as many.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) };
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Four(std::array::from_fn(|i| self.0[i] + other.0[i]))
    }

    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        Four(std::array::from_fn(|i| Plain::fma(self.0[i], b.0[i], c.0[i])))
    }

    #[inline(always)]
    unsafe fn transpose(block: &mut [Self]) {
        let rows = [block[0], block[1], block[2], block[3]];
        for (c, column) in block[..4].iter_mut().enumerate() {
            *column = Four(rows.map(|row| row.0[c]));
        }
    }
}
