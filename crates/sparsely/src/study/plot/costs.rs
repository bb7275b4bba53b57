//! A study's arms against what they cost.

use super::accuracy::{Picture, Place};
use crate::Result;
use crate::study::results::{ArmResult, Results};
use crate::study::{Study, Task, Words};

/// First and third quartile of what an arm costs.
pub(super) type Quartiles<T> = fn(&ArmResult<T>) -> [f64; 2];

/// What scores are drawn against.
pub struct CostAxis<T: Task> {
    /// In names of files.
    pub file: &'static str,
    /// In titles.
    pub title: &'static str,
    /// With its unit, beside the axis.
    pub label: &'static str,
    /// Its value.
    pub value: fn(&ArmResult<T>) -> f64,
    /// Its quartiles, where it varies.
    pub quartiles: Option<Quartiles<T>>,
    /// What must be told of it.
    pub told: Told,
}

/// What must be told of a cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing: it is counted.
    Nothing,
    /// With how many threads it was measured.
    Threads,
    /// Where the joules come from.
    Energy,
}

impl<T: Task> CostAxis<T> {
    /// `accuracy against time`.
    pub(in crate::study) fn name(&self, words: &Words) -> String {
        format!("{} against {}", words.picture[1], self.title)
    }

    /// `accuracy-time.svg`.
    pub(in crate::study) fn file(&self, words: &Words) -> String {
        format!("{}-{}.svg", words.picture[0], self.file)
    }
}

/// The study's panels with `axis` across.
///
/// # Errors
/// Only for our own bugs: the picture is drawn in memory.
pub(in crate::study) fn scores<T: Task>(
    study: &Study<T>,
    results: &Results<T>,
    axis: &CostAxis<T>,
    note: &str,
) -> Result<String> {
    let place = |arm: &ArmResult<T>| Place {
        x: (axis.value)(arm),
        x_quartiles: axis.quartiles.map(|quartiles| quartiles(arm)),
        y: arm.score.value,
        y_interval: arm.score.over_seeds,
        ring: 0,
    };
    let picture = Picture {
        title: format!("{}: {}", study.name, axis.name(&T::WORDS)),
        subtitle: format!(
            "points: mean of {}; bars: 95 % interval over seeds (each curve alone){note}",
            seeds(study)
        ),
        cost: axis.label,
        score: T::WORDS.axis,
        range: T::WORDS.range,
        panels: &study.panels,
        places: results.arms.iter().map(|arm| (&*arm.arm, place(arm))).collect(),
    };
    picture.svg()
}

fn seeds<T: Task>(study: &Study<T>) -> String {
    match study.seeds.len() {
        1 => "1 seed".into(),
        count => format!("{count} seeds"),
    }
}
