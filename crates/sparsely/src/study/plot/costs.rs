//! A study's arms against what an image costs.

use super::accuracy::{Picture, Place};
use crate::Result;
use crate::study::Study;
use crate::study::results::{ArmResult, Results};

/// What accuracy is drawn against.
#[derive(Clone, Copy)]
pub(in crate::study) struct CostAxis {
    /// With its unit.
    label: &'static str,
    /// The title's words.
    title: &'static str,
    /// Its value.
    value: fn(&ArmResult) -> f64,
    /// Its quartiles, where it varies.
    quartiles: fn(&ArmResult) -> Option<[f64; 2]>,
}

/// Accuracy against FLOPs.
pub(in crate::study) const FLOPS: CostAxis = CostAxis {
    label: "forward MFLOP per image",
    title: "accuracy against computation",
    value: |arm| arm.flops_per_image / 1e6,
    quartiles: |_| None,
};

/// Accuracy against time.
pub(in crate::study) const TIME: CostAxis = CostAxis {
    label: "ms per image, measured: median and quartiles",
    title: "accuracy against time",
    value: |arm| arm.milliseconds,
    quartiles: |arm| Some(arm.milliseconds_quartiles),
};

/// Accuracy against energy.
pub(in crate::study) const ENERGY: CostAxis = CostAxis {
    label: "mJ per image",
    title: "accuracy against energy",
    value: |arm| arm.millijoules,
    quartiles: |_| None,
};

/// The study's panels with `axis` across.
///
/// # Errors
/// Only for our own bugs: the picture is drawn in memory.
pub(in crate::study) fn accuracy(
    study: &Study,
    results: &Results,
    axis: &CostAxis,
    note: &str,
) -> Result<String> {
    let place = |arm: &ArmResult| Place {
        x: (axis.value)(arm),
        x_quartiles: (axis.quartiles)(arm),
        y: arm.top1_percent,
        y_interval: arm.top1_over_seeds,
        ring: 0,
    };
    let picture = Picture {
        title: format!("{}: {}", study.name, axis.title),
        subtitle: format!(
            "points: mean of {}; bars: 95 % interval over seeds (each curve alone){note}",
            seeds(study)
        ),
        cost: axis.label,
        panels: &study.panels,
        places: results.arms.iter().map(|arm| (&*arm.arm, place(arm))).collect(),
    };
    picture.svg()
}

fn seeds(study: &Study) -> String {
    match study.seeds.len() {
        1 => "1 seed".into(),
        count => format!("{count} seeds"),
    }
}
