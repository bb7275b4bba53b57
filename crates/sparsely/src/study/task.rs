//! What studies of images and of text do not have in common.

use super::plot::CostAxis;
use super::statistics::Unit;
use super::{
    Arm, ArmResult, ArmRouting, Fitted, Folder, Model, Rate, Results, SeedResult, Sizes, Study,
};
use crate::Result;
use crate::checkpoint::RunFolder;
use crate::eval::{ImageCost, Meter};
use crate::train::Observer;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// A part of a description or of what was found, as JSON holds it.
pub trait Value:
    Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static
{
}

impl<V> Value for V where
    V: Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static
{
}

/// What models of a study learn: types, and what is done with them. Planning, running side by side,
/// resuming, statistics, verdicts, tables and pictures are the same for all tasks.
pub trait Task: Clone + Debug + PartialEq + Send + Sync + 'static {
    /// Which data.
    type Data: Value;
    /// Which model.
    type Model: Value;
    /// How a trained model is run otherwise than it was trained.
    type Dial: Value + Default;
    /// What a smaller budget must leave.
    type Least: Value;
    /// A run as a value.
    type Run: Clone + PartialEq + Sync;
    /// What all models of a seed read.
    type Held: Sync;
    /// A trained model.
    type Learned;
    /// What is told of an arm for a seed besides its score.
    type Found: Value;
    /// What the score is made of.
    type Scores: Value;

    /// How people are told of it.
    const WORDS: Words;
    /// What models must have in common.
    const MATCHED: Matched;
    /// Whether arms of a model may differ by a dial.
    const HAS_DIAL: bool;

    /// Where the data are.
    fn source(data: &Self::Data) -> &str;
    /// To name another place.
    fn source_mut(data: &mut Self::Data) -> &mut String;
    /// Data that need no file.
    fn is_embedded(source: &str) -> bool;
    /// Seeds that a smaller budget must leave.
    fn least_seeds(least: &Self::Least) -> usize;
    /// Steps of a pass over the training data.
    fn steps_per_epoch(model: &Model<Self>, sizes: &Sizes) -> u64;
    /// What of a description cannot work and is not the same for all tasks, one sentence each.
    fn problems(study: &Study<Self>, sizes: &Sizes) -> Vec<String>;
    /// FLOPs of a training step on `batch` examples, and parameters.
    ///
    /// # Errors
    /// If the model cannot work.
    fn training_cost(model: &Self::Model, batch: usize) -> Result<(f64, u64)>;
    /// What the forward pass of an arm costs, for people, and what of the test data that is the cost of.
    ///
    /// # Errors
    /// If the model cannot work.
    fn forward_cost(study: &Study<Self>, arm: &Arm<Self>) -> Result<[String; 2]>;
    /// Smaller and smaller forms of a study, down to the smallest that answers its question.
    fn smaller(fitted: &Fitted<Self>) -> Vec<Fitted<Self>>;
    /// Units of evaluation that measuring an arm for a seed takes as long as.
    fn timed_units(study: &Study<Self>) -> usize;

    /// Opens the data, takes over what they decide about the models, and times a few steps.
    ///
    /// # Errors
    /// If the data cannot be used or the study is not fair.
    fn look(study: &mut Study<Self>) -> Result<(Sizes, Rate)>;
    /// The run that trains `model` with `seed`.
    fn run_config(study: &Study<Self>, model: &Model<Self>, seed: u64) -> Self::Run;
    /// Checks a run without looking at its data.
    ///
    /// # Errors
    /// All problems at once.
    fn validate(run: &Self::Run) -> Result<()>;
    /// The run that lies in a folder.
    ///
    /// # Errors
    /// If it is damaged.
    fn read_config(folder: &RunFolder) -> Result<Self::Run>;
    /// Begins a run in `path`, and whether it came to its end.
    ///
    /// # Errors
    /// If the run, the data or the folder cannot be used.
    fn start(
        config: Self::Run,
        path: &Path,
        root: &Path,
        stop: &AtomicBool,
        observer: &mut dyn Observer,
    ) -> Result<bool>;
    /// Goes on with it.
    ///
    /// # Errors
    /// As of [`Task::start`].
    fn resume(path: &Path, stop: &AtomicBool, observer: &mut dyn Observer) -> Result<bool>;
    /// The model of a run that has finished.
    ///
    /// # Errors
    /// If it is missing or damaged.
    fn load(path: &Path) -> Result<Self::Learned>;

    /// Opens what models of a seed read.
    ///
    /// # Errors
    /// If the data cannot be used.
    fn hold(study: &Study<Self>, seed: u64) -> Result<Self::Held>;
    /// Finds what a model is taught besides the data, from the models before it, and leaves it in the folder.
    ///
    /// # Errors
    /// If it cannot be found.
    fn prepare(
        _study: &Study<Self>,
        _folder: &Folder,
        _model: (&Model<Self>, u64),
        _held: &Self::Held,
    ) -> Result<()> {
        Ok(())
    }
    /// A run with what [`Task::prepare`] has left for it.
    ///
    /// # Errors
    /// If that is damaged.
    fn taught(run: Self::Run, _folder: &Folder, _model: &str, _seed: u64) -> Result<Self::Run> {
        Ok(run)
    }
    /// What a model does on the validation data.
    ///
    /// # Errors
    /// If it cannot be evaluated.
    fn validated(learned: &Self::Learned, run: &Self::Run) -> Result<Validated>;
    /// What an arm does on the test data.
    ///
    /// # Errors
    /// If it cannot be evaluated.
    fn read(
        study: &Study<Self>,
        folder: &Folder,
        arm: (&Arm<Self>, u64),
        learned: &Self::Learned,
        held: &Self::Held,
    ) -> Result<Tested<Self>>;
    /// Time and energy of all arms of a seed, in turn and in their order.
    ///
    /// # Errors
    /// If a model cannot run.
    fn measure(
        study: &Study<Self>,
        learned: &BTreeMap<&str, Self::Learned>,
        held: &Self::Held,
        meter: &Meter,
    ) -> Result<Vec<ImageCost>>;

    /// What the score is the mean of, in the order of the test data.
    fn units(scores: &Self::Scores) -> Vec<Unit>;
    /// How much of the test data was scored, as [`Sizes::test`] counts.
    fn tested(scores: &Self::Scores) -> usize;
    /// How many consecutive units depend on one another in one of the arms.
    ///
    /// # Errors
    /// If an arm cannot run.
    fn units_together(study: &Study<Self>, arms: [&Arm<Self>; 2]) -> Result<usize>;
    /// Means over seeds.
    fn mean(of_seeds: &[&Self::Found]) -> Self::Found;
    /// How an arm routes; `None` for a model without a dial.
    ///
    /// # Errors
    /// If the arm is of no model.
    fn routing(study: &Study<Self>, arm: &Arm<Self>) -> Result<Option<ArmRouting>>;

    /// What tables tell of an arm for a seed besides its score.
    fn cells(seed: &SeedResult<Self>) -> Vec<Cell>;
    /// Columns of the summary's table of arms, after the score: headings and values.
    fn columns() -> Vec<Column<Self>>;
    /// What scores are drawn against.
    fn axes() -> Vec<CostAxis<Self>>;
    /// How costs were measured, one sentence.
    fn timing(study: &Study<Self>, threads: &str) -> String;
    /// Sections of the summary that no other task has.
    fn sections(results: &Results<Self>) -> String;
    /// The command that trains a run alone.
    ///
    /// # Errors
    /// If it is not expressible as a command.
    fn train_command(run: &Self::Run, out: &Path) -> Result<String>;
    /// The words of the command that evaluates an arm of a run, after `sparsely eval RUN`.
    fn eval_flags(study: &Study<Self>, arm: &ArmResult<Self>) -> Vec<String>;
}

/// A name and a value, as tables have them.
pub type Cell = (&'static str, String);

/// A heading, and what stands below it.
pub type Column<T> = (&'static str, fn(&ArmResult<T>) -> String);

/// What a look at the validation data found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Validated {
    /// Share of right answers, where there are answers.
    pub top1: Option<f64>,
    /// Mean task loss.
    pub loss: f64,
}

/// What a look at the test data found.
#[derive(Clone, Debug)]
pub struct Tested<T: Task> {
    /// Steps that the model had learned for.
    pub step: u64,
    /// Mean task loss.
    pub loss: f64,
    /// What is told besides.
    pub found: T::Found,
    /// What the score is made of.
    pub scores: T::Scores,
}

/// What models must have in common so that comparing them is fair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matched {
    /// FLOPs of their training.
    TrainingFlops,
    /// Parameters, as in papers on language models; and steps.
    Parameters,
}

/// How people are told of a task.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    /// What data are counted in: `images`.
    pub data: &'static str,
    /// What a batch has: `images`.
    pub batch: &'static str,
    /// What of the test data an interval is over: `images`.
    pub units: &'static str,
    /// How these are drawn, `{}` for how many.
    pub drawn: &'static str,
    /// What arms are compared by: `top-1 accuracy`.
    pub score: &'static str,
    /// Above a column of it: `top-1 %`.
    pub heading: &'static str,
    /// Beside an axis of it, with the direction that is better where that is not plain.
    pub axis: &'static str,
    /// What it is called in files, and its interval over seeds.
    pub keys: [&'static str; 2],
    /// The unit of differences: `points`; in full; and in files.
    pub difference: [&'static str; 3],
    /// Digits after the point of scores and differences.
    pub digits: usize,
    /// The lowest and the highest that can be.
    pub range: [f64; 2],
    /// What names and titles of pictures call it: `accuracy`.
    pub picture: [&'static str; 2],
    /// What time and energy are of: `image`.
    pub timed: &'static str,
}
