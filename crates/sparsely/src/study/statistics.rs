//! Intervals and detectable differences.
//!
//! # What is resampled
//!
//! A claim about *training* (one recipe against another) is about runs that were not made, so the
//! unit is the run: one difference for each seed. A claim about *trained models* (one dial against
//! another) is about images that were not seen, so the unit is the image, or the group of images
//! that compete for the same seats, with the differences of all seeds averaged for each image
//! first: the models are given.
//!
//! # Few units
//!
//! The percentile bootstrap (Efron 1979) of the mean of n values is too narrow for small n: it
//! leaves out the factor √(n/(n−1)) and uses the normal instead of Student's quantile (Hesterberg
//! 2015, arXiv 1411.5279). He corrects the level, which for fewer than about ten units would lie
//! beyond all resamples; here the distances from the mean are stretched by the same factor instead,
//! t(n−1)/z · √(n/(n−1)). With three units that is 2.69 times the range of the data around their
//! mean.

use crate::rng::Rng;
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

/// Confidence of intervals.
pub const CONFIDENCE: f64 = 0.95;
/// Chance to see a difference of the detectable size.
pub const POWER: f64 = 0.8;
/// Resamples of an interval.
pub const RESAMPLES: usize = 10_000;

/// A range of values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

impl Interval {
    /// The smallest interval that holds both.
    pub fn hull(self, other: Interval) -> Interval {
        Interval { low: self.low.min(other.low), high: self.high.max(other.high) }
    }

    /// Its length.
    pub fn width(self) -> f64 {
        self.high - self.low
    }
}

/// What is drawn as one: a seed, an image, or a group of images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unit {
    /// Sum of the values in it.
    pub sum: f64,
    /// How many values it has.
    pub count: f64,
}

impl Unit {
    /// One value that stands for itself.
    pub fn single(value: f64) -> Unit {
        Unit { sum: value, count: 1.0 }
    }
}

/// Σ sums / Σ counts; 0 of nothing.
pub fn mean(units: &[Unit]) -> f64 {
    let total = units.iter().fold([0.0, 0.0], |[s, c], unit| [s + unit.sum, c + unit.count]);
    if total[1] == 0.0 { 0.0 } else { total[0] / total[1] }
}

/// Whether units differ at all: of units that are alike, resampling would make an interval
/// without width, as if everything were known.
fn can_tell(units: &[Unit]) -> bool {
    let differs = |one: &Unit, other: &Unit| one.sum * other.count != other.sum * one.count;
    units.len() >= 2 && units.iter().any(|unit| differs(unit, &units[0]))
}

/// The bootstrap interval of the mean; `None` for fewer than two units, or units that are alike.
pub fn interval(units: &[Unit], rng: &mut Rng) -> Option<Interval> {
    if !can_tell(units) {
        return None;
    }
    let center = mean(units);
    let mut means: Vec<f64> = (0..RESAMPLES).map(|_| resampled_mean(units, rng)).collect();
    means.sort_by(f64::total_cmp);
    let tail = (1.0 - CONFIDENCE) / 2.0;
    let outside = (tail * RESAMPLES as f64) as usize;
    let stretch = stretch(units.len());
    Some(Interval {
        low: center - stretch * (center - means[outside]),
        high: center + stretch * (means[RESAMPLES - 1 - outside] - center),
    })
}

fn resampled_mean(units: &[Unit], rng: &mut Rng) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for _ in 0..units.len() {
        let unit = units[rng.random_range(0..units.len())];
        sum += unit.sum;
        count += unit.count;
    }
    sum / count
}

/// By how much the percentile bootstrap of `n` units is too narrow.
fn stretch(n: usize) -> f64 {
    let upper = 1.0 - (1.0 - CONFIDENCE) / 2.0;
    let n = n as f64;
    student(upper, n - 1.0) / Normal::standard().inverse_cdf(upper) * (n / (n - 1.0)).sqrt()
}

/// Standard error of the mean of units of unequal size: of the ratio Σ sums / Σ counts, linearised
/// (Cochran 1977, chapter 6); s/√n for units of one value.
pub fn standard_error(units: &[Unit]) -> f64 {
    let (n, center) = (units.len() as f64, mean(units));
    let counts: f64 = units.iter().map(|unit| unit.count).sum();
    let squares: f64 = units.iter().map(|unit| (unit.sum - unit.count * center).powi(2)).sum();
    (n / (n - 1.0) * squares).sqrt() / counts
}

/// The smallest true difference that a two-sided test at 5 % would have seen with a chance of 80 %:
/// (t(0.975) + t(0.8)) · standard error, n−1 degrees of freedom (Bloom 1995). `None` for fewer than
/// two units, or units that are alike.
pub fn detectable(units: &[Unit]) -> Option<f64> {
    if !can_tell(units) {
        return None;
    }
    let freedom = units.len() as f64 - 1.0;
    let factor = student(1.0 - (1.0 - CONFIDENCE) / 2.0, freedom) + student(POWER, freedom);
    Some(factor * standard_error(units))
}

fn student(probability: f64, freedom: f64) -> f64 {
    let distribution = StudentsT::new(0.0, 1.0, freedom).expect("at least one degree of freedom");
    distribution.inverse_cdf(probability)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};
    use rand_distr::{Distribution, StandardNormal};

    fn singles(values: &[f64]) -> Vec<Unit> {
        values.iter().copied().map(Unit::single).collect()
    }

    fn draw(counter: u64) -> Rng {
        stream(0, Purpose::Bootstrap, counter)
    }

    #[test]
    fn of_two_values_resampled_means_reach_both_and_are_stretched() {
        // A quarter of the resamples are 0, 0 and a quarter 2, 2: 1 ± 1. Stretched by
        // t(0.975; 1)/z = 12.706/1.960 times √2: 9.168.
        let found = interval(&singles(&[0.0, 2.0]), &mut draw(0)).unwrap();
        assert!((found.low - -8.168).abs() < 0.002, "{found:?}");
        assert!((found.high - 10.168).abs() < 0.002, "{found:?}");
    }

    #[test]
    fn of_many_values_the_interval_is_that_of_the_normal() {
        // 400 values ±1 in equal shares: standard error √(400/399)/20 = 0.05006, z = 1.96.
        let values: Vec<f64> = (0..400).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
        let found = interval(&singles(&values), &mut draw(1)).unwrap();
        for end in [-found.low, found.high] {
            assert!((end - 0.0984).abs() < 0.004, "{found:?}");
        }
    }

    #[test]
    fn the_same_draw_gives_the_same_interval_and_one_unit_none() {
        let units = singles(&[0.1, 0.5, 0.2]);
        assert_eq!(interval(&units, &mut draw(2)), interval(&units, &mut draw(2)));
        assert_eq!(interval(&units[..1], &mut draw(2)), None);
        assert_eq!(detectable(&units[..1]), None);
    }

    #[test]
    fn units_that_are_alike_tell_nothing() {
        // 360 images on which two arms agree leave about 3/360 = 0.8 points possible.
        for value in [0.0, 0.1] {
            let units = singles(&[value; 360]);
            assert_eq!(interval(&units, &mut draw(3)), None);
            assert_eq!(detectable(&units), None);
        }
    }

    /// The point of the stretch: without it three seeds would cover 75 %.
    #[test]
    fn intervals_of_few_normal_values_cover_the_truth_as_often_as_they_say() {
        for n in [2, 3, 5] {
            let mut rng = draw(10 + n);
            let trials = 300;
            let covered = (0..trials)
                .filter(|_| {
                    let values: Vec<f64> =
                        (0..n).map(|_| StandardNormal.sample(&mut rng)).collect();
                    let found = interval(&singles(&values), &mut rng).unwrap();
                    found.low <= 0.0 && 0.0 <= found.high
                })
                .count();
            let share = covered as f64 / f64::from(trials);
            assert!((0.91..=0.985).contains(&share), "{share} for {n}");
        }
    }

    #[test]
    fn detectable_differences_by_hand() {
        // 0 and 2: s/√n = √2/√2 = 1; t(0.975; 1) + t(0.8; 1) = 12.706 + 1.376.
        assert!((detectable(&singles(&[0.0, 2.0])).unwrap() - 14.083).abs() < 0.001);
        // 1, 2, 3: s/√n = 1/√3 = 0.5774; 4.3027 + 1.0607.
        assert!((detectable(&singles(&[1.0, 2.0, 3.0])).unwrap() - 3.0966).abs() < 0.001);
    }

    #[test]
    fn units_of_several_values_are_weighted_by_them() {
        // Two groups of two images and one of one: (2 + 0 + 1) / 5 = 0.6.
        let units = [(2.0, 2.0), (0.0, 2.0), (1.0, 1.0)].map(|(sum, count)| Unit { sum, count });
        assert!((mean(&units) - 0.6).abs() < 1e-12);
        // Residuals 0.8, -1.2, 0.4: squares 0.64 + 1.44 + 0.16 = 2.24; √(3/2 · 2.24)/5.
        assert!((standard_error(&units) - 3.36_f64.sqrt() / 5.0).abs() < 1e-12);
    }
}
