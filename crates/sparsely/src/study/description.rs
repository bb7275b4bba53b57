//! An experiment as a value.

use super::size::scaled;
use super::{Images, SuperClasses, Task};
use crate::eval::TimingConfig;
use crate::train::TrainConfig;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// A question, what is trained and measured to answer it, and what the answer is expected to be.
///
/// Every model is trained once for each seed; an arm is a model under a dial. For one seed all
/// models see the same data in the same order and start with equal weights wherever they have a
/// parameter of the same name and shape in common, so a difference between arms of a seed is a
/// paired one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "", deny_unknown_fields)]
pub struct Study<T: Task = Images> {
    /// What it is called by.
    pub name: String,
    /// What it should answer, one sentence.
    pub question: String,
    /// The data of all models.
    pub data: T::Data,
    /// What the data are and where they can be had.
    pub data_note: String,
    /// Each trains every model once.
    pub seeds: Vec<u64>,
    /// What is trained.
    pub models: Vec<Model<T>>,
    /// What is evaluated.
    pub arms: Vec<Arm<T>>,
    /// What is compared, with the answer that is expected.
    pub comparisons: Vec<Comparison>,
    /// The search for each model's learning rate; without it models are trained as they are.
    pub tuning: Option<Tuning>,
    /// What a smaller budget must leave.
    pub least: T::Least,
    /// How time and energy are measured.
    pub timing: TimingConfig,
    /// Assumed power of a busy core where energy cannot be measured.
    pub watts_per_core: f64,
    /// What is drawn beside what.
    pub panels: Vec<Panel>,
}

/// Something that is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "", deny_unknown_fields)]
pub struct Model<T: Task = Images> {
    /// Part of the names of files.
    pub name: String,
    /// What it is; what the data decide of it (image size, channels and classes, vocabulary) is theirs.
    pub model: T::Model,
    /// How it learns; what its router is taught comes from [`Model::super_classes`].
    pub train: TrainConfig,
    /// What the router of whole images is taught; nothing in models of text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub super_classes: Option<SuperClasses>,
}

/// A trained model under a dial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "", deny_unknown_fields)]
pub struct Arm<T: Task = Images> {
    /// Part of the names of files.
    pub name: String,
    /// The model's name.
    pub model: String,
    /// How it routes; what is absent is as the model was trained.
    pub dial: T::Dial,
}

/// Two arms, and what is expected of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// What is compared, for people.
    pub name: String,
    /// The arm whose score comes first.
    pub arm: String,
    /// The arm whose score is subtracted.
    pub baseline: String,
    /// Arm minus baseline, as it was expected before the first run.
    pub predicted: Predicted,
}

/// An expected difference of scores, in points: percentage points of top-1 accuracy, or the unit of the task's
/// differences ([`super::Words::difference`]).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Predicted {
    /// Of that sign and about that size.
    Difference {
        /// Not 0.
        points: f64,
    },
    /// None that matters.
    Negligible {
        /// What would matter, above 0.
        below: f64,
    },
}

impl Predicted {
    /// In words, with the unit of differences.
    pub fn told(&self, unit: &str) -> String {
        match self {
            Predicted::Difference { points } => format!("{points:+} {unit}"),
            Predicted::Negligible { below } => format!("less than ±{below} {unit}"),
        }
    }
}

/// The same search for every model: each rate is tried once, and the best on the validation
/// data wins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuning {
    /// Peak learning rates.
    pub lr_peaks: Vec<f64>,
    /// Not one of the study's: a rate chosen on a seed would flatter that seed.
    pub seed: u64,
    /// Length of a trial as a share of the whole training, in (0, 1].
    pub length: f64,
}

/// A picture of scores against cost; panels stand side by side and share the axis of scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Panel {
    /// Above it.
    pub title: String,
    /// In the same order and with the same labels in every panel.
    pub curves: Vec<Curve>,
}

/// Arms of one colour.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Curve {
    /// In the legend.
    pub label: String,
    /// The points in the order in which they are joined.
    pub points: Vec<Point>,
    /// Whether no line joins them: they are models of their own, not one under several dials.
    #[serde(default)]
    pub is_scattered: bool,
}

/// An arm in a picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// The arm's name.
    pub arm: String,
    /// Beside the point; may be empty.
    pub label: String,
}

impl<T: Task> Study<T> {
    /// The run that trains `model` with `seed` at the rate that its tuning chose.
    pub fn seeded_config(&self, model: &Model<T>, seed: u64, lr_peak: f64) -> T::Run {
        let mut model = model.clone();
        model.train.schedule.lr_peak = lr_peak;
        T::run_config(self, &model, seed)
    }

    /// The learning rates that are tried for `model`, and the runs that try them.
    pub fn trial_configs(&self, model: &Model<T>) -> Vec<(f64, T::Run)> {
        let Some(tuning) = &self.tuning else { return Vec::new() };
        let mut model = model.clone();
        model.train = scaled(&model.train, tuning.length);
        let trial = |lr_peak: &f64| (*lr_peak, self.seeded_config(&model, tuning.seed, *lr_peak));
        tuning.lr_peaks.iter().map(trial).collect()
    }

    /// The model of that name.
    ///
    /// # Errors
    /// If there is none: never in a study that was checked.
    pub fn model(&self, name: &str) -> Result<&Model<T>> {
        let model = self.models.iter().find(|model| model.name == name);
        model.ok_or_else(|| unknown("model", name))
    }

    /// The arm of that name.
    ///
    /// # Errors
    /// As of [`Study::model`].
    pub fn arm(&self, name: &str) -> Result<&Arm<T>> {
        self.arms.iter().find(|arm| arm.name == name).ok_or_else(|| unknown("arm", name))
    }

    /// The arms of a model.
    pub fn arms_of<'a>(&'a self, model: &'a str) -> impl Iterator<Item = &'a Arm<T>> {
        self.arms.iter().filter(move |arm| arm.model == model)
    }
}

fn unknown(kind: &str, name: &str) -> Error {
    let expected = format!("one of its {kind}s");
    Error::Argument { op: "study", expected, got: format!("`{name}`") }
}
