//! Small working memory that a thread keeps between tasks.

use crate::buffer::Line;
use std::cell::RefCell;

thread_local! {
    static FREE: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` with `len` elements of unspecified contents, aligned to a cache line. May be
/// nested, and may be entered again by a task that the thread picks up while it waits inside `f`.
pub(crate) fn with_scratch<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut memory = FREE.with_borrow_mut(Vec::pop).unwrap_or_default();
    let lines = len.div_ceil(Line::FLOATS);
    if memory.len() < lines {
        memory = bytemuck::allocation::zeroed_vec(lines);
    }
    let result = f(&mut bytemuck::cast_slice_mut(&mut memory)[..len]);
    FREE.with_borrow_mut(|free| free.push(memory));
    result
}
