//! Results for other programs: CSV.

use super::results::{ArmResult, ArmRouting, ComparisonResult, SeedResult};
use super::statistics::Interval;
use super::{Task, Words};
use crate::{Error, Result};

/// Columns of a dial.
const DIAL: [&str; 4] = ["selected_experts", "capacity", "priority", "group"];

/// A line for each arm and seed.
///
/// # Errors
/// Never: it is written into memory.
pub(super) fn arms_csv<T: Task>(arms: &[ArmResult<T>]) -> Result<String> {
    let lines = arms.iter().flat_map(|arm| arm.seeds.iter().map(move |seed| line(arm, seed)));
    table(lines)
}

/// A line for each comparison.
///
/// # Errors
/// As of [`arms_csv`].
pub(super) fn comparisons_csv(comparisons: &[ComparisonResult]) -> Result<String> {
    table(comparisons.iter().map(comparison_line))
}

/// Lines of names and values, the same names in each.
fn table(lines: impl Iterator<Item = Vec<(String, String)>>) -> Result<String> {
    let refused = |error: csv::Error| Error::Argument {
        op: "csv",
        expected: "a table".into(),
        got: error.to_string(),
    };
    let mut writer = csv::Writer::from_writer(Vec::new());
    for (index, line) in lines.enumerate() {
        let (names, values): (Vec<_>, Vec<_>) = line.into_iter().unzip();
        if index == 0 {
            writer.write_record(names).map_err(refused)?;
        }
        writer.write_record(values).map_err(refused)?;
    }
    let bytes = writer.into_inner().map_err(|error| refused(error.into_error().into()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn line<T: Task>(arm: &ArmResult<T>, seed: &SeedResult<T>) -> Vec<(String, String)> {
    let mut line = Line::default();
    line.push("arm", &arm.arm);
    line.push("model", &arm.model);
    line.push("seed", &seed.seed);
    if T::HAS_DIAL {
        let routing = arm.routing.as_ref().map(ArmRouting::words).unwrap_or_default();
        DIAL.iter().zip(routing).for_each(|(name, word)| line.push(name, &word));
    }
    line.push("n", &seed.n);
    line.push(T::WORDS.keys[0], &seed.score.value);
    line.push("loss", &seed.loss);
    line.push("lr_peak", &seed.lr_peak);
    line.push("step", &seed.step);
    T::cells(seed).into_iter().for_each(|(name, value)| line.push(name, &value));
    let timed = T::WORDS.timed;
    line.push(&format!("seconds_per_{timed}"), &seed.cost.seconds);
    line.push("seconds_first_quartile", &seed.cost.seconds_quartiles[0]);
    line.push("seconds_third_quartile", &seed.cost.seconds_quartiles[1]);
    line.push("threads", &seed.threads);
    line.push(&format!("joules_per_{timed}"), &seed.cost.joules);
    line.push("energy_source", &seed.energy_source);
    line.push("program", &seed.program);
    line.0
}

fn comparison_line(found: &ComparisonResult) -> Vec<(String, String)> {
    let Words { units, difference: [unit, _, key], .. } = found.words;
    let mut line = Line::default();
    line.push("name", &found.name);
    line.push("arm", &found.arm);
    line.push("baseline", &found.baseline);
    line.push("predicted", &found.predicted.told(unit));
    line.push(&format!("difference_{key}"), &found.difference);
    line.push("unit", &found.unit.name(&found.words));
    line.interval("", found.deciding());
    line.interval("over_seeds_", found.over_seeds);
    line.interval(&format!("over_{units}_"), found.over_units);
    line.push(&format!("detectable_{key}"), &optional(found.detectable));
    line.push("verdict", &found.verdict);
    line.0
}

/// A number where there is one.
pub(super) fn optional(value: Option<f64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// Names and values of a line.
#[derive(Default)]
struct Line(Vec<(String, String)>);

impl Line {
    fn push(&mut self, name: &str, value: &dyn ToString) {
        self.0.push((name.to_string(), value.to_string()));
    }

    fn interval(&mut self, prefix: &str, interval: Option<Interval>) {
        self.push(&format!("{prefix}low"), &optional(interval.map(|interval| interval.low)));
        self.push(&format!("{prefix}high"), &optional(interval.map(|interval| interval.high)));
    }
}
