//! Results out of what lies on disk.

use super::results::{ArmResult, ComparisonResult, DecidingUnit, Results, Score, SeedResult};
use super::statistics::{Unit, detectable, interval, mean};
use super::{Arm, Comparison, Folder, Plan, Reading, SeedCosts, Task, Verdict};
use crate::eval::ImageCost;
use crate::rng::{Purpose, Rng, counter_of, stream};
use crate::{Error, Result};

/// Which random numbers intervals over seeds draw.
pub(super) const DRAW_SEEDS: u64 = 0;
/// Which those over images or pieces of text draw.
const DRAW_UNITS: u64 = 1;

impl<T: Task> Results<T> {
    /// Puts together what lies in the folder of a study that has been executed.
    ///
    /// # Errors
    /// If a part is missing or damaged.
    pub fn collect(plan: &Plan<T>, folder: &Folder) -> Result<Results<T>> {
        let found = Found::read(plan, folder)?;
        let arms = plan.study.arms.iter().map(|arm| found.arm(plan, arm));
        let comparisons = plan.study.comparisons.iter().map(|c| found.comparison(plan, c));
        let mut trials = Vec::new();
        for model in &plan.study.models {
            for (lr_peak, _) in plan.study.trial_configs(model) {
                trials.extend(folder.trial(&model.name, lr_peak)?);
            }
        }
        Ok(Results {
            arms: arms.collect::<Result<_>>()?,
            comparisons: comparisons.collect::<Result<_>>()?,
            trials,
        })
    }
}

/// All readings and costs, seed by seed.
struct Found<T: Task> {
    readings: Vec<Vec<Reading<T>>>,
    costs: Vec<SeedCosts>,
}

impl<T: Task> Found<T> {
    fn read(plan: &Plan<T>, folder: &Folder) -> Result<Found<T>> {
        let missing = |what: String| {
            Error::format(
                folder.path(),
                "a study that has been run to its end",
                format!("no {what}"),
            )
        };
        let mut found = Found { readings: Vec::new(), costs: Vec::new() };
        for seed in &plan.study.seeds {
            let mut readings = Vec::new();
            for arm in &plan.study.arms {
                let reading: Option<Reading<T>> = folder.reading(&arm.name, *seed)?;
                let reading =
                    reading.ok_or_else(|| missing(format!("`{}` of seed {seed}", arm.name)))?;
                let tested = T::tested(&reading.scores);
                if tested != plan.sizes.test {
                    let what = T::WORDS.data;
                    let expected = format!("{} test {what} of `{}`", plan.sizes.test, arm.name);
                    let got = tested.to_string();
                    return Err(Error::format(folder.path(), expected, got));
                }
                readings.push(reading);
            }
            found.readings.push(readings);
            let costs = folder.costs(*seed)?;
            found.costs.push(costs.ok_or_else(|| missing(format!("costs of seed {seed}")))?);
        }
        Ok(found)
    }

    /// An arm's readings, one for each seed.
    fn of<'a>(&'a self, arm: &'a str) -> impl Iterator<Item = &'a Reading<T>> {
        self.readings.iter().flatten().filter(move |reading| reading.arm == arm)
    }

    fn arm(&self, plan: &Plan<T>, arm: &Arm<T>) -> Result<ArmResult<T>> {
        let seeds = self.of(&arm.name).zip(&self.costs).map(|(reading, costs)| {
            let cost = costs.costs.get(&arm.name).copied().ok_or_else(|| Error::Argument {
                op: "study",
                expected: format!("the cost of arm `{}`", arm.name),
                got: format!("none for seed {}", costs.seed),
            })?;
            Ok(SeedResult::of(reading, costs, cost))
        });
        let seeds = seeds.collect::<Result<Vec<_>>>()?;
        let over = |value: fn(&SeedResult<T>) -> f64| seeds.iter().map(value).collect::<Vec<_>>();
        let units: Vec<_> = over(|s| s.score.value).into_iter().map(Unit::single).collect();
        let over_seeds = interval(&units, &mut draws(&arm.name, DRAW_SEEDS));
        Ok(ArmResult {
            arm: arm.name.clone(),
            model: arm.model.clone(),
            routing: T::routing(&plan.study, arm)?,
            score: Score::of_seeds(mean(&units), over_seeds, &T::WORDS),
            found: T::mean(&seeds.iter().map(|seed| &seed.found).collect::<Vec<_>>()),
            milliseconds: median(over(|s| 1e3 * s.cost.seconds)),
            milliseconds_quartiles: [
                median(over(|s| 1e3 * s.cost.seconds_quartiles[0])),
                median(over(|s| 1e3 * s.cost.seconds_quartiles[1])),
            ],
            millijoules: median(over(|s| 1e3 * s.cost.joules)),
            seeds,
        })
    }

    /// Arm minus baseline, `[seeds][units]`.
    fn differences(&self, arm: &str, baseline: &str) -> Vec<Vec<Unit>> {
        let pairs = self.of(arm).zip(self.of(baseline));
        let difference =
            |(arm, baseline): (Unit, Unit)| Unit { sum: arm.sum - baseline.sum, ..arm };
        pairs
            .map(|(arm, baseline)| {
                arm.units().into_iter().zip(baseline.units()).map(difference).collect()
            })
            .collect()
    }

    fn comparison(&self, plan: &Plan<T>, comparison: &Comparison) -> Result<ComparisonResult> {
        let Comparison { name, arm, baseline, predicted } = comparison;
        let (one, other) = (plan.study.arm(arm)?, plan.study.arm(baseline)?);
        let differences = self.differences(arm, baseline);
        let by_seed: Vec<f64> = differences.iter().map(|of_seed| mean(of_seed)).collect();
        let seeds: Vec<_> = by_seed.iter().copied().map(Unit::single).collect();
        let drawn_together = T::units_together(&plan.study, [one, other])?;
        let units = averaged_units(&differences, drawn_together);
        let unit = match one.model == other.model {
            true => DecidingUnit::UnitsAndSeeds,
            false => DecidingUnit::Seeds,
        };
        let detectable = match unit {
            DecidingUnit::Seeds => detectable(&seeds),
            DecidingUnit::UnitsAndSeeds => {
                detectable(&seeds).zip(detectable(&units)).map(|(one, other)| one.max(other))
            }
        };
        let mut found = ComparisonResult {
            name: name.clone(),
            arm: arm.clone(),
            baseline: baseline.clone(),
            predicted: *predicted,
            difference: mean(&seeds),
            by_seed,
            over_seeds: interval(&seeds, &mut draws(name, DRAW_SEEDS)),
            over_units: interval(&units, &mut draws(name, DRAW_UNITS)),
            drawn_together,
            unit,
            detectable,
            verdict: Verdict::CannotTell,
            words: T::WORDS,
        };
        found.verdict = Verdict::of(*predicted, found.deciding());
        Ok(found)
    }
}

impl<T: Task> SeedResult<T> {
    fn of(reading: &Reading<T>, costs: &SeedCosts, cost: ImageCost) -> SeedResult<T> {
        SeedResult {
            seed: reading.seed,
            program: reading.program.clone(),
            n: T::tested(&reading.scores),
            score: Score::of_seed(reading.score(), &T::WORDS),
            loss: reading.loss,
            lr_peak: reading.lr_peak,
            step: reading.step,
            found: reading.found.clone(),
            cost,
            energy_source: costs.energy_source.clone(),
            threads: costs.threads,
        }
    }
}

/// The random numbers of an interval: the same for every program that reads the same results.
pub(super) fn draws(name: &str, units: u64) -> Rng {
    stream(0, Purpose::Bootstrap, counter_of(name) ^ units)
}

/// Differences `[seeds][units]`, averaged over seeds, in units of consecutive ones.
fn averaged_units(differences: &[Vec<Unit>], together: usize) -> Vec<Unit> {
    let seeds = differences.len() as f64;
    let first = differences.first().map_or(&[][..], |of_seed| of_seed);
    let averages: Vec<Unit> = (0..first.len())
        .map(|unit| Unit {
            sum: differences.iter().map(|of_seed| of_seed[unit].sum).sum::<f64>() / seeds,
            count: first[unit].count,
        })
        .collect();
    let sum = |units: &[Unit], of: fn(&Unit) -> f64| units.iter().map(of).sum();
    let chunks = averages.chunks(together);
    chunks
        .map(|units| Unit { sum: sum(units, |u| u.sum), count: sum(units, |u| u.count) })
        .collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_a_group_are_one_unit_after_averaging_over_seeds() {
        // Two seeds, three images, groups of two: averages 50, 0, -100.
        let seeds = [[100.0, 0.0, -100.0], [0.0, 0.0, -100.0]];
        let units = averaged_units(&seeds.map(|seed| seed.map(Unit::single).to_vec()), 2);
        assert_eq!(units, [Unit { sum: 50.0, count: 2.0 }, Unit { sum: -100.0, count: 1.0 }]);
    }

    #[test]
    fn pieces_of_text_are_averaged_over_seeds_and_weighted_by_their_bytes() {
        // Two seeds, pieces of 4 and 8 bytes: 2 and −4 bits more, then 0 and 8: on average 1 and 2.
        let of_seed = |bits: [f64; 2]| {
            vec![Unit { sum: bits[0], count: 4.0 }, Unit { sum: bits[1], count: 8.0 }]
        };
        let units = averaged_units(&[of_seed([2.0, -4.0]), of_seed([0.0, 8.0])], 1);
        assert_eq!(units, [Unit { sum: 1.0, count: 4.0 }, Unit { sum: 2.0, count: 8.0 }]);
        // 3 bits of 12 bytes.
        assert_eq!(mean(&units), 0.25);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(median(vec![4.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0]), 2.5);
    }
}
