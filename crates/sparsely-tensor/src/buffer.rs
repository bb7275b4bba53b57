//! Pooled, typed memory.
//!
//! A fresh allocation costs a page fault for each 4 KiB that is written, which at the sizes
//! of a training step is more time than the arithmetic. So a dropped [`Buffer`] goes back to
//! its [`Pool`] and the next request of its size class takes it, stale contents included:
//! every kernel writes the whole of its output.

use crate::kernel::elementwise::widen_all;
use crate::precision::Bf16;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// One cache line; the unit of allocation, so that every buffer is aligned for the widest loads.
#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
pub(crate) struct Line([u8; 64]);

impl Line {
    /// f32 elements of a line.
    pub(crate) const FLOATS: usize = 16;
}

/// The type of a buffer's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DType {
    /// IEEE 754 single precision.
    F32,
    /// The upper half of an `F32`: how factors of bf16 products are stored.
    Bf16,
}

impl DType {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            DType::F32 => 4,
            DType::Bf16 => 2,
        }
    }
}

/// Memory that is kept for the next step instead of being returned to the system.
#[derive(Clone, Default)]
pub struct Pool {
    free: Arc<Mutex<HashMap<usize, Vec<Vec<Line>>>>>,
    used: Arc<Usage>,
}

/// Bytes of the elements of buffers, without what sizes are rounded up by.
#[derive(Default)]
struct Usage {
    now: AtomicUsize,
    peak: AtomicUsize,
}

impl Pool {
    /// An empty pool.
    pub fn new() -> Pool {
        Pool::default()
    }

    /// A buffer of `len` elements whose contents are unspecified (but initialised).
    ///
    /// In debug builds it is filled with NaN bytes, so that a kernel which reads what it has
    /// not written is found by any test.
    pub fn take(&self, dtype: DType, len: usize) -> Buffer {
        self.take_with_room(dtype, len, len)
    }

    /// The same with room for `room` elements.
    fn take_with_room(&self, dtype: DType, len: usize, room: usize) -> Buffer {
        let class = size_class((room * dtype.bytes()).div_ceil(64));
        let recycled = self.lock().get_mut(&class).and_then(Vec::pop);
        let mut lines = recycled.unwrap_or_else(|| fresh(class));
        if cfg!(debug_assertions) {
            bytemuck::cast_slice_mut::<Line, u8>(&mut lines).fill(0xff);
        }
        self.count(len * dtype.bytes());
        Buffer { lines, dtype, len, pool: self.clone() }
    }

    /// Counts bytes that came into use.
    fn count(&self, bytes: usize) {
        let now = self.used.now.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.used.peak.fetch_max(now, Ordering::Relaxed);
    }

    /// Bytes of the elements of all buffers in use.
    pub fn used_bytes(&self) -> usize {
        self.used.now.load(Ordering::Relaxed)
    }

    /// The most that [`Pool::used_bytes`] has been.
    pub fn peak_bytes(&self) -> usize {
        self.used.peak.load(Ordering::Relaxed)
    }

    /// A buffer of `len` f32 zeros.
    pub fn zeros(&self, len: usize) -> Buffer {
        let mut buffer = self.take(DType::F32, len);
        buffer.as_f32_mut().fill(0.0);
        buffer
    }

    /// A buffer that holds a copy of `values`.
    pub fn copy_of(&self, values: &[f32]) -> Buffer {
        let mut buffer = self.take(DType::F32, values.len());
        buffer.as_f32_mut().copy_from_slice(values);
        buffer
    }

    /// A buffer of the values in f32.
    pub(crate) fn widened(&self, values: &[Bf16]) -> Buffer {
        let mut wide = self.take(DType::F32, values.len());
        widen_all(values, wide.as_f32_mut());
        wide
    }

    /// Makes `buffer` one of f32.
    pub(crate) fn widen(&self, buffer: &mut Buffer) {
        if buffer.dtype != DType::F32 {
            *buffer = self.widened(buffer.as_bf16());
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<usize, Vec<Vec<Line>>>> {
        // A panic elsewhere cannot leave the map half changed: every critical section is one call.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Zeroed lines, on huge pages where they fill some: activations are walked once and far
/// apart, so with small pages nearly every row is a miss of the translation cache.
fn fresh(count: usize) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::with_capacity(count);
    #[cfg(target_os = "linux")]
    advise_huge_pages(lines.spare_capacity_mut());
    lines.resize(count, bytemuck::Zeroable::zeroed());
    lines
}

/// Asks for huge pages where memory fills some; it should not have been written yet.
#[cfg(target_os = "linux")]
pub(crate) fn advise_huge_pages<T>(memory: &[T]) {
    const HUGE: usize = 2 << 20;
    let start = (memory.as_ptr() as usize).next_multiple_of(HUGE);
    let end = memory.as_ptr_range().end as usize / HUGE * HUGE;
    if start < end {
        // SAFETY: the range lies within `memory`, and the advice does not change contents. A
        // kernel that does not take it answers with an error, which changes nothing either.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_HUGEPAGE) };
    }
}

/// Rounds up to a multiple of an eighth of the leading power of two, so that lengths which
/// vary from step to step (rows of an expert) share buffers at a cost of at most 1/8.
fn size_class(lines: usize) -> usize {
    let lines = lines.max(1);
    let step = (1 << lines.ilog2()) / 8;
    if step <= 1 { lines } else { lines.next_multiple_of(step) }
}

/// A typed array of a [`Pool`], aligned to a cache line.
pub struct Buffer {
    lines: Vec<Line>,
    dtype: DType,
    len: usize,
    pool: Pool,
}

impl Buffer {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends f32 elements, where they are or, with twice the room, elsewhere.
    pub(crate) fn append(&mut self, new: &[f32]) {
        let (old, len) = (self.len, self.len + new.len());
        if 4 * len > size_of_val(&self.lines[..]) {
            let mut larger = self.pool.take_with_room(DType::F32, old, 2 * len);
            larger.as_f32_mut().copy_from_slice(self.as_f32());
            *self = larger;
        }
        self.resize(len);
        self.as_f32_mut()[old..].copy_from_slice(new);
    }

    /// Removes the first `count` f32 elements, or all.
    pub(crate) fn forget(&mut self, count: usize) {
        let count = count.min(self.len);
        self.as_f32_mut().copy_within(count.., 0);
        self.resize(self.len - count);
    }

    /// Takes `len` of the elements that there is room for as its own.
    fn resize(&mut self, len: usize) {
        let bytes = self.dtype.bytes();
        self.pool.used.now.fetch_sub(self.len * bytes, Ordering::Relaxed);
        self.pool.count(len * bytes);
        self.len = len;
    }

    /// Type of the elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The elements.
    ///
    /// # Panics
    /// If the buffer holds another type: a bug of the calling kernel.
    pub fn as_f32(&self) -> &[f32] {
        assert_eq!(self.dtype, DType::F32);
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }

    /// The elements, to be written.
    ///
    /// # Panics
    /// As [`Buffer::as_f32`].
    pub fn as_f32_mut(&mut self) -> &mut [f32] {
        assert_eq!(self.dtype, DType::F32);
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }

    /// The elements.
    ///
    /// # Panics
    /// If the buffer holds another type: a bug of the calling kernel.
    pub(crate) fn as_bf16(&self) -> &[Bf16] {
        assert_eq!(self.dtype, DType::Bf16);
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }

    /// The elements, to be written.
    ///
    /// # Panics
    /// As [`Buffer::as_bf16`].
    pub(crate) fn as_bf16_mut(&mut self) -> &mut [Bf16] {
        assert_eq!(self.dtype, DType::Bf16);
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        self.pool.used.now.fetch_sub(self.len * self.dtype.bytes(), Ordering::Relaxed);
        self.pool.lock().entry(lines.len()).or_default().push(lines);
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({:?} × {})", self.dtype, self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_is_taken_again() {
        let pool = Pool::new();
        let address = pool.take(DType::F32, 1000).as_f32().as_ptr();
        assert_eq!(pool.take(DType::F32, 1000).as_f32().as_ptr(), address);
    }

    #[test]
    fn a_pool_knows_what_is_used_and_was_used_at_most() {
        let pool = Pool::new();
        let floats = pool.take(DType::F32, 10);
        drop(pool.take(DType::Bf16, 10));
        assert_eq!((pool.used_bytes(), pool.peak_bytes()), (40, 60));
        drop(floats);
        assert_eq!((pool.used_bytes(), pool.peak_bytes()), (0, 60));
    }

    #[test]
    fn buffers_start_on_a_cache_line() {
        let pool = Pool::new();
        for len in [1, 3, 17, 1000] {
            assert_eq!(pool.take(DType::F32, len).as_f32().as_ptr() as usize % 64, 0);
        }
    }

    #[test]
    fn a_size_class_wastes_at_most_an_eighth() {
        for lines in 1..5000 {
            let class = size_class(lines);
            assert!(class >= lines && class <= lines + lines / 8 + 1, "{lines} → {class}");
        }
    }

    #[test]
    fn a_bf16_buffer_takes_half_the_lines() {
        let pool = Pool::new();
        assert_eq!(pool.take(DType::Bf16, 64).lines.len(), 2);
        assert_eq!(pool.take(DType::F32, 64).lines.len(), 4);
    }
}
