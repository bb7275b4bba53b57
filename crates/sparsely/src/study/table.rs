//! Results for other programs: CSV.

use super::results::{ArmResult, ArmRouting, ComparisonResult, SeedResult};
use super::statistics::Interval;
use crate::Result;
use crate::eval::csv::csv;
use serde::Serialize;

/// A line for each arm and seed.
///
/// # Errors
/// Never: it is written into memory.
pub(super) fn arms_csv(arms: &[ArmResult]) -> Result<String> {
    csv(arms.iter().flat_map(|arm| arm.seeds.iter().map(move |seed| ArmLine::of(arm, seed))))
}

/// A line for each comparison.
///
/// # Errors
/// As of [`arms_csv`].
pub(super) fn comparisons_csv(comparisons: &[ComparisonResult]) -> Result<String> {
    csv(comparisons.iter().map(ComparisonLine::of))
}

#[derive(Serialize)]
struct ArmLine<'a> {
    arm: &'a str,
    model: &'a str,
    seed: u64,
    selected_experts: String,
    capacity: String,
    priority: String,
    group: String,
    n: usize,
    top1_percent: f64,
    loss: f64,
    dropped_share: f64,
    lr_peak: f64,
    step: u64,
    flops_per_image: f64,
    params: Option<f64>,
    touched_params: Option<f64>,
    experts_per_image: Option<f64>,
    dead_experts: Option<f64>,
    load_variation: Option<f64>,
    router_top1: Option<f64>,
    seconds_per_image: f64,
    seconds_first_quartile: f64,
    seconds_third_quartile: f64,
    threads: usize,
    joules_per_image: f64,
    energy_source: &'a str,
    program: &'a str,
}

impl<'a> ArmLine<'a> {
    fn of(arm: &'a ArmResult, seed: &'a SeedResult) -> ArmLine<'a> {
        let routing = arm.routing.as_ref().map(ArmRouting::words).unwrap_or_default();
        let [selected_experts, capacity, priority, group] = routing;
        ArmLine {
            arm: &arm.arm,
            model: &arm.model,
            seed: seed.seed,
            selected_experts,
            capacity,
            priority,
            group,
            n: seed.n,
            top1_percent: seed.top1_percent,
            loss: seed.loss,
            dropped_share: seed.dropped_share,
            lr_peak: seed.lr_peak,
            step: seed.step,
            flops_per_image: seed.flops_per_image,
            params: seed.weights.map(|w| w.params),
            touched_params: seed.weights.map(|w| w.touched_params),
            experts_per_image: seed.weights.map(|w| w.experts_per_image),
            dead_experts: seed.weights.map(|w| w.dead_experts),
            load_variation: seed.weights.map(|w| w.load_variation),
            router_top1: seed.weights.and_then(|w| w.router_top1),
            seconds_per_image: seed.cost.seconds,
            seconds_first_quartile: seed.cost.seconds_quartiles[0],
            seconds_third_quartile: seed.cost.seconds_quartiles[1],
            threads: seed.threads,
            joules_per_image: seed.cost.joules,
            energy_source: &seed.energy_source,
            program: &seed.program,
        }
    }
}

#[derive(Serialize)]
struct ComparisonLine<'a> {
    name: &'a str,
    arm: &'a str,
    baseline: &'a str,
    predicted: String,
    difference_points: f64,
    unit: &'static str,
    low: Option<f64>,
    high: Option<f64>,
    over_seeds_low: Option<f64>,
    over_seeds_high: Option<f64>,
    over_images_low: Option<f64>,
    over_images_high: Option<f64>,
    detectable_points: Option<f64>,
    verdict: String,
}

impl<'a> ComparisonLine<'a> {
    fn of(found: &'a ComparisonResult) -> ComparisonLine<'a> {
        let low = |interval: Option<Interval>| interval.map(|interval| interval.low);
        let high = |interval: Option<Interval>| interval.map(|interval| interval.high);
        ComparisonLine {
            name: &found.name,
            arm: &found.arm,
            baseline: &found.baseline,
            predicted: found.predicted.to_string(),
            difference_points: found.difference,
            unit: found.unit.name(),
            low: low(found.deciding()),
            high: high(found.deciding()),
            over_seeds_low: low(found.over_seeds),
            over_seeds_high: high(found.over_seeds),
            over_images_low: low(found.over_images),
            over_images_high: high(found.over_images),
            detectable_points: found.detectable,
            verdict: found.verdict.to_string(),
        }
    }
}
