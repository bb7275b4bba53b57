//! Right factors that are packed once for many products.

use super::Right;
use crate::kernel::product;
use crate::kernel::scratch::with_scratch;
use crate::precision::Precision;
use rayon::prelude::*;

/// Elements of a right factor `[k, n]` when it is packed, if it has any.
pub(crate) fn packed_len(precision: Precision, [k, n]: [usize; 2]) -> Option<usize> {
    let len = (product::entries(precision).packed_len)(k, n);
    (len > 0).then_some(len)
}

/// Packs `right` into [`packed_len`] elements, on all threads.
///
/// # Panics
/// If neither of its axes is contiguous, or there is not that much room.
pub(crate) fn pack(right: &Right<'_>, panels: &mut [f32]) {
    (product::entries(right.precision()).pack)(right, panels);
}

/// Calls `f` with `right` packed, on all threads, once for all products of `f`.
pub(crate) fn with_packed<R>(right: &Right<'_>, f: impl FnOnce(&Right<'_>) -> R) -> R {
    let Some(len) = packed_len(right.precision(), right.extents()) else {
        return f(right);
    };
    with_scratch(len, |panels| {
        pack(right, panels);
        f(&right.with_panels(Some(panels)))
    })
}

/// The same of several; those of which `packs` says no stay as they are. The thread keeps room for all of them.
pub(crate) fn with_all_packed<R>(
    mut rights: Vec<Option<Right<'_>>>,
    packs: impl Fn(usize) -> bool,
    f: impl FnOnce(&[Option<Right<'_>>]) -> R,
) -> R {
    let len = |(group, right): (usize, &Option<Right<'_>>)| {
        let right = right.filter(|right| packs(group) && !right.is_packed());
        right.map_or(0, |right| packed_len(right.precision(), right.extents()).unwrap_or(0))
    };
    let lens: Vec<usize> = rights.iter().enumerate().map(len).collect();
    with_scratch(lens.iter().sum(), |mut panels| {
        let mut own = Vec::with_capacity(lens.len());
        for (right, len) in rights.iter_mut().zip(lens) {
            let (part, rest) = panels.split_at_mut(len);
            panels = rest;
            own.push((right, part));
        }
        let packed: Vec<Option<Right<'_>>> = own
            .into_par_iter()
            .map(|(right, panels)| {
                right.map(|right| {
                    if panels.is_empty() {
                        return right;
                    }
                    pack(&right, panels);
                    right.with_panels(Some(panels))
                })
            })
            .collect();
        f(&packed)
    })
}
