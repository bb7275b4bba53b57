//! One tile of the result.

// Constant bounds and plain indices unroll into named registers; iterators went through memory.
#![allow(clippy::needless_range_loop)]

use super::kernel::Kernel;
use crate::kernel::isa::Isa;
use crate::kernel::register::{MOST_LANES, Register};

/// One tile of the result and what it is made from.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    /// Lanes of the inner dimension.
    pub(super) k: usize,
    /// Rows of neighbouring lanes.
    pub(super) a: *const f32,
    /// Distance of the rows.
    pub(super) a_rows: usize,
    /// Rows of neighbouring columns.
    pub(super) b: *const f32,
    /// Distance of the rows; kernels with lanes of their own read whole registers one after the other.
    pub(super) b_rows: usize,
    pub(super) dst: *mut f32,
    pub(super) dst_stride: usize,
    /// Columns that exist in the result.
    pub(super) columns: usize,
    /// Whether the result is added to.
    pub(super) adds: bool,
    pub(super) bias: Option<*const f32>,
    pub(super) residual: Option<*const f32>,
    pub(super) residual_stride: usize,
    pub(super) scatter: Option<ScatterTile>,
}

/// Where the rows of a tile go, if not one after the other.
#[derive(Clone, Copy)]
pub(super) struct ScatterTile {
    /// One a row of the tile, in order.
    pub(super) rows: *const u32,
    /// The row that `dst` (and `at`) begins with.
    pub(super) first: usize,
    /// One a row of the tile.
    pub(super) gates: Option<*const f32>,
    pub(super) dots: Option<DotsTile>,
}

/// What the rows of a tile are multiplied with before their gates.
#[derive(Clone, Copy)]
pub(super) struct DotsTile {
    pub(super) at: *const f32,
    pub(super) stride: usize,
    /// Sums of a register's lanes, [`MOST_LANES`] apart, for each row of the tile.
    pub(super) lanes: *mut f32,
}

impl ScatterTile {
    /// Row `r` of the tile, of what begins with `first`.
    #[inline(always)]
    pub(super) unsafe fn row(&self, r: usize) -> usize {
        // SAFETY: the tile has the row.
        unsafe { *self.rows.add(r) as usize - self.first }
    }

    #[inline(always)]
    unsafe fn gate(&self, r: usize) -> f32 {
        // SAFETY: the tile has the row.
        unsafe { self.gates.map_or(1.0, |gates| *gates.add(r)) }
    }
}

/// The pointer; the compiler does not know any more how it was computed.
#[inline(always)]
fn forget_origin(pointer: *const f32) -> *const f32 {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    {
        let mut pointer = pointer;
        // SAFETY: a comment does nothing. It names an address and looks at nothing that lies there.
        #[allow(clippy::pointers_in_nomem_asm_block)]
        unsafe {
            std::arch::asm!(
                "/* {0} */",
                inout(reg) pointer,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        pointer
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pointer
}

impl Tile {
    /// # Safety
    /// As [`Tile::compute`], with `rows` and `registers` for R and W.
    #[inline(always)]
    pub(super) unsafe fn dispatch<K: Kernel>(&self, rows: usize, registers: usize) {
        macro_rules! sizes {
            ($($r:literal)*) => {
                match (rows, registers) {
                    $(($r, 1) => self.compute::<K, $r, 1>(),
                      ($r, 2) => self.compute::<K, $r, 2>(),
                      ($r, 3) => self.compute::<K, $r, 3>(),
                      ($r, 4) => self.compute::<K, $r, 4>(),)*
                    _ => unreachable!("a tile has 1 to 8 rows of 1 to 4 registers"),
                }
            };
        }
        // SAFETY: the caller's contract is that of `compute`.
        unsafe { sizes!(1 2 3 4 5 6 7 8) };
    }

    /// R rows by W registers, over the whole of k.
    ///
    /// # Safety
    /// The instruction set of `K`. `a` has R rows of `k` lanes at its stride, `b` `k` rows
    /// of W registers at its stride, `dst` (and the residual) R rows of `columns`, or those that the scatter
    /// names, the bias one.
    #[inline(always)]
    unsafe fn compute<K: Kernel, const R: usize, const W: usize>(&self) {
        if W > K::PANEL_REGISTERS || R > K::tile_rows(W) {
            unreachable!("larger than the register file");
        }
        // SAFETY: by contract.
        unsafe {
            let mut acc = [[K::Register::zero(); W]; R];
            // Rows in threes, each three from a pointer of its own: their addresses then need no
            // arithmetic, whose chain would be as long as the multiply-adds take.
            let stride = self.a_rows;
            // Those of rows that are not there are never read.
            let mut heads = [0, 3, 6].map(|row| self.a.wrapping_add(row * stride));
            let mut b = self.b;
            for _ in 0..self.k {
                let mut right = [K::Register::zero(); W];
                for w in 0..W {
                    right[w] = K::Register::load(b.add(K::Register::LANES * w));
                }
                for r in 0..R {
                    let left = K::Register::splat(heads[r / 3].add(r % 3 * stride));
                    for w in 0..W {
                        acc[r][w] = K::fma(left, right[w], acc[r][w]);
                    }
                }
                for head in &mut heads[..R.div_ceil(3)] {
                    // Otherwise they are computed from one another, by the ports that multiply.
                    *head = forget_origin(head.wrapping_add(1));
                }
                // Behind the last row there may be nothing.
                b = b.wrapping_add(self.b_rows);
            }
            for r in 0..R {
                self.finish::<K::Register, W>(r, acc[r]);
            }
        }
    }

    /// Adds bias and residual to the sums of row `r`, in the order of [`Tile::finish`].
    ///
    /// # Safety
    /// As [`Tile::compute`]; there are as many sums as columns.
    #[inline(always)]
    pub(super) unsafe fn add_terms<V: Register>(&self, r: usize, sums: *mut f32) {
        // SAFETY: by contract.
        unsafe {
            let residual = self.residual.map(|residual| residual.add(r * self.residual_stride));
            let whole = self.columns / V::LANES * V::LANES;
            for terms in [self.bias, residual].into_iter().flatten() {
                for c in (0..whole).step_by(V::LANES) {
                    V::load(sums.add(c)).add(V::load(terms.add(c))).store(sums.add(c));
                }
                for c in whole..self.columns {
                    *sums.add(c) += *terms.add(c);
                }
            }
        }
    }

    /// Adds to row `r` of the sums what the tile starts from, and stores it.
    ///
    /// # Safety
    /// As [`Tile::compute`].
    #[inline(always)]
    pub(super) unsafe fn finish<V: Register, const W: usize>(&self, r: usize, mut acc: [V; W]) {
        // SAFETY: by contract.
        unsafe {
            if self.columns < V::LANES * W {
                return self.finish_some(r, acc);
            }
            if let Some(scatter) = &self.scatter {
                return self.scatter_row(scatter, r, acc);
            }
            // Known indices: otherwise the sums would go through memory.
            let dst = self.dst.add(r * self.dst_stride);
            if let Some(bias) = self.bias {
                for w in 0..W {
                    acc[w] = acc[w].add(V::load(bias.add(V::LANES * w)));
                }
            }
            if let Some(residual) = self.residual {
                for w in 0..W {
                    let residual = residual.add(r * self.residual_stride + V::LANES * w);
                    acc[w] = acc[w].add(V::load(residual));
                }
            }
            if self.adds {
                for w in 0..W {
                    acc[w] = acc[w].add(V::load(dst.add(V::LANES * w)));
                }
            }
            for w in 0..W {
                acc[w].store(dst.add(V::LANES * w));
            }
        }
    }

    /// Adds row `r` of the sums, times its gate, to the row where it goes.
    #[inline(always)]
    unsafe fn scatter_row<V: Register, const W: usize>(
        &self,
        scatter: &ScatterTile,
        r: usize,
        acc: [V; W],
    ) {
        // SAFETY: by contract of `compute`.
        unsafe {
            let row = scatter.row(r);
            if let Some(dots) = &scatter.dots {
                let (at, lanes) = (dots.at.add(row * dots.stride), dots.lanes.add(r * MOST_LANES));
                let mut sums = V::load(lanes);
                for w in 0..W {
                    sums = acc[w].fma(V::load(at.add(V::LANES * w)), sums);
                }
                sums.store(lanes);
            }
            let gate = V::splat(&scatter.gate(r));
            let dst = self.dst.add(row * self.dst_stride);
            for w in 0..W {
                let dst = dst.add(V::LANES * w);
                acc[w].fma(gate, V::load(dst)).store(dst);
            }
        }
    }

    /// [`Tile::finish`], element by element, for panels that the result does not fill.
    #[inline(always)]
    unsafe fn finish_some<V: Register, const W: usize>(&self, r: usize, acc: [V; W]) {
        let mut row = [0.0_f32; 4 * MOST_LANES];
        // SAFETY: by contract of `compute`; a row of a tile has at most four registers.
        unsafe {
            for (w, acc) in acc.into_iter().enumerate() {
                acc.store(row.as_mut_ptr().add(V::LANES * w));
            }
            if let Some(scatter) = &self.scatter {
                let to = scatter.row(r);
                for (c, sum) in row.iter().enumerate().take(self.columns) {
                    if let Some(dots) = &scatter.dots {
                        *dots.lanes.add(r * MOST_LANES) +=
                            *sum * *dots.at.add(to * dots.stride + c);
                    }
                    let dst = self.dst.add(to * self.dst_stride + c);
                    *dst = V::Isa::fma(*sum, scatter.gate(r), *dst);
                }
                return;
            }
            for (c, sum) in row.iter().enumerate().take(self.columns) {
                let mut sum = *sum;
                let dst = self.dst.add(r * self.dst_stride + c);
                if let Some(bias) = self.bias {
                    sum += *bias.add(c);
                }
                if let Some(residual) = self.residual {
                    sum += *residual.add(r * self.residual_stride + c);
                }
                if self.adds {
                    sum += *dst;
                }
                *dst = sum;
            }
        }
    }
}
