//! A whole run: data, steps, validation, checkpoints, the final evaluation.

use super::{Interval, RunConfig, StepReport, Trainer};
use crate::checkpoint::{MetricsWriter, RunFolder, State};
use crate::cost::{Call, ModelCost};
use crate::data::{Dataset, Loader, LoaderConfig, Split};
use crate::eval::{Evaluation, SavedModel, evaluate, with_arrays};
use crate::model::Vit;
use crate::moe::RouterStats;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Prefixes of the slabs in a saved state.
const PARAMS: &str = "params/";
const FIRST: &str = "first/";
const SECOND: &str = "second/";

/// Whom a run tells what it does.
pub trait Observer {
    /// Before the first step.
    fn begin(
        &mut self,
        _config: &RunConfig,
        _dataset: &Dataset,
        _folder: &Path,
        _from: u64,
        _to: u64,
    ) {
    }
    /// After each step.
    fn step(&mut self, _report: &StepReport) {}
    /// After each look at the validation images; whether it was the best so far.
    fn validated(&mut self, _step: u64, _evaluation: &Evaluation, _is_best: bool) {}
}

/// How a run ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// With all its steps; the best model by validation, on the test images.
    Finished(Evaluation),
    /// Early, because it was asked to, with its state saved after that many steps.
    Stopped {
        /// Steps that are done.
        step: u64,
    },
}

/// The best model so far, by validation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Best {
    top1: f64,
    loss: f64,
    step: u64,
}

impl Best {
    /// More right answers, or as many at a lower loss.
    fn is_beaten_by(best: Option<Best>, by: &Best) -> bool {
        best.is_none_or(|best| by.top1 > best.top1 || by.top1 == best.top1 && by.loss < best.loss)
    }
}

/// Begins a run in a folder of its own: `out`, or the next number in `root`.
///
/// Settings, data and model are checked before the folder is made.
///
/// # Errors
/// If a setting, the data or the folder cannot be used.
pub fn start(
    mut config: RunConfig,
    out: Option<&Path>,
    root: &Path,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    let dataset = config.open_data()?;
    config.validate()?;
    config.check_memory()?;
    let run = Run::new(config, dataset)?;
    let folder = RunFolder::create(out, root)?;
    folder.save_config(&run.config.to_toml()?)?;
    run.train(&folder, None, stop, observer)
}

/// Goes on with a run from its last checkpoint, or from its beginning if it has none.
///
/// # Errors
/// If the folder does not hold a run, its checkpoint is damaged, or the data have changed.
pub fn resume(path: &Path, stop: &AtomicBool, observer: &mut dyn Observer) -> Result<Outcome> {
    let folder = RunFolder::open(path)?;
    let json = folder.model_json()?.unwrap_or_default();
    if !json["imported_from"].is_null() {
        let got = "an imported model, which there is no state of to go on from";
        return Err(Error::format(path, "a run that was trained", got));
    }
    let mut config = RunConfig::from_toml(&folder.config()?, &folder.config_path())?;
    let written = config.model.clone();
    let dataset = config.open_data()?;
    if config.model != written {
        let shape = |m: &crate::model::ModelConfig| {
            format!("{0}×{0}×{1} images of {2:?} classes", m.image_size, m.channels, m.num_classes)
        };
        return Err(Error::format(
            &folder.config_path(),
            format!("the data that the run began with, {}", shape(&written)),
            shape(&config.model),
        ));
    }
    config.validate()?;
    let state = folder.load_state()?;
    Run::new(config, dataset)?.train(&folder, state, stop, observer)
}

impl RunConfig {
    /// Opens the data and takes over what they decide about the model.
    fn open_data(&mut self) -> Result<Arc<Dataset>> {
        let dataset = Dataset::open(&self.data, self.data.image_size, self.seed)?;
        self.model.image_size = dataset.image_size;
        self.model.channels = dataset.channels;
        self.model.num_classes = Some(dataset.class_names.len());
        Ok(Arc::new(dataset))
    }

    /// Refuses what the machine's memory cannot hold, where the system tells how much there is.
    fn check_memory(&self) -> Result<()> {
        let batch = self.train.batch_size;
        let cost = ModelCost::of(&self.model, &Call::balanced(batch))?;
        let needed = cost.training_memory().total();
        match machine_memory() {
            Some(memory) if needed > memory => {
                let gigabytes = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
                Err(Error::Argument {
                    op: "train",
                    expected: format!("what {} of memory can hold", gigabytes(memory)),
                    got: format!(
                        "{} parameters, which need {} at a batch size of {batch}",
                        cost.params(),
                        gigabytes(needed)
                    ),
                })
            }
            _ => Ok(()),
        }
    }

    /// As `config.toml` holds it.
    ///
    /// # Errors
    /// Never for a configuration that was read.
    pub fn to_toml(&self) -> Result<String> {
        let mut text = format!("# sparsely {}\n", env!("CARGO_PKG_VERSION"));
        text += &toml::to_string(self).map_err(|e| Error::config(e.to_string()))?;
        Ok(text)
    }

    /// Reads `config.toml`; `path` is named in errors.
    ///
    /// # Errors
    /// If it is not a configuration.
    pub fn from_toml(text: &str, path: &Path) -> Result<RunConfig> {
        toml::from_str(text)
            .map_err(|e| Error::format(path, "the configuration of a run", e.message()))
    }
}

/// Bytes of memory of this machine.
fn machine_memory() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

struct Run {
    config: RunConfig,
    dataset: Arc<Dataset>,
    loader: Loader,
    trainer: Trainer,
    total_steps: u64,
    best: Option<Best>,
}

impl Run {
    fn new(config: RunConfig, dataset: Arc<Dataset>) -> Result<Run> {
        let loader = Loader::new(
            dataset.clone(),
            LoaderConfig {
                batch_size: config.train.batch_size,
                augment: config.data.augment.clone(),
                seed: config.seed,
            },
        )?;
        let total_steps = config.train.length.steps(loader.steps_per_epoch());
        let (model, params) = Vit::init(&config.model, config.seed)?;
        let trainer = Trainer::new(model, params, config.train.clone(), config.seed, total_steps)
            .with_router_task(config.train.router_task(&dataset.class_names)?);
        Ok(Run { config, dataset, loader, trainer, total_steps, best: None })
    }

    fn train(
        mut self,
        folder: &RunFolder,
        state: Option<State>,
        stop: &AtomicBool,
        observer: &mut dyn Observer,
    ) -> Result<Outcome> {
        let from = state.as_ref().map_or(0, |state| state.step);
        if let Some(state) = state {
            self.restore(&state, folder)?;
        }
        folder.truncate_metrics_after(from)?;
        let mut metrics = folder.metrics()?;
        observer.begin(&self.config, &self.dataset, folder.path(), from, self.total_steps);
        let validate_steps = self.config.train.validate_every.steps(self.loader.steps_per_epoch());
        let mut last_save = Instant::now();
        if from < self.total_steps && stop.load(Ordering::Relaxed) {
            return Ok(Outcome::Stopped { step: from });
        }
        for (step, batch) in
            (from..self.total_steps).zip(self.loader.prefetch(from, self.total_steps))
        {
            let begin = Instant::now();
            let report = self.trainer.step(step, &batch?)?;
            let done = step + 1;
            if done % self.config.train.log_steps == 0 || done == self.total_steps {
                metrics.append(&line(&report, self.config.train.batch_size, begin))?;
            }
            observer.step(&report);
            if done % validate_steps == 0 || done == self.total_steps {
                self.validate(done, folder, &mut metrics, observer)?;
            }
            let stops = stop.load(Ordering::Relaxed) && done < self.total_steps;
            let due = match self.config.train.checkpoint_every {
                Interval::Steps { n } => done % n == 0,
                Interval::Seconds { n } => last_save.elapsed().as_secs() >= n,
            };
            if due || stops || done == self.total_steps {
                self.save_state(done, folder)?;
                last_save = Instant::now();
            }
            if stops {
                return Ok(Outcome::Stopped { step: done });
            }
        }
        // A run that had finished before has its last line.
        let is_new = from < self.total_steps;
        self.finish(folder, is_new.then_some(&mut metrics))
    }

    fn validate(
        &mut self,
        step: u64,
        folder: &RunFolder,
        metrics: &mut MetricsWriter,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let Trainer { model, params, .. } = &self.trainer;
        let loss = self.config.train.loss.into();
        let split = &self.dataset.validation;
        let mut evaluation = evaluate(model, params, split, &self.config.eval, loss)?;
        self.judge_router(&mut evaluation, split)?;
        let now = Best { top1: evaluation.top1, loss: evaluation.loss, step };
        // Without validation images the last model is as good as any.
        let is_best = evaluation.n == 0 || Best::is_beaten_by(self.best, &now);
        if is_best {
            self.best = Some(now);
            self.description(step).save(folder, params)?;
        }
        metrics.append(&json!({
            "step": step, "validation_top1": now.top1, "validation_loss": now.loss, "best": is_best,
            "validation_router_top1": evaluation.router_top1,
        }))?;
        observer.validated(step, &evaluation, is_best);
        Ok(())
    }

    fn judge_router(&self, evaluation: &mut Evaluation, split: &Split) -> Result<()> {
        if let Some(task) = self.config.train.router_task(&self.dataset.class_names)? {
            evaluation.judge_router(&task.groups_v, split.labels());
        }
        Ok(())
    }

    fn description(&self, step: u64) -> SavedModel {
        SavedModel {
            model: self.config.model.clone(),
            class_names: self.dataset.class_names.clone(),
            step,
            imported_from: None,
        }
    }

    /// Evaluates the best model by validation on the test images.
    fn finish(self, folder: &RunFolder, metrics: Option<&mut MetricsWriter>) -> Result<Outcome> {
        let (saved, model, params) = SavedModel::open(folder)?;
        let loss = self.config.train.loss.into();
        let split = &self.dataset.test;
        let mut evaluation = evaluate(&model, &params, split, &self.config.eval, loss)?;
        self.judge_router(&mut evaluation, split)?;
        if let Some(metrics) = metrics {
            metrics.append(&json!({
                "step": self.total_steps, "best_step": saved.step, "test_top1": evaluation.top1,
                "test_top5": evaluation.top5, "test_loss": evaluation.loss, "test_n": evaluation.n,
                "test_router_top1": evaluation.router_top1,
            }))?;
        }
        Ok(Outcome::Finished(evaluation))
    }

    fn save_state(&self, step: u64, folder: &RunFolder) -> Result<()> {
        let Trainer { params, moments, .. } = &self.trainer;
        let slabs = [(PARAMS, params), (FIRST, &moments.first), (SECOND, &moments.second)];
        with_arrays(&slabs, |arrays| folder.save_state(step, arrays, json!({ "best": self.best })))
    }

    fn restore(&mut self, state: &State, folder: &RunFolder) -> Result<()> {
        let damaged =
            |got: String| Error::format(&folder.path().join("state"), "the state of this run", got);
        self.best = serde_json::from_value(state.extra["best"].clone())
            .map_err(|e| damaged(e.to_string()))?;
        let Trainer { params, moments, .. } = &mut self.trainer;
        for (prefix, slab) in
            [(PARAMS, params), (FIRST, &mut moments.first), (SECOND, &mut moments.second)]
        {
            for view in slab.layout().clone().views() {
                let name = format!("{prefix}{}", view.name);
                let array =
                    state.arrays.get(&name).ok_or_else(|| damaged(format!("none of `{name}`")))?;
                let target = slab.view_mut(&view.param);
                if array.values.len() != target.len() {
                    return Err(damaged(format!("`{name}` of shape {:?}", array.shape)));
                }
                target.copy_from_slice(&array.values);
            }
        }
        Ok(())
    }
}

fn line(report: &StepReport, batch_size: usize, begin: Instant) -> serde_json::Value {
    let mean = |f: fn(&RouterStats) -> f64| {
        let values: Vec<f64> = report.stats.iter().map(|(_, stats)| f(stats)).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let errors = report.stats.iter().filter_map(|(_, stats)| stats.marginal_error);
    let worst = errors.reduce(f64::max);
    json!({
        "step": report.step + 1,
        "loss": report.loss,
        "task_loss": report.task_loss,
        "router_loss": report.router_loss,
        "lr": report.lr,
        "grad_norm": report.grad_norm,
        "images_per_second": batch_size as f64 / begin.elapsed().as_secs_f64(),
        "imbalance": mean(RouterStats::imbalance),
        "load_variation": mean(RouterStats::load_variation),
        "router_entropy": mean(RouterStats::entropy),
        "dropped_share": mean(RouterStats::dropped_share),
        "unserved_share": mean(RouterStats::unserved_share),
        "experts_per_image": mean(RouterStats::experts_per_image),
        "marginal_error": worst,
    })
}
