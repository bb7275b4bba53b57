//! How much was multiplied, so that a formula of the cost can be held against what ran.

use std::sync::atomic::{AtomicU64, Ordering};

static MACS: AtomicU64 = AtomicU64::new(0);

/// Multiply-accumulates that this process has been asked for so far: those of all matrix
/// products (`m·k·n` each, padding not counted) and of the gated sums of experts' outputs. What
/// is linear in a single activation (biases, norms, softmax, the gates' own gradient) is not in it.
pub fn macs() -> u64 {
    MACS.load(Ordering::Relaxed)
}

/// Counts a kernel's multiply-accumulates. The sum alone matters, so no order is asked for.
pub(crate) fn add_macs(macs: usize) {
    MACS.fetch_add(macs as u64, Ordering::Relaxed);
}
