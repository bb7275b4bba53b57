//! What came out of a study, as a value.

use super::statistics::Interval;
use super::{Predicted, Trial, Verdict, Weights};
use crate::eval::{ImageCost, LayerLoad};
use crate::moe::{Capacity, Dial, Group, MoeConfig, Priority, Subset};
use serde::Serialize;
use std::collections::BTreeSet;

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
    /// What it has and an image meets, means over seeds; `None` in studies of before it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<Weights>,
    /// One for each seed.
    pub seeds: Vec<SeedResult>,
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
    /// What it has and an image meets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<Weights>,
    /// What the router of each MoE layer did.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerLoad>,
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
    /// Arms of the same models: a claim about images that were not seen, by models like these.
    ImagesAndSeeds,
}

impl DecidingUnit {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            DecidingUnit::Seeds => "seeds",
            DecidingUnit::ImagesAndSeeds => "images and seeds",
        }
    }
}

/// A comparison and what it says. Differences are arm minus baseline, in percentage points of
/// top-1.
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
    /// The interval that decides; of images and seeds what holds both intervals.
    pub fn deciding(&self) -> Option<Interval> {
        match self.unit {
            DecidingUnit::Seeds => self.over_seeds,
            DecidingUnit::ImagesAndSeeds => Some(self.over_images?.hull(self.over_seeds?)),
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
        let different: BTreeSet<_> = sources.collect();
        different.into_iter().collect::<Vec<_>>().join(" and ")
    }
}
