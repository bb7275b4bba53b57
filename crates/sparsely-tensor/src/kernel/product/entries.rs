//! The entry points that are compiled for each kernel, and which of them this processor takes.

#[cfg(target_arch = "x86_64")]
use super::amx;
use super::finish::Sums;
use super::kernel::Kernel;
use super::pack::{pack_strip, strips};
use super::{Inner, Product, Strided};
use crate::Precision;
use crate::kernel::gemm::{PANEL_COLUMNS, Right};
#[cfg(target_arch = "x86_64")]
use crate::kernel::isa::{Level, level};
use crate::kernel::register::{MOST_LANES, Register};

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
    /// Packs a right factor, on all threads.
    pub(in crate::kernel) pack: fn(&Right<'_>, &mut [f32]),
}

/// How this processor multiplies.
#[cfg(target_arch = "x86_64")]
pub(in crate::kernel) fn entries(precision: Precision) -> &'static Entries {
    match (precision, level()) {
        (Precision::F32, Level::Avx512) => &avx512::ENTRIES,
        (Precision::F32, Level::Avx2) => &avx2::ENTRIES,
        (Precision::F32, Level::Baseline) => &sse2::ENTRIES,
        (Precision::Bf16, Level::Avx512) if has_bf16() && amx::is_available() => &amx_bf16::ENTRIES,
        (Precision::Bf16, Level::Avx512) if has_bf16() => &avx512_bf16::ENTRIES,
        (Precision::Bf16, Level::Avx512 | Level::Avx2) => &avx2_rounded::ENTRIES,
        (Precision::Bf16, Level::Baseline) => &sse2_rounded::ENTRIES,
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
        Precision::F32 => &plain::ENTRIES,
        Precision::Bf16 => &plain_rounded::ENTRIES,
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
            (&sse2::ENTRIES, true),
            (&plain::ENTRIES, true),
        ],
        Precision::Bf16 => vec![
            (&amx_bf16::ENTRIES, has_avx512 && has_bf16() && amx::is_available()),
            (&avx512_bf16::ENTRIES, has_avx512 && has_bf16()),
            (&avx2_rounded::ENTRIES, has_avx2),
            (&sse2_rounded::ENTRIES, true),
            (&plain_rounded::ENTRIES, true),
        ],
    };
    all.into_iter().filter(|(_, is_there)| *is_there).map(|(entries, _)| entries).collect()
}

/// All kernels that this processor has.
#[cfg(all(test, not(target_arch = "x86_64")))]
pub(in crate::kernel) fn all_entries(precision: Precision) -> Vec<&'static Entries> {
    match precision {
        Precision::F32 => vec![entries(precision), &plain::ENTRIES],
        Precision::Bf16 => vec![entries(precision), &plain_rounded::ENTRIES],
    }
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
            use super::{
                Entries, Inner, Kernel, MOST_LANES, PANEL_COLUMNS, Product, Register, Right, Strided, Sums,
                pack_strip, strips,
            };
            use rayon::prelude::*;

            // What buffers on the stack have room for, and where packed columns may be cut.
            const _: () = {
                let lanes = <<$kernel as Kernel>::Register as Register>::LANES;
                let tile = <$kernel>::TILE_REGISTERS * lanes;
                assert!(lanes <= MOST_LANES && <$kernel>::DEPTH <= 2);
                assert!(<$kernel>::PANEL_REGISTERS <= 4 && PANEL_COLUMNS.is_multiple_of(tile));
                assert!(<$kernel>::TILE_ROWS * tile <= Sums::LEN);
            };

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

            fn pack(b: &Right<'_>, panels: &mut [f32]) {
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
                let right = Strided::right(b);
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
entries!(neon, crate::kernel::product::neon::Neon, "NEON");
#[cfg(target_arch = "aarch64")]
entries!(
    neon_rounded,
    crate::kernel::product::kernel::Rounded<crate::kernel::product::neon::Neon>,
    "NEON in f32, rounding factors"
);
#[cfg(target_arch = "x86_64")]
entries!(sse2, crate::kernel::product::plain::Plain<std::arch::x86_64::__m128>, "SSE2");
#[cfg(target_arch = "x86_64")]
entries!(
    sse2_rounded,
    crate::kernel::product::kernel::Rounded<
        crate::kernel::product::plain::Plain<std::arch::x86_64::__m128>,
    >,
    "SSE2 in f32, rounding factors"
);
#[cfg(any(test, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
entries!(plain, crate::kernel::product::plain::Plain<crate::kernel::register::Four>, "portable");
#[cfg(any(test, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
entries!(
    plain_rounded,
    crate::kernel::product::kernel::Rounded<
        crate::kernel::product::plain::Plain<crate::kernel::register::Four>,
    >,
    "portable in f32, rounding factors"
);
