//! Lines of memory that are asked for before they are needed.

/// Bytes of a line.
const LINE: usize = 64;

/// Why lines are fetched.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    /// To be read soon, from the first-level cache.
    Reading,
    /// To be read later, from the second-level cache.
    ReadingLater,
    /// To be overwritten.
    Writing,
}

/// Fetches the lines of `len` elements, or none where there is no such instruction. They may be nobody's: nothing is
/// touched.
#[inline(always)]
pub(super) fn fetch<S>(data: *const S, len: usize, purpose: Purpose) {
    for byte in (0..len * size_of::<S>()).step_by(LINE) {
        fetch_line(data.cast::<u8>().wrapping_add(byte), purpose);
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn fetch_line(line: *const u8, purpose: Purpose) {
    use std::arch::x86_64::{_MM_HINT_ET0, _MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
    let line = line.cast();
    // SAFETY: fetching touches nothing.
    unsafe {
        match purpose {
            Purpose::Reading => _mm_prefetch::<_MM_HINT_T0>(line),
            Purpose::ReadingLater => _mm_prefetch::<_MM_HINT_T1>(line),
            Purpose::Writing => _mm_prefetch::<_MM_HINT_ET0>(line),
        }
    }
}

#[cfg(target_arch = "aarch64")]
#[inline(always)]
fn fetch_line(line: *const u8, purpose: Purpose) {
    use std::arch::asm;
    // SAFETY: fetching touches nothing.
    unsafe {
        match purpose {
            Purpose::Reading => {
                asm!("prfm pldl1keep, [{}]", in(reg) line, options(readonly, nostack, preserves_flags));
            }
            Purpose::ReadingLater => {
                asm!("prfm pldl2keep, [{}]", in(reg) line, options(readonly, nostack, preserves_flags));
            }
            Purpose::Writing => {
                asm!("prfm pstl1keep, [{}]", in(reg) line, options(readonly, nostack, preserves_flags));
            }
        }
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[inline(always)]
fn fetch_line(_line: *const u8, _purpose: Purpose) {}
