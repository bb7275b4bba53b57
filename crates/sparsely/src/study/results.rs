//! What came out of a study, as a value.

use super::statistics::Interval;
use super::{Images, Predicted, Task, Trial, Verdict, Words};
use crate::eval::ImageCost;
use crate::moe::{Capacity, Dial, Group, MoeConfig, Priority, Subset};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use std::collections::BTreeSet;

/// All that came out.
#[derive(Clone, Debug, Serialize)]
#[serde(bound = "")]
pub struct Results<T: Task = Images> {
    /// In the study's order.
    pub arms: Vec<ArmResult<T>>,
    /// In the study's order.
    pub comparisons: Vec<ComparisonResult>,
    /// Learning rates that were tried.
    pub trials: Vec<Trial>,
}

/// An arm over all seeds.
#[derive(Clone, Debug, Serialize)]
#[serde(bound = "")]
pub struct ArmResult<T: Task = Images> {
    /// Its name.
    pub arm: String,
    /// Its model's name.
    pub model: String,
    /// How it routed; `None` for a model without a dial.
    pub routing: Option<ArmRouting>,
    /// Mean over seeds.
    #[serde(flatten)]
    pub score: Score,
    /// Means over seeds.
    #[serde(flatten)]
    pub found: T::Found,
    /// Milliseconds of an image or a step, median over rounds and then over seeds.
    pub milliseconds: f64,
    /// First and third quartile over rounds, median over seeds.
    pub milliseconds_quartiles: [f64; 2],
    /// Millijoules of an image or a step, median over seeds.
    pub millijoules: f64,
    /// One for each seed.
    pub seeds: Vec<SeedResult<T>>,
}

/// A score under the task's name for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// By which arms are compared.
    pub value: f64,
    /// Over seeds; `None` for one seed.
    pub over_seeds: Option<Interval>,
    keys: [&'static str; 2],
    is_mean: bool,
}

impl Score {
    /// Of one seed.
    pub(super) fn of_seed(value: f64, words: &Words) -> Score {
        Score { value, over_seeds: None, keys: words.keys, is_mean: false }
    }

    /// Of all seeds.
    pub(super) fn of_seeds(value: f64, over_seeds: Option<Interval>, words: &Words) -> Score {
        Score { value, over_seeds, keys: words.keys, is_mean: true }
    }
}

impl Serialize for Score {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(self.keys[0], &self.value)?;
        if self.is_mean {
            map.serialize_entry(self.keys[1], &self.over_seeds)?;
        }
        map.end()
    }
}

/// How a model routes under a dial, resolved.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArmRouting {
    /// K, where each token takes as many.
    pub num_selected: Option<usize>,
    /// Seats of each expert, where the router has them.
    pub capacity: Option<Capacity>,
    /// Who sits first, where tokens queue for seats.
    pub priority: Option<Priority>,
    /// Which tokens compete.
    pub group: Group,
    /// The experts that take part; all if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experts: Option<Subset>,
    /// Blocks whose MoE layer is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip_moe: Option<Subset>,
}

impl ArmRouting {
    /// What the dial asks for, or else what the model was trained with.
    pub fn of(moe: &MoeConfig, dial: &Dial) -> ArmRouting {
        ArmRouting {
            num_selected: dial.num_selected.or(moe.router.num_selected()),
            capacity: moe.router.capacity_under(dial),
            priority: dial.priority.or(moe.router.priority()),
            group: dial.group.unwrap_or(moe.group),
            experts: dial.experts.clone(),
            skip_moe: dial.skip_moe.clone(),
        }
    }
}

/// An arm for one seed.
#[derive(Clone, Debug, Serialize)]
#[serde(bound = "")]
pub struct SeedResult<T: Task = Images> {
    /// The seed.
    pub seed: u64,
    /// Version and commit of the program that evaluated it.
    pub program: String,
    /// Test images, or predicted tokens.
    pub n: usize,
    /// By which arms are compared.
    #[serde(flatten)]
    pub score: Score,
    /// Mean task loss.
    pub loss: f64,
    /// The learning rate of its model.
    pub lr_peak: f64,
    /// Steps that its model had learned for.
    pub step: u64,
    /// What is told besides.
    #[serde(flatten)]
    pub found: T::Found,
    /// Time and energy of an image or a step.
    pub cost: ImageCost,
    /// Where the joules come from.
    pub energy_source: String,
    /// Threads that computed when time and energy were measured.
    pub threads: usize,
}

/// What is drawn for the interval that decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecidingUnit {
    /// Arms of different models: a claim about training.
    Seeds,
    /// Arms of the same models: a claim about test data that were not seen, by models like these.
    UnitsAndSeeds,
}

impl DecidingUnit {
    /// For people.
    pub fn name(self, words: &Words) -> String {
        match self {
            DecidingUnit::Seeds => "seeds".into(),
            DecidingUnit::UnitsAndSeeds => format!("{} and seeds", words.units),
        }
    }
}

/// A comparison and what it says. Differences are arm minus baseline, in the task's unit
/// ([`Words::difference`]).
#[derive(Clone, Debug)]
pub struct ComparisonResult {
    /// What was compared.
    pub name: String,
    /// The arm.
    pub arm: String,
    /// The arm that is subtracted.
    pub baseline: String,
    /// What was expected.
    pub predicted: Predicted,
    /// Mean over seeds and test data.
    pub difference: f64,
    /// One for each seed.
    pub by_seed: Vec<f64>,
    /// For training runs that were not made, on these test data; `None` for one seed.
    pub over_seeds: Option<Interval>,
    /// For images, or pieces of text, that were not seen, of these models.
    pub over_units: Option<Interval>,
    /// Units that are drawn together, because they compete for the same seats in one of the arms.
    pub drawn_together: usize,
    /// Which interval decides.
    pub unit: DecidingUnit,
    /// The smallest difference that the deciding units would have shown; `None` for one seed.
    pub detectable: Option<f64>,
    /// What follows.
    pub verdict: Verdict,
    /// How people are told of it.
    pub words: Words,
}

impl Serialize for ComparisonResult {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let units = self.words.units;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("arm", &self.arm)?;
        map.serialize_entry("baseline", &self.baseline)?;
        map.serialize_entry("predicted", &self.predicted)?;
        map.serialize_entry("difference", &self.difference)?;
        map.serialize_entry("by_seed", &self.by_seed)?;
        map.serialize_entry("over_seeds", &self.over_seeds)?;
        map.serialize_entry(&format!("over_{units}"), &self.over_units)?;
        map.serialize_entry(&format!("{units}_per_unit"), &self.drawn_together)?;
        map.serialize_entry("unit", &self.unit.name(&self.words).replace(' ', "_"))?;
        map.serialize_entry("detectable", &self.detectable)?;
        map.serialize_entry("verdict", &self.verdict)?;
        map.end()
    }
}

impl ComparisonResult {
    /// The interval that decides; of units and seeds what holds both intervals.
    pub fn deciding(&self) -> Option<Interval> {
        match self.unit {
            DecidingUnit::Seeds => self.over_seeds,
            DecidingUnit::UnitsAndSeeds => Some(self.over_units?.hull(self.over_seeds?)),
        }
    }
}

impl<T: Task> Results<T> {
    /// The arm of that name.
    pub fn arm(&self, name: &str) -> Option<&ArmResult<T>> {
        self.arms.iter().find(|arm| arm.arm == name)
    }

    /// Where the joules come from.
    pub fn energy_source(&self) -> String {
        let sources = self.arms.iter().flat_map(|arm| &arm.seeds).map(|seed| &*seed.energy_source);
        let different: BTreeSet<_> = sources.collect();
        different.into_iter().collect::<Vec<_>>().join(" and ")
    }
}
