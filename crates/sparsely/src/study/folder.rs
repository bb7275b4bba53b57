//! Where a study keeps its files.

use super::{Plan, Reading, SeedCosts, Task, Trial};
use crate::checkpoint::write_atomic;
use crate::superclass::SuperClassFile;
use crate::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The folder of a study:
///
/// ```text
/// plan.json         the study as it is run, with its predictions; written first
/// runs/             a run folder for each model and seed, and for each trial of a learning rate
/// readings/         what each arm did for each seed, image by image or piece by piece of the text; costs;
///                   trials; super-classes
/// arms.csv          one line for each arm and seed
/// comparisons.csv   one line for each comparison
/// results.json      all of it
/// *.svg             pictures
/// summary.md        what came out
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Nothing is made yet.
    pub fn new(path: &Path) -> Folder {
        Folder { path: path.to_path_buf() }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the plan lies.
    pub fn plan_path(&self) -> PathBuf {
        self.path.join("plan.json")
    }

    /// The plan, if there is one.
    ///
    /// # Errors
    /// If it cannot be read, or is none.
    pub fn plan<T: Task>(&self) -> Result<Option<Plan<T>>> {
        read(&self.plan_path(), "the plan of a study")
    }

    /// Writes the plan.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn save_plan<T: Task>(&self, plan: &Plan<T>) -> Result<()> {
        write(&self.plan_path(), plan)
    }

    /// The run that trains `model` with `seed`.
    pub fn run(&self, model: &str, seed: u64) -> PathBuf {
        self.path.join("runs").join(format!("{model}-seed{seed}"))
    }

    /// The run that tries a learning rate.
    pub fn trial_run(&self, model: &str, lr_peak: f64) -> PathBuf {
        self.path.join("runs").join(format!("{model}-trial-lr{lr_peak}"))
    }

    fn reading_file(&self, arm: &str, seed: u64) -> PathBuf {
        self.path.join("readings").join(format!("{arm}-seed{seed}.json"))
    }

    fn costs_file(&self, seed: u64) -> PathBuf {
        self.path.join("readings/costs").join(format!("seed{seed}.json"))
    }

    fn trial_file(&self, model: &str, lr_peak: f64) -> PathBuf {
        self.path.join("readings/trials").join(format!("{model}-lr{lr_peak}.json"))
    }

    /// What an arm did for a seed, if it is known.
    ///
    /// # Errors
    /// If the file is damaged.
    pub fn reading<T: Task>(&self, arm: &str, seed: u64) -> Result<Option<Reading<T>>> {
        read(&self.reading_file(arm, seed), "what an arm did")
    }

    pub(super) fn save_reading<T: Task>(&self, reading: &Reading<T>) -> Result<()> {
        write(&self.reading_file(&reading.arm, reading.seed), reading)
    }

    /// What an image or a step cost under each arm for a seed, if it is known.
    ///
    /// # Errors
    /// If the file is damaged.
    pub fn costs(&self, seed: u64) -> Result<Option<SeedCosts>> {
        read(&self.costs_file(seed), "what arms cost")
    }

    pub(super) fn save_costs(&self, costs: &SeedCosts) -> Result<()> {
        write(&self.costs_file(costs.seed), costs)
    }

    /// What a learning rate gave, if it is known.
    ///
    /// # Errors
    /// If the file is damaged.
    pub fn trial(&self, model: &str, lr_peak: f64) -> Result<Option<Trial>> {
        read(&self.trial_file(model, lr_peak), "the trial of a learning rate")
    }

    pub(super) fn save_trial(&self, trial: &Trial) -> Result<()> {
        write(&self.trial_file(&trial.model, trial.lr_peak), trial)
    }

    fn groups_file(&self, model: &str, seed: u64) -> PathBuf {
        self.path.join("readings/superclasses").join(format!("{model}-seed{seed}.json"))
    }

    /// The super-classes that a model is taught with a seed, if they are known.
    ///
    /// # Errors
    /// If the file is damaged.
    pub fn groups(&self, model: &str, seed: u64) -> Result<Option<SuperClassFile>> {
        read(&self.groups_file(model, seed), "super-classes")
    }

    pub(super) fn save_groups(&self, model: &str, seed: u64, file: &SuperClassFile) -> Result<()> {
        write(&self.groups_file(model, seed), file)
    }

    /// Writes a text of the results.
    pub(super) fn save_text(&self, name: &str, text: &str) -> Result<()> {
        write_atomic(&self.path.join(name), |file| file.write_all(text.as_bytes()))
    }
}

pub(super) fn read<T: DeserializeOwned>(path: &Path, expected: &str) -> Result<Option<T>> {
    match fs::read(path) {
        Err(missing) if missing.kind() == ErrorKind::NotFound => Ok(None),
        bytes => serde_json::from_slice(&bytes.map_err(Error::io("read", path))?)
            .map(Some)
            .map_err(|error| Error::format(path, expected, error.to_string())),
    }
}

pub(super) fn write(path: &Path, value: &impl Serialize) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    }
    write_atomic(path, |file| {
        serde_json::to_writer_pretty(&mut *file, value)?;
        writeln!(file)
    })
}
