//! bf16 on the tile registers of AMX: sixteen rows by sixteen columns at once.
//!
//! The intrinsics are not stable yet, so the instructions stand as text; Linux lets a process use the
//! registers when it has asked.

use super::ROWS;
use super::finish::Sums;
use super::kernel::Kernel;
use super::tile::Tile;
use super::x86::packs_pairs;
use crate::kernel::register::Register;
use crate::precision::Bf16;
use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, __m512};
use std::mem::MaybeUninit;
use std::sync::OnceLock;

/// Rows of a tile register, and lanes of its rows.
const SIDE: usize = 16;

/// Whether the processor has the registers and the system gives them.
pub(super) fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| has_tiles() && may_use_tiles())
}

fn has_tiles() -> bool {
    const AMX_BF16: u32 = 1 << 22;
    const AMX_TILE: u32 = 1 << 24;
    __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & (AMX_BF16 | AMX_TILE) == AMX_BF16 | AMX_TILE
}

#[cfg(target_os = "linux")]
fn may_use_tiles() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: the call takes two numbers and changes what this process may use; a kernel that does not know it
    // answers with an error.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn may_use_tiles() -> bool {
    false
}

/// What `ldtilecfg` reads: palette 1, eight registers of 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Shapes([u8; 64]);

static SHAPES: Shapes = {
    let mut bytes = [0; 64];
    bytes[0] = 1;
    let mut tile = 0;
    while tile < 8 {
        bytes[16 + 2 * tile] = 64;
        bytes[48 + tile] = SIDE as u8;
        tile += 1;
    }
    Shapes(bytes)
};

/// bf16 on AMX.
pub(super) struct AmxBf16;

impl Kernel for AmxBf16 {
    type Register = __m512;
    const TILE_ROWS: usize = 2 * SIDE;
    const TILE_REGISTERS: usize = 2;
    // A panel and a tile's rows of the left factor take two thirds of the first-level cache.
    const INNER: usize = 512;
    const DEPTH: usize = 2;
    const STEP: usize = SIDE;
    const ROW_STEP: usize = SIDE;
    const CONVERTS: bool = true;

    packs_pairs!();

    unsafe fn multiply_adds(rounds: usize) -> (usize, f32) {
        const HALF_AND_ONE: [[u16; 32 * SIDE]; 2] = [[0x3f00; 32 * SIDE], [0x3f80; 32 * SIDE]];
        let mut sums = Sums([0.0; Sums::LEN]);
        if rounds == 0 {
            return (0, 0.0);
        }
        // SAFETY: the processor has AMX by the caller's contract; each register takes 16 rows of 64 bytes.
        unsafe {
            Self::begin();
            asm!(
                "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                "tileloadd tmm4, [{half} + {stride}*1]",
                "tileloadd tmm5, [{one} + {stride}*1]",
                "2:",
                "tdpbf16ps tmm0, tmm4, tmm5",
                "tdpbf16ps tmm1, tmm4, tmm5",
                "tdpbf16ps tmm2, tmm4, tmm5",
                "tdpbf16ps tmm3, tmm4, tmm5",
                "dec {rounds}",
                "jnz 2b",
                "tilestored [{to} + {stride}*1], tmm0",
                "tilestored [{to} + {stride}*1 + 1024], tmm1",
                "tilestored [{to} + {stride}*1 + 2048], tmm2",
                "tilestored [{to} + {stride}*1 + 3072], tmm3",
                half = in(reg) HALF_AND_ONE[0].as_ptr(),
                one = in(reg) HALF_AND_ONE[1].as_ptr(),
                stride = in(reg) 64_usize,
                rounds = inout(reg) rounds => _,
                to = in(reg) sums.0.as_mut_ptr(),
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _,
                options(nostack),
            );
            Self::end();
        }
        (rounds * 4 * SIDE * SIDE * 2 * SIDE, sums.0.iter().sum())
    }

    unsafe fn begin() {
        // SAFETY: the processor has AMX by the caller's contract.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &SHAPES, options(nostack, preserves_flags, readonly));
        };
    }

    unsafe fn end() {
        // SAFETY: as above.
        unsafe {
            asm!("tilerelease", options(nostack, preserves_flags, nomem));
        }
    }

    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,fma")]
    unsafe fn tile(tile: &Tile, rows: usize, registers: usize) {
        let mut sums = MaybeUninit::<Sums>::uninit();
        let sums = sums.as_mut_ptr().cast::<f32>();
        // SAFETY: the caller's contract: the left factor has whole registers of rows (packed with room behind
        // its last row), both have whole steps. Of the sums those that were stored are read.
        unsafe {
            let is_whole = rows == 2 * SIDE && registers == 2 && is_plain(tile, 2 * SIDE);
            let (to, stride) =
                if is_whole { (tile.dst, tile.dst_stride) } else { (sums, 2 * SIDE) };
            match (rows > SIDE, registers) {
                (true, 2) => two_by_two(tile, to, stride),
                (true, _) => two_by_one(tile, to, stride),
                (false, 2) => one_by_two(tile, to, stride),
                (false, _) => one_by_one(tile, to, stride),
            }
            if is_whole {
                return;
            }
            for r in 0..rows {
                let row = sums.add(r * 2 * SIDE);
                if registers == 2 {
                    tile.finish(r, [__m512::load(row), __m512::load(row.add(SIDE))]);
                } else {
                    tile.finish(r, [__m512::load(row)]);
                }
            }
        }
    }

    fn rows(lanes: usize) -> usize {
        // Half of the first-level cache, beside a panel that takes a quarter.
        const NEAR: usize = 6 << 10;
        let near = NEAR / lanes.max(1) / Self::TILE_ROWS * Self::TILE_ROWS;
        // With fewer the panels are read too often.
        if near < 2 * Self::TILE_ROWS { ROWS } else { near.min(ROWS) }
    }
}

/// Whether the sums alone are the tile's result, in `columns` whole columns.
fn is_plain(tile: &Tile, columns: usize) -> bool {
    tile.columns == columns
        && !tile.adds
        && tile.bias.is_none()
        && tile.residual.is_none()
        && tile.scatter.is_none()
}

/// Sums of some registers of rows by some of columns, over the whole inner dimension, to `to`.
///
/// A step multiplies 16 lanes of each row of the left factor by 16 rows of the panel, and loads those of the next as soon
/// as nothing reads the ones before: where another thread has the core's other half, loads do not pass products that
/// read the same register.
macro_rules! tiles {
    (
        $name:ident, $width:literal,
        first [$($first:literal)*], step [$($step:literal)*], last [$($last:literal)*], store [$($store:literal)*]
    ) => {
        #[inline(always)]
        unsafe fn $name(tile: &Tile, to: *mut f32, stride: usize) {
            // SAFETY: the caller's contract; all tile registers are told as overwritten.
            unsafe {
                asm!(
                    "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                    // Not all forms store rows below the first sixteen: "# {below}" alone names the operand.
                    "# {below}",
                    $($first,)*
                    "dec {steps}",
                    "jz 3f",
                    "2:",
                    "add {a}, 64",
                    "add {low}, 64",
                    "add {b}, {step}",
                    $($step,)*
                    "dec {steps}",
                    "jnz 2b",
                    "3:",
                    $($last,)*
                    $($store,)*
                    a = inout(reg) tile.a => _,
                    low = inout(reg) tile.a.wrapping_add(SIDE * tile.a_rows) => _,
                    a_stride = in(reg) tile.a_rows * 4,
                    b = inout(reg) tile.b => _,
                    b_stride = in(reg) $width * SIDE * 4,
                    step = const $width * 16 * 16 * 4,
                    steps = inout(reg) tile.k / SIDE => _,
                    to = in(reg) to,
                    below = in(reg) to.wrapping_add(SIDE * stride),
                    stride = in(reg) stride * 4,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    };
}

tiles!(
    two_by_two, 2,
    first [
        "tileloadd tmm4, [{a} + {a_stride}*1]"
        "tileloadd tmm6, [{b} + {b_stride}*1]"
        "tileloadd tmm7, [{b} + {b_stride}*1 + 64]"
        "tileloadd tmm5, [{low} + {a_stride}*1]"
    ],
    step [
        "tdpbf16ps tmm0, tmm4, tmm6"
        "tdpbf16ps tmm1, tmm4, tmm7"
        "tdpbf16ps tmm2, tmm5, tmm6"
        "tileloadd tmm4, [{a} + {a_stride}*1]"
        "tileloadd tmm6, [{b} + {b_stride}*1]"
        "tdpbf16ps tmm3, tmm5, tmm7"
        "tileloadd tmm7, [{b} + {b_stride}*1 + 64]"
        "tileloadd tmm5, [{low} + {a_stride}*1]"
    ],
    last [
        "tdpbf16ps tmm0, tmm4, tmm6"
        "tdpbf16ps tmm1, tmm4, tmm7"
        "tdpbf16ps tmm2, tmm5, tmm6"
        "tdpbf16ps tmm3, tmm5, tmm7"
    ],
    store [
        "tilestored [{to} + {stride}*1], tmm0"
        "tilestored [{to} + {stride}*1 + 64], tmm1"
        "tilestored [{below} + {stride}*1], tmm2"
        "tilestored [{below} + {stride}*1 + 64], tmm3"
    ]
);
tiles!(
    one_by_two, 2,
    first [
        "tileloadd tmm4, [{a} + {a_stride}*1]"
        "tileloadd tmm6, [{b} + {b_stride}*1]"
        "tileloadd tmm7, [{b} + {b_stride}*1 + 64]"
    ],
    step [
        "tdpbf16ps tmm0, tmm4, tmm6"
        "tdpbf16ps tmm1, tmm4, tmm7"
        "tileloadd tmm4, [{a} + {a_stride}*1]"
        "tileloadd tmm6, [{b} + {b_stride}*1]"
        "tileloadd tmm7, [{b} + {b_stride}*1 + 64]"
    ],
    last [
        "tdpbf16ps tmm0, tmm4, tmm6"
        "tdpbf16ps tmm1, tmm4, tmm7"
    ],
    store [
        "tilestored [{to} + {stride}*1], tmm0"
        "tilestored [{to} + {stride}*1 + 64], tmm1"
    ]
);
tiles!(
    two_by_one, 1,
    first [
        "tileloadd tmm4, [{a} + {a_stride}*1]"
        "tileloadd tmm6, [{b} + {b_stride}*1]"
        "tileloadd tmm5, [{low} + {a_stride}*1]"
    ],
    step [
        "tdpbf16ps tmm0, tmm4, tmm6"
        "tdpbf16ps tmm2, tmm5, tmm6"
        "tileloadd tmm4, [{a} + {a_stride}*1]"
        "tileloadd tmm6, [{b} + {b_stride}*1]"
        "tileloadd tmm5, [{low} + {a_stride}*1]"
    ],
    last [
        "tdpbf16ps tmm0, tmm4, tmm6"
        "tdpbf16ps tmm2, tmm5, tmm6"
    ],
    store [
        "tilestored [{to} + {stride}*1], tmm0"
        "tilestored [{below} + {stride}*1], tmm2"
    ]
);
tiles!(
    one_by_one, 1,
    first [
        "tileloadd tmm4, [{a} + {a_stride}*1]"
        "tileloadd tmm6, [{b} + {b_stride}*1]"
    ],
    step [
        "tdpbf16ps tmm0, tmm4, tmm6"
        "tileloadd tmm4, [{a} + {a_stride}*1]"
        "tileloadd tmm6, [{b} + {b_stride}*1]"
    ],
    last ["tdpbf16ps tmm0, tmm4, tmm6"],
    store ["tilestored [{to} + {stride}*1], tmm0"]
);
