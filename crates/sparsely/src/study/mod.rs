//! Fair comparisons: an experiment is a function that returns a [`Study`].
//!
//! A study is planned ([`Plan`]: checked, fitted into a budget, its predictions written down),
//! executed ([`execute`]: every run resumable) and reported ([`report`]). A new one is a file with
//! a function that returns its value, and a line in [`all`].

mod bpr;
mod budget;
mod collect;
mod command_line;
mod description;
mod dials;
mod execute;
mod fair;
mod folder;
mod images;
mod mobile;
mod plan;
mod plot;
mod rate;
mod reading;
mod results;
mod routers;
mod side_by_side;
mod size;
pub mod statistics;
mod summary;
mod sweep;
mod switchhead;
mod table;
mod task;
mod text;
mod verdict;

pub use bpr::{bpr, bpr_digits};
pub use budget::{Fitted, shrink, told};
pub use command_line::{eval_command, study_command, train_command};
pub use description::{Arm, Comparison, Curve, Model, Panel, Point, Predicted, Study, Tuning};
pub use execute::{Observer, Stage, execute};
pub use fair::{MAX_FLOPS_GAP, MAX_PARAMS_GAP, TrainingCost};
pub use folder::Folder;
pub use images::{Answers, Images, ImagesFound, Least, SuperClasses, Weights};
pub use mobile::mobile;
pub use plan::{Plan, Request};
pub use plot::{CostAxis, Growth, Ideal, Latency, Told, growth_svg, latency_svg};
pub use rate::Rate;
pub use reading::{Reading, SeedCosts, Trial};
pub use results::{
    ArmResult, ArmRouting, ComparisonResult, DecidingUnit, Results, Score, SeedResult,
};
pub use routers::routers;
pub use size::Sizes;
pub use sweep::{
    CHOOSING_SPLIT, MAX_LOSS_POINTS, Setting, Sweep, SweepStage, Swept, sweep, sweep_settings,
};
pub use switchhead::{switchhead, switchhead_dict, switchhead_projections};
pub use task::{Cell, Column, Matched, Task, Tested, Validated, Value, Words};
pub use text::{LeastText, NoDial, Pieces, Text, TextFound};
pub use verdict::Verdict;

use crate::{Error, Result};

/// How alike a name must be to one that is meant, from 0 to 1.
const LIKENESS: f64 = 0.5;

/// A study that has a name, of whichever task.
#[derive(Clone, Debug, PartialEq)]
pub enum Named {
    /// Of images.
    Images(Study),
    /// Of text.
    Text(Study<Text>),
}

impl Named {
    /// What it is called by.
    pub fn name(&self) -> &str {
        match self {
            Named::Images(study) => &study.name,
            Named::Text(study) => &study.name,
        }
    }

    /// What it should answer.
    pub fn question(&self) -> &str {
        match self {
            Named::Images(study) => &study.question,
            Named::Text(study) => &study.question,
        }
    }
}

/// All studies that have a name.
pub fn all() -> Vec<Named> {
    let mut images = vec![bpr(), bpr_digits()];
    images.extend(routers());
    images.extend(mobile());
    let text = [switchhead(), switchhead_dict(), switchhead_projections()];
    images.into_iter().map(Named::Images).chain(text.map(Named::Text)).collect()
}

/// The study of that name.
///
/// # Errors
/// If there is none, with the name that is nearest, or all names.
pub fn named(name: &str) -> Result<Named> {
    let mut studies = all();
    if let Some(index) = studies.iter().position(|study| study.name() == name) {
        return Ok(studies.swap_remove(index));
    }
    let names: Vec<_> = studies.iter().map(|study| format!("`{}`", study.name())).collect();
    let nearest = studies
        .iter()
        .map(|study| (strsim::normalized_damerau_levenshtein(name, study.name()), study.name()))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let meant = match nearest {
        Some((likeness, nearest)) if likeness >= LIKENESS => {
            format!("; did you mean `{nearest}`?")
        }
        _ => String::new(),
    };
    let expected = format!("one of {}", names.join(", "));
    Err(Error::Argument { op: "study", expected, got: format!("`{name}`{meant}") })
}

/// Writes tables, pictures and the summary of a study that has been executed.
///
/// # Errors
/// If a part of it is missing or the file system refuses.
pub fn report<T: Task>(plan: &Plan<T>, folder: &Folder) -> Result<Results<T>> {
    let results = Results::collect(plan, folder)?;
    let study = &plan.study;
    folder.save_text("arms.csv", &table::arms_csv(&results.arms)?)?;
    folder.save_text("comparisons.csv", &table::comparisons_csv(&results.comparisons)?)?;
    let json = serde_json::to_string_pretty(&results).map_err(|e| Error::config(e.to_string()))?;
    folder.save_text("results.json", &json)?;
    let smaller = if plan.shrunk.is_empty() { "" } else { "; smaller than described" };
    for axis in T::axes() {
        let note = match axis.told {
            Told::Nothing => String::new(),
            Told::Threads => format!("; {} threads", plan.rate.threads),
            Told::Energy => format!("; {}", results.energy_source()),
        };
        let svg = plot::scores(study, &results, &axis, &format!("{note}{smaller}"))?;
        folder.save_text(&axis.file(&T::WORDS), &svg)?;
    }
    folder.save_text("differences.svg", &plot::differences(study, &results, smaller)?)?;
    folder.save_text("summary.md", &summary::summary(plan, folder, &results)?)?;
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_study_is_found_by_its_name() {
        for study in all() {
            assert_eq!(named(study.name()).unwrap(), study);
        }
    }

    #[test]
    fn an_unknown_study_is_refused_with_the_nearest_name() {
        let names: Vec<_> = all().iter().map(|study| format!("`{}`", study.name())).collect();
        let start = format!("study: expected one of {}, got ", names.join(", "));
        let told = |name: &str| named(name).unwrap_err().to_string();
        assert_eq!(told("brp"), format!("{start}`brp`; did you mean `bpr`?"));
        assert_eq!(told("zzz"), format!("{start}`zzz`"));
    }
}
