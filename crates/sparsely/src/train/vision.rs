//! Runs on images.

use super::language::is_language;
use super::run::{self, Run};
use super::task::{Beginning, Task};
use super::{Learner, Observer, Outcome, RunConfig, StepReport, TrainConfig, Trainer};
use crate::checkpoint::RunFolder;
use crate::cost::{Call, ModelCost};
use crate::data::{Batch, Dataset, Loader, LoaderConfig, Split};
use crate::eval::{Evaluation, SavedModel, evaluate};
use crate::model::{ModelConfig, Vit};
use crate::moe::RouterStats;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sparsely_tensor::Params;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What a model does not see of its images.
fn unseen_pixels(model: &ModelConfig) -> Option<String> {
    let (size, patch) = (model.image_size, model.patch_size);
    (!size.is_multiple_of(patch)).then(|| {
        format!(
            "patches of {patch} do not divide images of {size}×{size}: the last {} rows and columns of \
             pixels are not seen",
            size % patch
        )
    })
}

/// The best model so far, by validation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Best {
    top1: f64,
    loss: f64,
    step: u64,
}

impl Best {
    /// More right answers, or as many at a lower loss.
    fn is_beaten_by(best: Option<&Best>, by: &Best) -> bool {
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
    let text = config.to_toml()?;
    let task = Images::new(config, dataset)?;
    let folder = RunFolder::create(out, root)?;
    folder.save_config(&text)?;
    Run::new(task).train(&folder, None, (stop, observer))
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
    Run::new(Images::new(config, dataset)?).train(&folder, state, (stop, observer))
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
        match run::machine_memory() {
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
        if is_language(text) {
            let got = "one on text (sparsely eval, score and generate take it)";
            return Err(Error::format(path, "the configuration of a run on images", got));
        }
        toml::from_str(text)
            .map_err(|e| Error::format(path, "the configuration of a run", e.message()))
    }
}

/// A vision transformer that learns to name images.
struct Images {
    config: RunConfig,
    dataset: Arc<Dataset>,
    loader: Loader,
    trainer: Trainer,
}

impl Images {
    fn new(config: RunConfig, dataset: Arc<Dataset>) -> Result<Images> {
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
        Ok(Images { config, dataset, loader, trainer })
    }

    fn evaluate(&self, split: &Split) -> Result<Evaluation> {
        let Trainer { model, learner, .. } = &self.trainer;
        self.judged(model, &learner.params, split)
    }

    fn judged<'a>(
        &self,
        model: &Vit,
        params: impl Into<Params<'a>>,
        split: &Split,
    ) -> Result<Evaluation> {
        let loss = self.config.train.loss.into();
        let mut evaluation = evaluate(model, params, split, &self.config.eval, loss)?;
        if let Some(task) = self.config.train.router_task(&self.dataset.class_names)? {
            evaluation.judge_router(&task.groups_v, split.labels());
        }
        Ok(evaluation)
    }
}

impl Images {
    /// The model's parameters and what an image costs.
    fn size(&self) -> String {
        // What cannot be counted was refused before.
        let cost = ModelCost::of(&self.config.model, &Call::balanced(1));
        cost.map_or_else(
            |_| String::new(),
            |cost| {
                let macs = cost.macs() as f64 / 1e6;
                format!("; {} parameters, {macs:.1} M MACs an image", cost.params())
            },
        )
    }
}

impl Task for Images {
    type Batch = Batch;
    type Evaluation = Evaluation;
    type Best = Best;

    fn train(&self) -> &TrainConfig {
        &self.config.train
    }

    fn learner(&self) -> &Learner {
        &self.trainer.learner
    }

    fn learner_mut(&mut self) -> &mut Learner {
        &mut self.trainer.learner
    }

    fn steps_per_epoch(&self) -> u64 {
        self.loader.steps_per_epoch()
    }

    fn beginning(&self) -> Beginning {
        Beginning {
            data: format!("{}{}", self.dataset, self.size()),
            notice: unseen_pixels(&self.config.model),
            step_size: self.config.train.batch_size,
            unit: "images",
        }
    }

    fn batches(&self, from: u64, to: u64) -> Box<dyn Iterator<Item = Result<Batch>>> {
        Box::new(self.loader.prefetch(from, to))
    }

    fn step(&mut self, step: u64, batch: &Batch) -> Result<StepReport> {
        self.trainer.step(step, batch)
    }

    fn line(&self, report: &StepReport, seconds: f64) -> Value {
        line(report, self.config.train.batch_size, seconds)
    }

    fn validate(&self) -> Result<Evaluation> {
        self.evaluate(&self.dataset.validation)
    }

    fn best(&self, evaluation: &Evaluation, step: u64) -> Best {
        Best { top1: evaluation.top1, loss: evaluation.loss, step }
    }

    /// Without validation images the last model is as good as any.
    fn is_best(&self, evaluation: &Evaluation, now: &Best, best: Option<&Best>) -> bool {
        evaluation.n == 0 || Best::is_beaten_by(best, now)
    }

    fn validation_line(&self, evaluation: &Evaluation, is_best: bool) -> Value {
        json!({
            "validation_top1": evaluation.top1, "validation_loss": evaluation.loss, "best": is_best,
            "validation_router_top1": evaluation.router_top1,
        })
    }

    fn summary(&self, evaluation: &Evaluation) -> String {
        if evaluation.n == 0 {
            return "of no images: none are held out".into();
        }
        format!("top-1 {:.1} %  loss {:.4}", 100.0 * evaluation.top1, evaluation.loss)
    }

    fn save_model(&self, step: u64, folder: &RunFolder) -> Result<()> {
        let saved = SavedModel {
            model: self.config.model.clone(),
            class_names: self.dataset.class_names.clone(),
            step,
            imported_from: None,
        };
        saved.save(folder, &self.trainer.learner.params)
    }

    fn finish(&self, folder: &RunFolder) -> Result<(Evaluation, Value)> {
        let (saved, model, params) = SavedModel::open(folder)?;
        let evaluation = self.judged(&model, &params, &self.dataset.test)?;
        let line = json!({
            "best_step": saved.step, "test_top1": evaluation.top1, "test_top5": evaluation.top5,
            "test_loss": evaluation.loss, "test_n": evaluation.n,
            "test_router_top1": evaluation.router_top1,
        });
        Ok((evaluation, line))
    }
}

fn line(report: &StepReport, batch_size: usize, seconds: f64) -> serde_json::Value {
    let mean = |of| report.mean(of);
    let errors = report.stats.iter().filter_map(|(_, stats)| stats.marginal_error);
    let worst = errors.reduce(f64::max);
    json!({
        "loss": report.loss,
        "task_loss": report.task_loss,
        "router_loss": report.router_loss,
        "lr": report.lr,
        "grad_norm": report.grad_norm,
        "images_per_second": batch_size as f64 / seconds,
        "imbalance": mean(RouterStats::imbalance),
        "load_variation": mean(RouterStats::load_variation),
        "router_entropy": mean(RouterStats::entropy),
        "dropped_share": mean(RouterStats::dropped_share),
        "unserved_share": mean(RouterStats::unserved_share),
        "experts_per_image": mean(RouterStats::experts_per_image),
        "marginal_error": worst,
    })
}
