//! Results out of what lies on disk.

use super::results::{ArmResult, ArmRouting, ComparisonResult, DecidingUnit, Results, SeedResult};
use super::statistics::{Unit, detectable, interval, mean};
use super::{Arm, Comparison, Folder, Plan, Reading, SeedCosts, Verdict, Weights};
use crate::eval::ImageCost;
use crate::rng::{Purpose, Rng, counter_of, stream};
use crate::{Error, Result};

/// Percentage points of a share.
const POINTS: f64 = 100.0;
/// Which random numbers intervals over seeds draw.
const DRAW_SEEDS: u64 = 0;
/// Which those over images draw.
const DRAW_IMAGES: u64 = 1;

impl Results {
    /// Puts together what lies in the folder of a study that has been executed.
    ///
    /// # Errors
    /// If a part is missing or damaged.
    pub fn collect(plan: &Plan, folder: &Folder) -> Result<Results> {
        let found = Found::read(plan, folder)?;
        let arms = plan.study.arms.iter().map(|arm| found.arm(plan, arm));
        let comparisons = plan.study.comparisons.iter().map(|c| found.comparison(plan, c));
        let mut trials = Vec::new();
        for model in &plan.study.models {
            for config in plan.study.trial_configs(model) {
                trials.extend(folder.trial(&model.name, config.train.schedule.lr_peak)?);
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
struct Found {
    readings: Vec<Vec<Reading>>,
    costs: Vec<SeedCosts>,
}

impl Found {
    fn read(plan: &Plan, folder: &Folder) -> Result<Found> {
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
                let reading = folder.reading(&arm.name, *seed)?;
                let reading =
                    reading.ok_or_else(|| missing(format!("`{}` of seed {seed}", arm.name)))?;
                if reading.is_right.len() != plan.sizes.test {
                    let expected = format!("{} answers of `{}`", plan.sizes.test, arm.name);
                    let got = reading.is_right.len().to_string();
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
    fn of<'a>(&'a self, arm: &'a str) -> impl Iterator<Item = &'a Reading> {
        self.readings.iter().flatten().filter(move |reading| reading.arm == arm)
    }

    fn arm(&self, plan: &Plan, arm: &Arm) -> Result<ArmResult> {
        let seeds = self.of(&arm.name).zip(&self.costs).map(|(reading, costs)| {
            let cost = costs.of_image.get(&arm.name).copied().ok_or_else(|| Error::Argument {
                op: "study",
                expected: format!("the cost of arm `{}`", arm.name),
                got: format!("none for seed {}", costs.seed),
            })?;
            Ok(SeedResult::of(reading, costs, cost))
        });
        let seeds = seeds.collect::<Result<Vec<_>>>()?;
        let over = |value: fn(&SeedResult) -> f64| seeds.iter().map(value).collect::<Vec<_>>();
        let units: Vec<_> = over(|s| s.top1_percent).into_iter().map(Unit::single).collect();
        let average = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
        Ok(ArmResult {
            arm: arm.name.clone(),
            model: arm.model.clone(),
            routing: routing(plan, arm)?,
            top1_percent: mean(&units),
            top1_over_seeds: interval(&units, &mut draws(&arm.name, DRAW_SEEDS)),
            dropped_share: average(over(|s| s.dropped_share)),
            flops_per_image: average(over(|s| s.flops_per_image)),
            milliseconds: median(over(|s| 1e3 * s.cost.seconds)),
            milliseconds_quartiles: [
                median(over(|s| 1e3 * s.cost.seconds_quartiles[0])),
                median(over(|s| 1e3 * s.cost.seconds_quartiles[1])),
            ],
            millijoules: median(over(|s| 1e3 * s.cost.joules)),
            weights: Weights::mean(&seeds.iter().map(|seed| seed.weights).collect::<Vec<_>>()),
            seeds,
        })
    }

    /// Arm minus baseline in points, `[seeds][images]`.
    fn differences(&self, arm: &str, baseline: &str) -> Vec<Vec<f64>> {
        let pairs = self.of(arm).zip(self.of(baseline));
        pairs
            .map(|(arm, baseline)| {
                let scores = arm.scores().zip(baseline.scores());
                scores.map(|(arm, baseline)| POINTS * (arm - baseline)).collect()
            })
            .collect()
    }

    fn comparison(&self, plan: &Plan, comparison: &Comparison) -> Result<ComparisonResult> {
        let Comparison { name, arm, baseline, predicted } = comparison;
        let (one, other) = (plan.study.arm(arm)?, plan.study.arm(baseline)?);
        let differences = self.differences(arm, baseline);
        let average = |values: &Vec<f64>| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let by_seed: Vec<f64> = differences.iter().map(average).collect();
        let seeds: Vec<_> = by_seed.iter().copied().map(Unit::single).collect();
        let images_per_unit = images_together(plan, [one, other])?;
        let images = image_units(&differences, images_per_unit);
        let unit = match one.model == other.model {
            true => DecidingUnit::ImagesAndSeeds,
            false => DecidingUnit::Seeds,
        };
        let detectable = match unit {
            DecidingUnit::Seeds => detectable(&seeds),
            DecidingUnit::ImagesAndSeeds => {
                detectable(&seeds).zip(detectable(&images)).map(|(one, other)| one.max(other))
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
            over_images: interval(&images, &mut draws(name, DRAW_IMAGES)),
            images_per_unit,
            unit,
            detectable,
            verdict: Verdict::CannotTell,
        };
        found.verdict = Verdict::of(*predicted, found.deciding());
        Ok(found)
    }
}

impl SeedResult {
    fn of(reading: &Reading, costs: &SeedCosts, cost: ImageCost) -> SeedResult {
        SeedResult {
            seed: reading.seed,
            program: reading.program.clone(),
            n: reading.is_right.len(),
            top1_percent: POINTS * reading.top1(),
            loss: reading.loss,
            dropped_share: reading.dropped_share,
            lr_peak: reading.lr_peak,
            step: reading.step,
            flops_per_image: reading.flops_per_image,
            weights: reading.weights,
            layers: reading.layers.clone(),
            cost,
            energy_source: costs.energy_source.clone(),
            threads: costs.threads,
        }
    }
}

/// The random numbers of an interval: the same for every program that reads the same results.
fn draws(name: &str, units: u64) -> Rng {
    stream(0, Purpose::Bootstrap, counter_of(name) ^ units)
}

/// The arm's routing, its own or its model's; `None` for a dense model.
fn routing(plan: &Plan, arm: &Arm) -> Result<Option<ArmRouting>> {
    let moe = plan.study.model(&arm.model)?.model.moe.as_ref();
    Ok(moe.map(|moe| ArmRouting::of(moe, &arm.dial)))
}

/// How many consecutive images depend on one another in at least one of the arms.
fn images_together(plan: &Plan, arms: [&Arm; 2]) -> Result<usize> {
    let mut together = 1;
    for arm in arms {
        let config = crate::eval::EvalConfig { dial: arm.dial.clone(), ..plan.study.eval_config() };
        let model = plan.study.model(&arm.model)?;
        together = crate::eval::lcm(together, config.group_images(&model.model)?);
    }
    Ok(together)
}

/// Differences `[seeds][images]`, averaged over seeds, in units of consecutive images.
fn image_units(differences: &[Vec<f64>], images_per_unit: usize) -> Vec<Unit> {
    let seeds = differences.len() as f64;
    let images = differences.first().map_or(0, Vec::len);
    let averages: Vec<f64> = (0..images)
        .map(|image| differences.iter().map(|of_seed| of_seed[image]).sum::<f64>() / seeds)
        .collect();
    let chunks = averages.chunks(images_per_unit);
    chunks.map(|unit| Unit { sum: unit.iter().sum(), count: unit.len() as f64 }).collect()
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
        let units = image_units(&[vec![100.0, 0.0, -100.0], vec![0.0, 0.0, -100.0]], 2);
        assert_eq!(units, [Unit { sum: 50.0, count: 2.0 }, Unit { sum: -100.0, count: 1.0 }]);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(median(vec![4.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0]), 2.5);
    }
}
