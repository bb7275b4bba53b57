//! What differs between what runs learn; the loop of steps is one ([`super::run`]).

use super::{Learner, StepReport, TrainConfig};
use crate::Result;
use crate::checkpoint::{ArrayRef, RunFolder, State};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What a run tells before its first step.
#[derive(Clone, Debug, PartialEq)]
pub struct Beginning {
    /// The data, in one line.
    pub data: String,
    /// What the data or the model leave out, if there is something to tell.
    pub notice: Option<String>,
    /// What a step learns from, in units.
    pub step_size: usize,
    /// `images` or `tokens`.
    pub unit: &'static str,
}

/// A model, its data, and how it is judged.
pub(super) trait Task {
    /// What a step learns from.
    type Batch;
    /// What a look at held-out data finds.
    type Evaluation;
    /// What is remembered of the best model by validation.
    type Best: Serialize + DeserializeOwned;

    /// How it learns.
    fn train(&self) -> &TrainConfig;
    /// What it learns.
    fn learner(&self) -> &Learner;
    /// To be restored.
    fn learner_mut(&mut self) -> &mut Learner;
    /// Steps of a pass over the training data.
    fn steps_per_epoch(&self) -> u64;
    /// For people.
    fn beginning(&self) -> Beginning;
    /// The batches of the steps `from..to`, in order.
    fn batches(&self, from: u64, to: u64) -> Box<dyn Iterator<Item = Result<Self::Batch>>>;
    /// Learns from one batch.
    fn step(&mut self, step: u64, batch: &Self::Batch) -> Result<StepReport>;
    /// What `metrics.jsonl` says of a step that took so many seconds.
    fn line(&self, report: &StepReport, seconds: f64) -> Value;
    /// Looks at the validation data.
    fn validate(&self) -> Result<Self::Evaluation>;
    /// What is remembered of that look after so many steps.
    fn best(&self, evaluation: &Self::Evaluation, step: u64) -> Self::Best;
    /// Whether the model is to be kept in place of the best so far.
    fn is_best(
        &self,
        evaluation: &Self::Evaluation,
        now: &Self::Best,
        best: Option<&Self::Best>,
    ) -> bool;
    /// What `metrics.jsonl` says of a look.
    fn validation_line(&self, evaluation: &Self::Evaluation, is_best: bool) -> Value;
    /// What people are told of a look.
    fn summary(&self, evaluation: &Self::Evaluation) -> String;
    /// Saves the model that learned for `step` steps.
    fn save_model(&self, step: u64, folder: &RunFolder) -> Result<()>;
    /// Evaluates the saved model on the test data, and what `metrics.jsonl` says of it.
    fn finish(&self, folder: &RunFolder) -> Result<(Self::Evaluation, Value)>;
    /// Calls `save` with what is carried from step to step besides parameters and moments.
    fn with_carried(&self, save: &mut dyn FnMut(&[ArrayRef<'_>]) -> Result<()>) -> Result<()> {
        save(&[])
    }
    /// Takes that back; errors are what is wrong with the state.
    fn restore_carried(&mut self, _state: &State) -> std::result::Result<(), String> {
        Ok(())
    }
}
