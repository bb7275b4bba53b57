//! The entry points that are compiled for each kernel, and which of them this processor takes.

#[cfg(target_arch = "x86_64")]
use super::amx;
use super::kernel::Kernel;
use super::pack::{pack_strip, strips};
use super::{Inner, Product, Strided};
use crate::Precision;
use crate::kernel::gemm::Right;
#[cfg(target_arch = "x86_64")]
use crate::kernel::isa::{Level, level};

/// What is compiled for one kernel.
pub(in crate::kernel) struct Entries {
    /// For people.
    pub(in crate::kernel) name: &'static str,
    /// Computes a product.
    ///
    /// # Safety
    /// As [`Product::compute`].
    pub(in crate::kernel) run: unsafe fn(&Product<'_>),
    /// See [`Kernel::multiply_adds`].
    ///
    /// # Safety
    /// The processor has the instruction set.
    pub(in crate::kernel) multiply_adds: unsafe fn(usize) -> (usize, f32),
    /// Longest piece of an inner dimension of `k` that is summed in one chain.
    pub(in crate::kernel) block_len: fn(usize) -> usize,
    /// Elements of a packed right factor `[k, n]`.
    pub(in crate::kernel) packed_len: fn(usize, usize) -> usize,
    /// Packs a right factor, on all threads; `false` if it has no contiguous axis.
    pub(in crate::kernel) pack: fn(&Right<'_>, &mut [f32]) -> bool,
}

/// How this processor multiplies.
#[cfg(target_arch = "x86_64")]
pub(in crate::kernel) fn entries(precision: Precision) -> &'static Entries {
    match (precision, level()) {
        (Precision::F32, Level::Avx512) => &avx512::ENTRIES,
        (Precision::F32, Level::Avx2) => &avx2::ENTRIES,
        (Precision::F32, Level::Baseline) => &portable::ENTRIES,
        (Precision::Bf16, Level::Avx512) if has_bf16() && amx::is_available() => &amx_bf16::ENTRIES,
        (Precision::Bf16, Level::Avx512) if has_bf16() => &avx512_bf16::ENTRIES,
        (Precision::Bf16, Level::Avx512 | Level::Avx2) => &avx2_rounded::ENTRIES,
        (Precision::Bf16, Level::Baseline) => &portable_rounded::ENTRIES,
    }
}

/// How this processor multiplies.
#[cfg(target_arch = "aarch64")]
pub(in crate::kernel) fn entries(precision: Precision) -> &'static Entries {
    match precision {
        Precision::F32 => &neon::ENTRIES,
        Precision::Bf16 => &neon_rounded::ENTRIES,
    }
}

/// How this processor multiplies.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(in crate::kernel) fn entries(precision: Precision) -> &'static Entries {
    match precision {
        Precision::F32 => &portable::ENTRIES,
        Precision::Bf16 => &portable_rounded::ENTRIES,
    }
}

/// All kernels that this processor has.
#[cfg(all(test, target_arch = "x86_64"))]
pub(in crate::kernel) fn all_entries(precision: Precision) -> Vec<&'static Entries> {
    let (has_avx512, has_avx2) = (level() == Level::Avx512, level() != Level::Baseline);
    let all = match precision {
        Precision::F32 => vec![
            (&avx512::ENTRIES, has_avx512),
            (&avx2::ENTRIES, has_avx2),
            (&portable::ENTRIES, true),
        ],
        Precision::Bf16 => vec![
            (&amx_bf16::ENTRIES, has_avx512 && has_bf16() && amx::is_available()),
            (&avx512_bf16::ENTRIES, has_avx512 && has_bf16()),
            (&avx2_rounded::ENTRIES, has_avx2),
            (&portable_rounded::ENTRIES, true),
        ],
    };
    all.into_iter().filter(|(_, is_there)| *is_there).map(|(entries, _)| entries).collect()
}

/// All kernels that this processor has.
#[cfg(all(test, not(target_arch = "x86_64")))]
pub(in crate::kernel) fn all_entries(precision: Precision) -> Vec<&'static Entries> {
    vec![entries(precision)]
}

/// Whether AVX-512 rounds to bf16 and moves halves of lanes.
#[cfg(target_arch = "x86_64")]
fn has_bf16() -> bool {
    is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512bw")
}

/// The entry points that are compiled for one kernel.
macro_rules! entries {
    ($module:ident, $kernel:ty, $name:literal $(, #[$features:meta])?) => {
        mod $module {
            use super::{Entries, Inner, Kernel, Product, Right, Strided, pack_strip, strips};
            use rayon::prelude::*;

            pub(super) static ENTRIES: Entries = Entries {
                name: $name,
                run,
                multiply_adds,
                block_len: <$kernel>::block_len,
                packed_len: <$kernel>::packed_len,
                pack,
            };

            unsafe fn run(product: &Product<'_>) {
                $(#[$features])?
                unsafe fn compiled(product: &Product<'_>, left: &mut [f32], right: &mut [f32]) {
                    // SAFETY: by contract.
                    unsafe { product.run_on::<$kernel>(left, right) };
                }
                // SAFETY: by contract.
                unsafe { product.compute::<$kernel>(compiled) };
            }

            $(#[$features])?
            unsafe fn multiply_adds(rounds: usize) -> (usize, f32) {
                // SAFETY: by contract.
                unsafe { <$kernel>::multiply_adds(rounds) }
            }

            fn pack(b: &Right<'_>, panels: &mut [f32]) -> bool {
                $(#[$features])?
                unsafe fn compiled(
                    right: Strided<'_>,
                    inner: Inner,
                    (columns, n): ([usize; 2], usize),
                    to: &mut [f32],
                ) {
                    // SAFETY: the block and its columns are within the factor, `to` has their panels.
                    unsafe { pack_strip::<$kernel>(right, inner, columns, n, to.as_mut_ptr()) };
                }
                let [k, n] = b.extents();
                assert_eq!(panels.len(), <$kernel>::packed_len(k, n), "room for the panels");
                let Some(right) = Strided::right(b) else { return false };
                let block = <$kernel>::block_len(k);
                let blocks = panels.par_chunks_mut(<$kernel>::packed_len(block, n)).enumerate();
                blocks.for_each(|(i, mut panels)| {
                    let inner = Inner::of::<$kernel>(i * block, k);
                    let strips: Vec<_> = strips::<$kernel>(n)
                        .map(|[j, end]| {
                            let len = (end - j) * inner.lanes;
                            ([j, end], panels.split_off_mut(..len).expect("panels of the strip"))
                        })
                        .collect();
                    strips.into_par_iter().for_each(|(columns, to)| {
                        // SAFETY: `entries` found the instruction set; panels of blocks and strips lie one after the
                        // other.
                        unsafe { compiled(right, inner, (columns, n), to) };
                    });
                });
                true
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
entries!(
    avx2,
    crate::kernel::product::x86::Avx2,
    "AVX2",
    #[target_feature(enable = "avx2,fma")]
);
#[cfg(target_arch = "x86_64")]
entries!(
    avx2_rounded,
    crate::kernel::product::kernel::Rounded<crate::kernel::product::x86::Avx2>,
    "AVX2 in f32, rounding factors",
    #[target_feature(enable = "avx2,fma")]
);
#[cfg(target_arch = "x86_64")]
entries!(
    avx512,
    crate::kernel::product::x86::Avx512,
    "AVX-512",
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,fma")]
);
#[cfg(target_arch = "x86_64")]
entries!(
    avx512_bf16,
    crate::kernel::product::x86::Avx512Bf16,
    "AVX-512 BF16",
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,avx512bf16,fma")]
);
#[cfg(target_arch = "x86_64")]
entries!(
    amx_bf16,
    crate::kernel::product::amx::AmxBf16,
    "AMX",
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,avx512bf16,fma")]
);
#[cfg(target_arch = "aarch64")]
entries!(neon, crate::kernel::product::kernel::Neon, "NEON");
#[cfg(target_arch = "aarch64")]
entries!(
    neon_rounded,
    crate::kernel::product::kernel::Rounded<crate::kernel::product::kernel::Neon>,
    "NEON in f32, rounding factors"
);
#[cfg(not(target_arch = "aarch64"))]
entries!(portable, crate::kernel::product::kernel::Portable, "portable");
#[cfg(not(target_arch = "aarch64"))]
entries!(
    portable_rounded,
    crate::kernel::product::kernel::Rounded<crate::kernel::product::kernel::Portable>,
    "portable in f32, rounding factors"
);
