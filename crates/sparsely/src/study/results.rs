//! What came out of a study, as a value.

use super::statistics::{Interval, Unit, detectable, interval, mean};
use super::{Arm, Comparison, Folder, Plan, Predicted, Reading, SeedCosts, Trial, Verdict};
use crate::eval::ImageCost;
use crate::moe::{Capacity, Group, Priority};
use crate::rng::{Purpose, counter_of, stream};
use crate::{Error, Result};
use serde::Serialize;

/// Percentage points of a share.
const POINTS: f64 = 100.0;

/// All that came out.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    /// In the study's order.
    pub arms: Vec<ArmResult>,
    /// In the study's order.
    pub comparisons: Vec<ComparisonResult>,
    /// Learning rates that were tried.
    pub trials: Vec<Trial>,
}

/// An arm over all seeds.
#[derive(Clone, Debug, Serialize)]
pub struct ArmResult {
    /// Its name.
    pub arm: String,
    /// Its model's name.
    pub model: String,
    /// How it routed; `None` for a dense model.
    pub routing: Option<ArmRouting>,
    /// Mean top-1 accuracy, in percent.
    pub top1_percent: f64,
    /// Its interval over seeds; `None` for one seed.
    pub top1_over_seeds: Option<Interval>,
    /// Share of the choices that found no seat, mean over seeds.
    pub dropped_share: f64,
    /// FLOPs of an image, mean over seeds.
    pub flops_per_image: f64,
    /// Milliseconds of an image, median over rounds and then over seeds.
    pub milliseconds: f64,
    /// First and third quartile over rounds, median over seeds.
    pub milliseconds_quartiles: [f64; 2],
    /// Millijoules of an image, median over seeds.
    pub millijoules: f64,
    /// One for each seed.
    pub seeds: Vec<SeedResult>,
}

/// An arm's routing, resolved.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArmRouting {
    /// K.
    pub num_selected: usize,
    /// Seats of each expert.
    pub capacity: Capacity,
    /// Who sits first.
    pub priority: Priority,
    /// Which tokens compete.
    pub group: Group,
}

/// An arm for one seed.
#[derive(Clone, Debug, Serialize)]
pub struct SeedResult {
    /// The seed.
    pub seed: u64,
    /// Version and commit of the program that evaluated it.
    pub program: String,
    /// Test images.
    pub n: usize,
    /// Top-1 accuracy, in percent.
    pub top1_percent: f64,
    /// Mean task loss.
    pub loss: f64,
    /// Share of the choices that found no seat.
    pub dropped_share: f64,
    /// The learning rate of its model.
    pub lr_peak: f64,
    /// Steps that its model had learned for.
    pub step: u64,
    /// FLOPs of an image.
    pub flops_per_image: f64,
    /// Time and energy of an image.
    pub cost: ImageCost,
    /// Where the joules come from.
    pub energy_source: String,
    /// Threads that computed when time and energy were measured.
    pub threads: usize,
}

/// What is drawn for the interval that decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DecidingUnit {
    /// Arms of different models: a claim about training.
    Seeds,
    /// Arms of the same models: a claim about these models.
    Images,
}

impl DecidingUnit {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            DecidingUnit::Seeds => "seeds",
            DecidingUnit::Images => "images",
        }
    }
}

/// A comparison and what it says. Differences are arm minus baseline, in percentage points of top-1.
#[derive(Clone, Debug, Serialize)]
pub struct ComparisonResult {
    /// What was compared.
    pub name: String,
    /// The arm.
    pub arm: String,
    /// The arm that is subtracted.
    pub baseline: String,
    /// What was expected.
    pub predicted: Predicted,
    /// Mean over seeds and images.
    pub difference: f64,
    /// One for each seed.
    pub by_seed: Vec<f64>,
    /// For training runs that were not made, on these test images; `None` for one seed.
    pub over_seeds: Option<Interval>,
    /// For images that were not seen, of these models.
    pub over_images: Option<Interval>,
    /// Images that are drawn together, because they compete for the same seats in one of the arms.
    pub images_per_unit: usize,
    /// Which interval decides.
    pub unit: DecidingUnit,
    /// The smallest difference that the deciding units would have shown; `None` for one seed.
    pub detectable: Option<f64>,
    /// What follows.
    pub verdict: Verdict,
}

impl ComparisonResult {
    /// The interval of the deciding unit.
    pub fn deciding(&self) -> Option<Interval> {
        match self.unit {
            DecidingUnit::Seeds => self.over_seeds,
            DecidingUnit::Images => self.over_images,
        }
    }
}

impl Results {
    /// The arm of that name.
    pub fn arm(&self, name: &str) -> Option<&ArmResult> {
        self.arms.iter().find(|arm| arm.arm == name)
    }

    /// Where the joules come from.
    pub fn energy_source(&self) -> String {
        let sources = self.arms.iter().flat_map(|arm| &arm.seeds).map(|seed| &*seed.energy_source);
        sources
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
            .join(" and ")
    }

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
            routing: routing(plan, arm),
            top1_percent: mean(&units),
            top1_over_seeds: interval(&units, &mut draws(&arm.name, DecidingUnit::Seeds)),
            dropped_share: average(over(|s| s.dropped_share)),
            flops_per_image: average(over(|s| s.flops_per_image)),
            milliseconds: median(over(|s| 1e3 * s.cost.seconds)),
            milliseconds_quartiles: [
                median(over(|s| 1e3 * s.cost.seconds_quartiles[0])),
                median(over(|s| 1e3 * s.cost.seconds_quartiles[1])),
            ],
            millijoules: median(over(|s| 1e3 * s.cost.joules)),
            seeds,
        })
    }

    fn comparison(&self, plan: &Plan, comparison: &Comparison) -> Result<ComparisonResult> {
        let Comparison { name, arm, baseline, predicted } = comparison;
        let [one, other] = [arm, baseline].map(|name| plan.study.arm(name).expect("checked"));
        // [seeds][images]
        let differences: Vec<Vec<f64>> = self
            .of(arm)
            .zip(self.of(baseline))
            .map(|(arm, baseline)| {
                let pairs = arm.scores().zip(baseline.scores());
                pairs.map(|(a, b)| POINTS * (a - b)).collect()
            })
            .collect();
        let average = |values: &Vec<f64>| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let by_seed: Vec<f64> = differences.iter().map(average).collect();
        let seeds: Vec<_> = by_seed.iter().copied().map(Unit::single).collect();
        let images_per_unit = images_together(plan, [one, other])?;
        let images = image_units(&differences, images_per_unit);
        let unit =
            if one.model == other.model { DecidingUnit::Images } else { DecidingUnit::Seeds };
        let over_seeds = interval(&seeds, &mut draws(name, DecidingUnit::Seeds));
        let over_images = interval(&images, &mut draws(name, DecidingUnit::Images));
        let (deciding, units) = match unit {
            DecidingUnit::Seeds => (over_seeds, &seeds),
            DecidingUnit::Images => (over_images, &images),
        };
        Ok(ComparisonResult {
            name: name.clone(),
            arm: arm.clone(),
            baseline: baseline.clone(),
            predicted: *predicted,
            difference: mean(&seeds),
            by_seed,
            over_seeds,
            over_images,
            images_per_unit,
            unit,
            detectable: detectable(units),
            verdict: Verdict::of(*predicted, deciding),
        })
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
            cost,
            energy_source: costs.energy_source.clone(),
            threads: costs.threads,
        }
    }
}

/// The random numbers of an interval: the same for every program that reads the same results.
fn draws(name: &str, unit: DecidingUnit) -> crate::rng::Rng {
    stream(0, Purpose::Bootstrap, counter_of(name) ^ unit as u64)
}

/// The arm's routing, its own or its model's; `None` for a dense model.
fn routing(plan: &Plan, arm: &Arm) -> Option<ArmRouting> {
    let moe = plan.study.model(&arm.model)?.model.moe.as_ref()?;
    Some(ArmRouting {
        num_selected: arm.dial.num_selected.unwrap_or(moe.router.num_selected),
        capacity: arm.dial.capacity.unwrap_or(moe.router.capacity),
        priority: arm.dial.priority.unwrap_or(moe.router.priority),
        group: arm.dial.group.unwrap_or(moe.group),
    })
}

/// How many consecutive images depend on one another in at least one of the arms.
fn images_together(plan: &Plan, arms: [&Arm; 2]) -> Result<usize> {
    let mut together = 1;
    for arm in arms {
        let config = crate::eval::EvalConfig { dial: arm.dial, ..plan.study.eval_config() };
        let model = plan.study.model(&arm.model).expect("checked");
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
