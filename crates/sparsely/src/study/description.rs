//! An experiment as a value.

use super::SuperClasses;
use super::size::scaled;
use crate::data::DataConfig;
use crate::eval::{EvalConfig, TimingConfig};
use crate::model::ModelConfig;
use crate::moe::Dial;
use crate::train::{RunConfig, TrainConfig};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// A question, what is trained and measured to answer it, and what the answer is expected to be.
///
/// Every model is trained once for each seed; an arm is a model under a dial. For one seed all
/// models see the same images in the same order and start with equal weights wherever they have a
/// parameter of the same name and shape in common, so a difference between arms of a seed is a
/// paired one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Study {
    /// What it is called by.
    pub name: String,
    /// What it should answer, one sentence.
    pub question: String,
    /// The images of all models.
    pub data: DataConfig,
    /// What the data are and where they can be had.
    pub data_note: String,
    /// Each trains every model once.
    pub seeds: Vec<u64>,
    /// What is trained.
    pub models: Vec<Model>,
    /// What is evaluated.
    pub arms: Vec<Arm>,
    /// What is compared, with the answer that is expected.
    pub comparisons: Vec<Comparison>,
    /// The search for each model's learning rate; without it models are trained as they are.
    pub tuning: Option<Tuning>,
    /// What a smaller budget must leave.
    pub least: Least,
    /// How time and energy are measured.
    pub timing: TimingConfig,
    /// Assumed power of a busy core where energy cannot be measured.
    pub watts_per_core: f64,
    /// What is drawn beside what.
    pub panels: Vec<Panel>,
}

/// Something that is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Part of the names of files.
    pub name: String,
    /// What it is; image size, channels and classes are the data's.
    pub model: ModelConfig,
    /// How it learns; what its router is taught comes from [`Model::super_classes`].
    pub train: TrainConfig,
    /// What the router of whole images is taught.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub super_classes: Option<SuperClasses>,
}

/// A trained model under a dial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// Part of the names of files.
    pub name: String,
    /// The model's name.
    pub model: String,
    /// How it routes; what is absent is as the model was trained.
    pub dial: Dial,
}

/// Two arms, and what is expected of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// What is compared, for people.
    pub name: String,
    /// The arm whose top-1 accuracy comes first.
    pub arm: String,
    /// The arm whose top-1 accuracy is subtracted.
    pub baseline: String,
    /// Arm minus baseline, as it was expected before the first run.
    pub predicted: Predicted,
}

/// An expected difference of top-1 accuracy, in percentage points.
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

impl std::fmt::Display for Predicted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Predicted::Difference { points } => write!(f, "{points:+} points"),
            Predicted::Negligible { below } => write!(f, "less than ±{below} points"),
        }
    }
}

/// The same search for every model: each rate is tried once, and the best validation accuracy wins.
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

/// The smallest sizes at which the study still answers its question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Least {
    /// Passes over the training images.
    pub epochs: u64,
    /// Seeds, the first of the list.
    pub seeds: usize,
    /// Training images.
    pub train_images: usize,
    /// Test images.
    pub test_images: usize,
}

/// A picture of accuracy against cost; panels stand side by side and share the axis of accuracy.
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

impl Study {
    /// The run that trains `model` with `seed`.
    pub fn run_config(&self, model: &Model, seed: u64) -> RunConfig {
        RunConfig {
            seed,
            data: self.data.clone(),
            model: model.model.clone(),
            train: model.train.clone(),
            eval: self.eval_config(),
        }
    }

    /// The run that trains `model` with `seed` at the rate that its tuning chose.
    pub fn seeded_config(&self, model: &Model, seed: u64, lr_peak: f64) -> RunConfig {
        let mut config = self.run_config(model, seed);
        config.train.schedule.lr_peak = lr_peak;
        config
    }

    /// The runs that try learning rates for `model`.
    pub fn trial_configs(&self, model: &Model) -> Vec<RunConfig> {
        let Some(tuning) = &self.tuning else { return Vec::new() };
        let configs = tuning.lr_peaks.iter().map(|lr_peak| {
            let mut config = self.seeded_config(model, tuning.seed, *lr_peak);
            config.train = scaled(&config.train, tuning.length);
            config
        });
        configs.collect()
    }

    /// How models are evaluated, but for the dial.
    pub fn eval_config(&self) -> EvalConfig {
        EvalConfig {
            batch_size: self.timing.batch_size,
            watts_per_core: self.watts_per_core,
            ..EvalConfig::default()
        }
    }

    /// The model of that name.
    ///
    /// # Errors
    /// If there is none: never in a study that was checked.
    pub fn model(&self, name: &str) -> Result<&Model> {
        let model = self.models.iter().find(|model| model.name == name);
        model.ok_or_else(|| unknown("model", name))
    }

    /// The arm of that name.
    ///
    /// # Errors
    /// As of [`Study::model`].
    pub fn arm(&self, name: &str) -> Result<&Arm> {
        self.arms.iter().find(|arm| arm.name == name).ok_or_else(|| unknown("arm", name))
    }

    /// The arms of a model.
    pub fn arms_of<'a>(&'a self, model: &'a str) -> impl Iterator<Item = &'a Arm> {
        self.arms.iter().filter(move |arm| arm.model == model)
    }
}

fn unknown(kind: &str, name: &str) -> Error {
    let expected = format!("one of its {kind}s");
    Error::Argument { op: "study", expected, got: format!("`{name}`") }
}
