//! What follows from a sweep.

use super::{CHOOSING_SPLIT, Setting, Sweep};

/// Points below which accuracies are the same: far less than an image of any data set.
const SAME_POINTS: f64 = 1e-9;

impl Sweep {
    /// The run's own setting, from which losses count.
    ///
    /// # Panics
    /// Never for a sweep that was measured or loaded: it has settings.
    pub fn own(&self) -> &Setting {
        &self.settings[0]
    }

    /// Points of accuracy that a setting loses against the run's own; below 0 it gains.
    pub fn loss_points(&self, setting: &Setting) -> f64 {
        self.own().top1_percent - setting.top1_percent
    }

    /// Whether no other setting is at least as accurate and as quick, and better in one of them.
    pub fn is_on_front(&self, setting: &Setting) -> bool {
        !self.settings.iter().any(|other| {
            let (gain, saved) = (
                other.top1_percent - setting.top1_percent,
                setting.cost.seconds - other.cost.seconds,
            );
            gain >= 0.0 && saved >= 0.0 && (gain > 0.0 || saved > 0.0)
        })
    }

    /// The quickest setting that loses no more than [`Sweep::max_loss_points`]: at worst the run's
    /// own.
    pub fn cheapest(&self) -> &Setting {
        let limit = self.max_loss_points + SAME_POINTS;
        let good = self.settings.iter().filter(|setting| self.loss_points(setting) <= limit);
        good.min_by(|a, b| a.by_time(b)).unwrap_or_else(|| self.own())
    }

    /// The cheapest, where validation images were swept: nothing is chosen by others.
    pub fn choice(&self) -> Option<&Setting> {
        (self.split == CHOOSING_SPLIT).then(|| self.cheapest())
    }

    /// The most accurate setting of which an image takes at most so many seconds, of equal ones the
    /// quickest.
    ///
    /// # Errors
    /// The quickest of all, if that takes longer.
    pub fn within(&self, seconds: f64) -> Result<&Setting, &Setting> {
        let quick = self.settings.iter().filter(|setting| setting.cost.seconds <= seconds);
        quick
            .max_by(|a, b| a.top1_percent.total_cmp(&b.top1_percent).then(b.by_time(a)))
            .ok_or_else(|| {
                let quickest = self.settings.iter().min_by(|a, b| a.by_time(b));
                quickest.unwrap_or_else(|| self.own())
            })
    }
}

impl Setting {
    /// The quicker one first, of equal ones the more accurate.
    fn by_time(&self, other: &Setting) -> std::cmp::Ordering {
        let by_time = self.cost.seconds.total_cmp(&other.cost.seconds);
        by_time.then(other.top1_percent.total_cmp(&self.top1_percent))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::sweep;

    /// Own 98 % at 4 ms; a is worse and slower, b loses 0.5 points at 2 ms, c loses 1 at 1 ms, d is
    /// as good as own at 3 ms.
    const FIVE: [(&str, f64, f64); 5] = [
        ("own", 98.0, 4e-3),
        ("a", 97.0, 5e-3),
        ("b", 97.5, 2e-3),
        ("c", 97.0, 1e-3),
        ("d", 98.0, 3e-3),
    ];

    #[test]
    fn the_front_has_what_no_other_setting_beats() {
        let sweep = sweep(&FIVE);
        let front = sweep.settings.iter().filter(|setting| sweep.is_on_front(setting));
        assert_eq!(front.map(|setting| &*setting.name).collect::<Vec<_>>(), ["b", "c", "d"]);
    }

    #[test]
    fn equals_are_on_the_front_together() {
        let sweep = sweep(&[("own", 98.0, 1e-3), ("same", 98.0, 1e-3)]);
        assert!(sweep.settings.iter().all(|setting| sweep.is_on_front(setting)));
    }

    #[test]
    fn the_cheapest_loses_no_more_than_it_may() {
        let mut sweep = sweep(&FIVE);
        for (points, expected) in [(0.0, "d"), (0.4, "d"), (0.5, "b"), (0.99, "b"), (1.0, "c")] {
            sweep.max_loss_points = points;
            assert_eq!(sweep.cheapest().name, expected, "{points}");
        }
        sweep.settings.truncate(2);
        assert_eq!(sweep.cheapest().name, "own");
    }

    #[test]
    fn a_budget_buys_the_most_accurate_setting_that_fits() {
        let sweep = sweep(&FIVE);
        for (ms, expected) in [(9.0, "d"), (3.0, "d"), (2.9, "b"), (1.5, "c"), (1.0, "c")] {
            assert_eq!(sweep.within(ms * 1e-3).unwrap().name, expected, "{ms} ms");
        }
        assert_eq!(sweep.within(0.9e-3).unwrap_err().name, "c");
    }
}
