//! Factors as the tiles read them: lanes of the inner dimension, filled up with zeros.

use super::kernel::{IsaOf, Kernel};
use super::{Inner, ROWS, Strided};
use crate::Activation;
use crate::kernel::elementwise::activate_row;
use crate::kernel::fetch::{Purpose, fetch};
use crate::kernel::isa::Isa;
use crate::kernel::register::{MOST_LANES, Register};
use crate::precision::{Bf16, Stored};

/// Panels that are packed side by side: a row of them is enough to be fetched ahead of its use.
pub(super) const STRIP: usize = 4;
/// How many rows ahead packing fetches.
const AHEAD: usize = 8;
/// The same of rows of the left factor.
const ROWS_AHEAD: usize = 2;
/// Elements of the lanes of the largest register, of which each may have two.
pub(super) const WIDEST: usize = 2 * MOST_LANES;
/// Elements of the columns that are activated at a time.
pub(super) const ACTIVE: usize = WIDEST * ROWS;
/// What lies behind the last row or column, of either type.
static ZEROS: [f32; ROWS + WIDEST] = [0.0; ROWS + WIDEST];

/// Elements of a factor as kernels pack them.
trait Element: Stored {
    /// See [`Kernel::pack_along`].
    unsafe fn along<K: Kernel>(from: *const Self) -> K::Register;
    /// See [`Kernel::pack_down`].
    unsafe fn down<K: Kernel>(rows: [*const Self; 2]) -> K::Register;
}

impl Element for f32 {
    #[inline(always)]
    unsafe fn along<K: Kernel>(from: *const f32) -> K::Register {
        // SAFETY: the caller's contract.
        unsafe { K::pack_along(from) }
    }

    #[inline(always)]
    unsafe fn down<K: Kernel>(rows: [*const f32; 2]) -> K::Register {
        // SAFETY: the caller's contract.
        unsafe { K::pack_down(rows) }
    }
}

impl Element for Bf16 {
    #[inline(always)]
    unsafe fn along<K: Kernel>(from: *const Bf16) -> K::Register {
        // SAFETY: the caller's contract.
        unsafe { K::pack_along_bf16(from) }
    }

    #[inline(always)]
    unsafe fn down<K: Kernel>(rows: [*const Bf16; 2]) -> K::Register {
        // SAFETY: the caller's contract.
        unsafe { K::pack_down_bf16(rows) }
    }
}

/// Where the strip of panels that begins at column `j` of `n` ends.
pub(super) fn strip_end<K: Kernel>(j: usize, n: usize) -> usize {
    (0..STRIP).fold(j, |j, _| if j < n { j + K::panel_width(n - j) } else { j })
}

/// The strips of panels of `n` columns, each from a first column to the one behind its last.
pub(super) fn strips<K: Kernel>(n: usize) -> impl Iterator<Item = [usize; 2]> {
    let strip = move |j: usize| (j < n).then(|| [j, strip_end::<K>(j, n)]);
    std::iter::successors(strip(0), move |[_, end]| strip(*end))
}

/// All panels of an inner block of a right factor of `n` columns, one after the other.
///
/// # Safety
/// The instruction set of `K`; `to` has room for the block's lanes times the padded columns.
#[inline(always)]
pub(super) unsafe fn pack_columns<K: Kernel>(
    right: Strided<'_>,
    n: usize,
    inner: Inner,
    to: *mut f32,
) {
    for [j, end] in strips::<K>(n) {
        // SAFETY: by contract.
        unsafe { pack_strip::<K>(right, inner, [j, end], n, to.add(j * inner.lanes)) };
    }
}

/// The panels of columns j0..end of an inner block of the right factor, each as `[lanes][width]`,
/// zeros beyond column `n`.
///
/// # Safety
/// The instruction set of `K`; `to` has room for `lanes · (end − j0)` elements.
#[inline(always)]
pub(super) unsafe fn pack_strip<K: Kernel>(
    right: Strided<'_>,
    inner: Inner,
    columns: [usize; 2],
    n: usize,
    to: *mut f32,
) {
    // SAFETY: by contract.
    unsafe {
        match right.data {
            Source::F32(data) => pack_strip_of::<K, _>((right, data), inner, columns, n, to),
            Source::Bf16(data) => pack_strip_of::<K, _>((right, data), inner, columns, n, to),
        }
    }
}

/// [`pack_strip`] of elements of one type, which begin at `data`.
#[inline(always)]
unsafe fn pack_strip_of<K: Kernel, S: Element>(
    (right, data): (Strided<'_>, *const S),
    inner: Inner,
    [j0, end]: [usize; 2],
    n: usize,
    to: *mut f32,
) {
    let registers = K::Register::LANES;
    // SAFETY: the block's rows and columns j0..min(end, n) are within the factor; fetching
    // ahead touches nothing.
    unsafe {
        let from = data.add(j0 * right.cols);
        if !right.is_row_major {
            let from = from.add(inner.k0 * right.rows);
            let mut j = j0;
            while j < end {
                let width = K::panel_width(n - j);
                let from = from.add((j - j0) * right.cols);
                let to = to.add((j - j0) * inner.lanes);
                let columns = width.min(n - j);
                pack_transposed::<K, S>(from, right.cols, [inner.len, columns], to, width);
                j += width;
            }
            return;
        }
        for p in 0..inner.lanes {
            let row = |d: usize| {
                let k = p * K::DEPTH + d;
                match k < inner.len {
                    true => from.add(right.place(inner.k0 + k) * right.rows),
                    false => ZEROS.as_ptr().cast(),
                }
            };
            let rows = [row(0), row(K::DEPTH - 1)];
            for d in 0..K::DEPTH {
                let k = (p + AHEAD) * K::DEPTH + d;
                if k < inner.len {
                    let row = from.add(right.place(inner.k0 + k) * right.rows);
                    fetch(row, end.min(n) - j0, Purpose::Reading);
                }
            }
            let mut j = j0;
            while j < end {
                let width = K::panel_width(n - j);
                let to = to.add((j - j0) * inner.lanes + p * width);
                for c in (0..width).step_by(registers) {
                    let from = rows.map(|row| row.add(j - j0 + c));
                    let count = registers.min(n.saturating_sub(j + c));
                    down_some::<K, S>(from, count).store(to.add(c));
                }
                j += width;
            }
        }
    }
}

/// `columns` columns of `len` neighbouring elements, `stride` apart, to `[lanes][width]`.
#[inline(always)]
unsafe fn pack_transposed<K: Kernel, S: Element>(
    from: *const S,
    stride: usize,
    [len, columns]: [usize; 2],
    to: *mut f32,
    width: usize,
) {
    let (registers, lanes) = (K::Register::LANES, K::lanes(len));
    // SAFETY: only existing columns are read, and of each `len` elements; `to` has `lanes` rows.
    unsafe {
        for c in (0..width).step_by(registers) {
            for p in (0..lanes).step_by(registers) {
                let mut block = [K::Register::zero(); MOST_LANES];
                for (q, register) in block.iter_mut().enumerate().take(registers) {
                    if c + q < columns {
                        let from = from.wrapping_add((c + q) * stride + p * K::DEPTH);
                        *register = along_some::<K, S>(from, len.saturating_sub(p * K::DEPTH));
                    }
                }
                K::Register::transpose(&mut block[..registers]);
                for (r, register) in block.iter().enumerate().take(registers.min(lanes - p)) {
                    register.store(to.add((p + r) * width + c));
                }
            }
        }
    }
}

/// Where values of a factor lie.
#[derive(Clone, Copy)]
pub(super) enum Source {
    F32(*const f32),
    Bf16(*const Bf16),
}

impl Source {
    /// Element `i`.
    #[inline(always)]
    pub(super) fn at(self, i: usize) -> Source {
        match self {
            Source::F32(data) => Source::F32(data.wrapping_add(i)),
            Source::Bf16(data) => Source::Bf16(data.wrapping_add(i)),
        }
    }

    /// Fetches the first `len` elements.
    #[inline(always)]
    pub(super) fn fetch(self, len: usize) {
        match self {
            Source::F32(data) => fetch(data, len, Purpose::Reading),
            Source::Bf16(data) => fetch(data, len, Purpose::Reading),
        }
    }

    /// act(values), as many as `own` takes, in `own`.
    ///
    /// # Safety
    /// There are as many; the instruction set of a kernel.
    #[inline(always)]
    unsafe fn activate<I: Isa>(self, act: Activation, own: &mut [f32]) {
        // SAFETY: the caller's contract: there are as many.
        unsafe {
            match self {
                Source::F32(data) => {
                    let row = std::slice::from_raw_parts(data, own.len());
                    activate_row::<I, _>(act, row, own);
                }
                Source::Bf16(data) => {
                    let row = std::slice::from_raw_parts(data, own.len());
                    activate_row::<I, _>(act, row, own);
                }
            }
        }
    }
}

/// Rows (or columns) of an inner block of the left factor: neighbours in each.
pub(super) struct LeftRows<'a> {
    /// The block's first element.
    pub(super) data: Source,
    /// Distance of rows (or columns).
    pub(super) stride: usize,
    /// Which of them, if not the first ones.
    pub(super) indices: Option<&'a [u32]>,
}

impl LeftRows<'_> {
    /// Row (or column) `r`.
    #[inline(always)]
    fn row(&self, r: usize) -> Source {
        let index = self.indices.map_or(r, |indices| indices[r] as usize);
        self.data.at(index * self.stride)
    }

    /// Fetches `len` elements of row (or column) `r`.
    #[inline(always)]
    fn fetch(&self, r: usize, len: usize) {
        self.row(r).fetch(len);
    }
}

/// `rows` rows of the left factor's inner block as `[rows][lanes]`.
///
/// # Safety
/// The instruction set of `K`; `from` has the rows, `to` has room for them.
#[inline(always)]
pub(super) unsafe fn pack_rows<K: Kernel>(
    (from, act): (LeftRows<'_>, Activation),
    rows: usize,
    inner: Inner,
    to: *mut f32,
) {
    // Whole steps, so that a row is activated in the first-level cache.
    const STEP: usize = 512;
    let mut active = [0.0_f32; STEP];
    // SAFETY: the rows have the inner block's elements.
    unsafe {
        for r in 0..rows {
            if r + ROWS_AHEAD < rows {
                from.fetch(r + ROWS_AHEAD, inner.len);
            }
            let row = from.row(r);
            let to = to.add(r * inner.lanes);
            for first in (0..inner.lanes * K::DEPTH).step_by(STEP) {
                let count = STEP.min(inner.len.saturating_sub(first));
                let lanes = STEP.min(inner.lanes * K::DEPTH - first) / K::DEPTH;
                let to = to.add(first / K::DEPTH);
                match (row.at(first), act) {
                    (Source::F32(from), Activation::Identity) => {
                        pack_row::<K, _>(from, count, lanes, to);
                    }
                    (Source::Bf16(from), Activation::Identity) => {
                        pack_row::<K, _>(from, count, lanes, to);
                    }
                    (from, act) => {
                        from.activate::<IsaOf<K>>(act, &mut active[..count]);
                        pack_row::<K, _>(active.as_ptr(), count, lanes, to);
                    }
                }
            }
        }
    }
}

/// `count` neighbours as `lanes` lanes, zeros behind them.
#[inline(always)]
unsafe fn pack_row<K: Kernel, S: Element>(
    from: *const S,
    count: usize,
    lanes: usize,
    to: *mut f32,
) {
    for p in (0..lanes).step_by(K::Register::LANES) {
        let left = count.saturating_sub(p * K::DEPTH);
        // SAFETY: the caller's contract: there are `count` elements, and room for the lanes.
        unsafe {
            let register = along_some::<K, S>(from.wrapping_add(p * K::DEPTH), left);
            store_some(register, lanes - p, to.add(p));
        }
    }
}

/// The same of a left factor of which the elements of a column are neighbours; `active` has room for
/// [`ACTIVE`] elements if there is an activation.
///
/// # Safety
/// As [`pack_rows`].
#[inline(always)]
pub(super) unsafe fn pack_turned_rows<K: Kernel>(
    (from, act): (LeftRows<'_>, Activation),
    rows: usize,
    inner: Inner,
    (active, to): (&mut [f32], *mut f32),
) {
    let step = K::Register::LANES * K::DEPTH;
    // SAFETY: the columns have `rows` elements, the zeros as many.
    unsafe {
        for first in (0..inner.lanes * K::DEPTH).step_by(step) {
            let count = step.min(inner.len.saturating_sub(first));
            for next in (first + step..inner.len).take(step) {
                from.fetch(next, rows);
            }
            let (lanes, to) = ([first / K::DEPTH, inner.lanes], (rows, to));
            if let (Source::Bf16(_), Activation::Identity) = (from.data, act) {
                let mut columns = [ZEROS.as_ptr().cast::<Bf16>(); WIDEST];
                for (q, column) in columns.iter_mut().enumerate().take(count) {
                    if let Source::Bf16(data) = from.row(first + q) {
                        *column = data;
                    }
                }
                pack_turned::<K, _>(columns, lanes, to);
                continue;
            }
            let mut columns = [ZEROS.as_ptr(); WIDEST];
            // A plain loop: closures are compiled without the instruction set.
            for (q, column) in columns.iter_mut().enumerate().take(count) {
                *column = match (from.row(first + q), act) {
                    (Source::F32(data), Activation::Identity) => data,
                    (source, act) => {
                        let own = &mut active[q * ROWS..][..rows];
                        source.activate::<IsaOf<K>>(act, own);
                        own.as_ptr()
                    }
                };
            }
            pack_turned::<K, _>(columns, lanes, to);
        }
    }
}

/// The columns of a register of lanes, to lane `p` of `lanes` of each row.
#[inline(always)]
unsafe fn pack_turned<K: Kernel, S: Element>(
    columns: [*const S; WIDEST],
    [p, lanes]: [usize; 2],
    (rows, to): (usize, *mut f32),
) {
    let registers = K::Register::LANES;
    // SAFETY: the columns have `rows` elements, the zeros as many; `to` has room for the rows.
    unsafe {
        for i in (0..rows).step_by(registers) {
            let mut block = [K::Register::zero(); MOST_LANES];
            for (q, register) in block.iter_mut().enumerate().take(registers) {
                let lane = [columns[q * K::DEPTH], columns[q * K::DEPTH + K::DEPTH - 1]];
                *register = down_some::<K, S>(lane.map(|c| c.add(i)), registers.min(rows - i));
            }
            K::Register::transpose(&mut block[..registers]);
            for (r, register) in block.iter().enumerate().take(registers.min(rows - i)) {
                store_some(*register, lanes - p, to.add((i + r) * lanes + p));
            }
        }
    }
}

/// Lanes of the first `count` columns of two rows, zeros behind them.
#[inline(always)]
unsafe fn down_some<K: Kernel, S: Element>(rows: [*const S; 2], count: usize) -> K::Register {
    // SAFETY: the rows have `count` elements, the buffers a register's.
    unsafe {
        if count == K::Register::LANES {
            return S::down::<K>(rows);
        }
        let mut buffers = [[0.0_f32; MOST_LANES]; 2];
        let buffers = buffers.each_mut().map(|buffer| buffer.as_mut_ptr().cast::<S>());
        for (row, buffer) in rows.iter().zip(buffers).take(K::DEPTH) {
            std::ptr::copy_nonoverlapping(*row, buffer, count);
        }
        S::down::<K>(buffers.map(<*mut S>::cast_const))
    }
}

/// Lanes of the first `count` neighbours or of a whole register of them, zeros behind them.
#[inline(always)]
unsafe fn along_some<K: Kernel, S: Element>(from: *const S, count: usize) -> K::Register {
    // SAFETY: `from` has `count` elements, the buffer a register's.
    unsafe {
        if count >= K::Register::LANES * K::DEPTH {
            return S::along::<K>(from);
        }
        let mut buffer = [0.0_f32; WIDEST];
        let buffer = buffer.as_mut_ptr().cast::<S>();
        std::ptr::copy_nonoverlapping(from, buffer, count);
        S::along::<K>(buffer)
    }
}

/// Stores the first `count` lanes, or all of them.
#[inline(always)]
unsafe fn store_some<V: Register>(register: V, count: usize, to: *mut f32) {
    // SAFETY: `to` has `count` elements, the buffer a register's.
    unsafe {
        if count >= V::LANES {
            return register.store(to);
        }
        let mut buffer = [0.0_f32; MOST_LANES];
        register.store(buffer.as_mut_ptr());
        std::ptr::copy_nonoverlapping(buffer.as_ptr(), to, count);
    }
}
