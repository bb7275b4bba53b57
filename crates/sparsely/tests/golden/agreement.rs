//! How near two sets of numbers are, and all that disagrees told at once.

use std::collections::BTreeMap;

/// What is compared, and how near is near enough.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quantity {
    /// In reports.
    pub(crate) name: &'static str,
    /// Largest difference of a tensor that counts as agreement, as a share of the largest
    /// absolute value of the reference's tensor.
    pub(crate) tolerance: f64,
}

/// The comparisons of a test.
#[derive(Default)]
pub(crate) struct Agreement {
    failures: Vec<String>,
    /// By quantity: comparisons, largest difference, and where it is.
    worst: BTreeMap<&'static str, (usize, f64, String)>,
}

impl Agreement {
    /// Holds a tensor, or a number, against the reference's.
    pub(crate) fn check<A, B>(&mut self, what: Quantity, place: &str, ours: &[A], theirs: &[B])
    where
        A: Copy + Into<f64>,
        B: Copy + Into<f64>,
    {
        let name = what.name;
        if ours.len() != theirs.len() {
            self.fail(format!("{place}: {name} of {} instead of {}", ours.len(), theirs.len()));
            return;
        }
        let pairs = ours.iter().zip(theirs).map(|(a, b)| ((*a).into(), (*b).into()));
        let difference = relative_difference(pairs);
        let (count, worst, at) = self.worst.entry(name).or_insert((0, -1.0, String::new()));
        *count += 1;
        if difference > *worst || difference.is_nan() {
            (*worst, *at) = (difference, place.to_string());
        }
        // Written so that NaN disagrees.
        let agrees = difference <= what.tolerance;
        self.require(agrees, || {
            format!("{place}: {name} differ by {difference:.2e}, allowed {:.0e}", what.tolerance)
        });
    }

    /// Notes a failure unless `holds`.
    pub(crate) fn require(&mut self, holds: bool, failure: impl FnOnce() -> String) {
        if !holds {
            self.fail(failure());
        }
    }

    /// Notes a failure.
    pub(crate) fn fail(&mut self, failure: String) {
        self.failures.push(failure);
    }

    /// Prints the largest difference of each quantity.
    ///
    /// # Panics
    /// With all failures, if there are any.
    pub(crate) fn finish(self) {
        for (name, (count, worst, place)) in &self.worst {
            println!("{name}: {count} compared, largest difference {worst:.2e} ({place})");
        }
        let count = self.failures.len();
        assert!(count == 0, "{count} disagreements\n{}", self.failures.join("\n"));
    }
}

/// max |a − b| / max |b|; NaN if there is one among the numbers, 0 if all are equal.
fn relative_difference(pairs: impl Iterator<Item = (f64, f64)>) -> f64 {
    let (mut largest, mut scale) = (0.0_f64, 0.0_f64);
    for (a, b) in pairs {
        if a.is_nan() || b.is_nan() {
            return f64::NAN;
        }
        largest = largest.max((a - b).abs());
        scale = scale.max(b.abs());
    }
    if largest == 0.0 { 0.0 } else { largest / scale }
}
