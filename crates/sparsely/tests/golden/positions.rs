//! Learned positions at another resolution.

use sparsely::model::resize_positions;

use crate::agreement::{Agreement, Quantity};
use crate::units::sets;

// The reference interpolates in double precision and rounds once, as we do.
const POSITIONS: Quantity = Quantity { name: "resized positions", tolerance: 1e-6 };

/// Larger and smaller grids, with class token, without, and with one that is left out.
pub(crate) fn compare(agreement: &mut Agreement) {
    let sets = sets("vit_zoom");
    assert!(!sets.is_empty());
    for (name, arrays) in sets {
        let (source, target) = (&arrays["source"], &arrays["target"]);
        match resize_positions(&source.values, source.shape[2], target.shape[1]) {
            Some(ours) => agreement.check(POSITIONS, &name, &ours, &target.values),
            None => agreement.fail(format!("{name}: refused")),
        }
    }
}
