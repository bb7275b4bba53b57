//! Instruction sets, chosen at run time.
//!
//! A closure does not inherit the instruction set of the function that calls it, so an
//! elementwise loop is written once as a function generic over [`Isa`] and compiled for each
//! set by [`simd!`]; the first call asks the processor.

#[cfg(target_arch = "x86_64")]
use std::sync::OnceLock;

/// What the generic loops may assume of the instruction set.
pub(crate) trait Isa {
    /// `a·b + c`, rounded once where the set has a fused instruction.
    fn fma(a: f32, b: f32, c: f32) -> f32;
}

/// A set with fused multiply-add.
pub(crate) struct Fused;

impl Isa for Fused {
    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

/// A set without it: two roundings, instead of a call into the C library for each element.
#[cfg_attr(target_arch = "aarch64", allow(dead_code))]
pub(crate) struct Plain;

impl Isa for Plain {
    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }
}

/// The instruction set that the loops run with.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// AVX-512 (F, DQ, VL) with FMA.
    Avx512,
    /// AVX2 with FMA.
    Avx2,
    /// What every processor of the architecture has.
    Baseline,
}

/// What this processor offers.
#[cfg(target_arch = "x86_64")]
pub(crate) fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(detect)
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Level {
    let fma = is_x86_feature_detected!("fma");
    if fma
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
    {
        Level::Avx512
    } else if fma && is_x86_feature_detected!("avx2") {
        Level::Avx2
    } else {
        Level::Baseline
    }
}

/// Compiles a loop for every instruction set. The body names its set `I`.
macro_rules! simd {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$isa:ident>(
        $($arg:ident: $ty:ty),* $(,)?
    ) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            // A loop of plain sums asks nothing of its set.
            #[allow(clippy::extra_unused_type_parameters)]
            #[inline(always)]
            fn body<$isa: $crate::kernel::isa::Isa>($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512dq,avx512vl,fma")]
                fn avx512($($arg: $ty),*) $(-> $ret)? {
                    body::<$crate::kernel::isa::Fused>($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) $(-> $ret)? {
                    body::<$crate::kernel::isa::Fused>($($arg),*)
                }
                match $crate::kernel::isa::level() {
                    // SAFETY: `level` found these features on this processor.
                    $crate::kernel::isa::Level::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::kernel::isa::Level::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::kernel::isa::Level::Baseline => {}
                }
            }
            // Every aarch64 has fused multiply-add; old x86 does not.
            #[cfg(target_arch = "aarch64")]
            return body::<$crate::kernel::isa::Fused>($($arg),*);
            #[cfg(not(target_arch = "aarch64"))]
            body::<$crate::kernel::isa::Plain>($($arg),*)
        }
    };
}
pub(crate) use simd;
