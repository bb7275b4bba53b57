//! Vector registers under one name, so that the product is written once.

#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(any(test, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod plain;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(any(test, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
pub(super) use plain::Four;

use super::isa::Isa;
use crate::precision::nearest_bf16;

/// Lanes of the widest register.
pub(super) const MOST_LANES: usize = 16;

/// A register of f32 lanes.
///
/// # Safety
/// Every method needs the instruction set of the implementor, and pointers to
/// [`Register::LANES`] elements ([`Register::splat`]: to one).
pub(super) trait Register: Copy {
    /// What loops over single elements may assume beside it.
    type Isa: Isa;
    /// Elements of a register.
    const LANES: usize;

    unsafe fn zero() -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn splat(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    /// `self·b + c`, as [`Isa::fma`].
    unsafe fn fma(self, b: Self, c: Self) -> Self;
    /// Rows to columns; `block` holds [`Register::LANES`] registers.
    unsafe fn transpose(block: &mut [Self]);

    /// The nearest bf16 of each lane.
    #[inline(always)]
    unsafe fn round(self) -> Self {
        let mut lanes = [0.0; MOST_LANES];
        // SAFETY: the caller's contract; there is room for the widest register.
        unsafe {
            self.store(lanes.as_mut_ptr());
            for lane in &mut lanes[..Self::LANES] {
                *lane = nearest_bf16(*lane);
            }
            Self::load(lanes.as_ptr())
        }
    }
}
