//! Studies of images: vision transformers that are compared by their accuracy.

mod found;
mod learned;
mod report;
mod size;
mod taught;

pub(in crate::study) use found::flops_per_image;
pub use found::{Answers, ImagesFound, Weights};
pub use size::Least;
pub use taught::SuperClasses;

use self::learned::Learned;
use super::plot::CostAxis;
use super::rate::{now, time_models, time_steps};
use super::statistics::Unit;
use super::{
    Arm, ArmResult, ArmRouting, Cell, Column, Fitted, Folder, Matched, Model, Rate, Results,
    SeedResult, Sizes, Study, Task, Tested, Validated, Words,
};
use crate::Result;
use crate::checkpoint::RunFolder;
use crate::cost::{Call, ModelCost, forward_flops};
use crate::data::{DataConfig, Dataset, Loader, LoaderConfig};
use crate::eval::{
    EvalConfig, ImageCost, Meter, Subject, TimingConfig, cost_in_turn, evaluate, lcm,
};
use crate::model::{ModelConfig, Vit};
use crate::moe::Dial;
use crate::superclass::groups_of;
use crate::train::{self, Observer, Outcome, RunConfig, Trainer};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// Batches of each arm when the machine is measured.
const ROUNDS: usize = 3;
/// Percentage points of a share.
const POINTS: f64 = 100.0;

/// Images, which models name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Images {}

impl Images {
    /// How models are evaluated, but for the dial.
    pub(super) fn eval_config(study: &Study) -> EvalConfig {
        EvalConfig {
            batch_size: study.timing.batch_size,
            watts_per_core: study.watts_per_core,
            ..EvalConfig::default()
        }
    }

    fn rate(study: &Study, dataset: &Arc<Dataset>) -> Result<Rate> {
        let begin = Instant::now();
        Dataset::open(&study.data, study.data.image_size, 0)?;
        let seconds_to_open = begin.elapsed().as_secs_f64();
        let timed = time_models(study, |model| {
            let augment = study.data.augment.clone();
            let config = LoaderConfig { batch_size: model.train.batch_size, augment, seed: 0 };
            let loader = Loader::new(dataset.clone(), config)?;
            let (vit, params) = Vit::init(&model.model, 0)?;
            let mut trainer = Trainer::new(vit, params, model.train.clone(), 0, u64::MAX);
            let seconds = time_steps(|index| {
                let batch = loader.batch_at(index)?;
                let begin = Instant::now();
                trainer.step(index, &batch)?;
                Ok(begin)
            })?;
            Ok((seconds, trainer))
        })?;
        let subjects = study.arms.iter().map(|arm| {
            let Trainer { model, learner, .. } = &timed[&arm.model].1;
            Subject { model, params: (&learner.params).into(), dial: arm.dial.clone() }
        });
        let config = TimingConfig { rounds: ROUNDS, ..study.timing };
        let meter = Meter::open(study.watts_per_core);
        let costs = cost_in_turn(&subjects.collect::<Vec<_>>(), &dataset.test, &config, &meter)?;
        let names = study.arms.iter().map(|arm| arm.name.clone());
        Ok(Rate {
            date: now(),
            threads: rayon::current_num_threads(),
            seconds_per_step: timed
                .iter()
                .map(|(name, (seconds, _))| (name.clone(), *seconds))
                .collect(),
            seconds_per_unit: names.zip(costs.iter().map(|cost| cost.seconds)).collect(),
            seconds_to_open,
        })
    }
}

impl Task for Images {
    type Data = DataConfig;
    type Model = ModelConfig;
    type Dial = Dial;
    type Least = Least;
    type Run = RunConfig;
    type Held = Dataset;
    type Learned = Learned;
    type Found = ImagesFound;
    type Scores = Answers;

    const WORDS: Words = Words {
        data: "images",
        batch: "images",
        units: "images",
        drawn: "images that compete for seats are drawn together, {} at a time",
        score: "top-1 accuracy",
        heading: "top-1 %",
        axis: "top-1 accuracy (%)",
        keys: ["top1_percent", "top1_over_seeds"],
        difference: ["points", "percentage points of top-1 accuracy", "points"],
        digits: 2,
        range: [0.0, 100.0],
        picture: ["accuracy", "accuracy"],
        timed: "image",
    };
    const MATCHED: Matched = Matched::TrainingFlops;
    const HAS_DIAL: bool = true;

    fn source(data: &DataConfig) -> &str {
        &data.source
    }

    fn source_mut(data: &mut DataConfig) -> &mut String {
        &mut data.source
    }

    fn is_embedded(source: &str) -> bool {
        source == "digits"
    }

    fn least_seeds(least: &Least) -> usize {
        least.seeds
    }

    fn steps_per_epoch(model: &Model, sizes: &Sizes) -> u64 {
        (sizes.train / model.train.batch_size.max(1)) as u64
    }

    fn problems(study: &Study, sizes: &Sizes) -> Vec<String> {
        size::problems(study, sizes)
    }

    fn training_cost(model: &ModelConfig, batch: usize) -> Result<(f64, u64)> {
        let cost = ModelCost::of(model, &Call::balanced(batch))?;
        Ok((cost.training_flops() as f64, cost.params()))
    }

    fn forward_cost(study: &Study, arm: &Arm) -> Result<[String; 2]> {
        let flops = forward_flops(&study.model(&arm.model)?.model, &arm.dial)?;
        Ok([format!("{:8.2} MFLOP/image", flops / 1e6), "image".into()])
    }

    fn smaller(fitted: &Fitted) -> Vec<Fitted> {
        size::smaller(fitted)
    }

    fn timed_units(study: &Study) -> usize {
        (study.timing.rounds + 1) * study.timing.batch_size
    }

    /// As the first seed splits the data.
    fn look(study: &mut Study) -> Result<(Sizes, Rate)> {
        let seed = study.seeds.first().copied().unwrap_or(0);
        let dataset = Arc::new(Dataset::open(&study.data, study.data.image_size, seed)?);
        for model in &mut study.models {
            model.model.image_size = dataset.image_size;
            model.model.channels = dataset.channels;
            model.model.num_classes = Some(dataset.class_names.len());
        }
        let sizes = Sizes::of(&dataset);
        study.check(&sizes)?;
        Ok((sizes, Images::rate(study, &dataset)?))
    }

    fn run_config(study: &Study, model: &Model, seed: u64) -> RunConfig {
        RunConfig {
            seed,
            data: study.data.clone(),
            model: model.model.clone(),
            train: model.train.clone(),
            eval: Images::eval_config(study),
        }
    }

    fn validate(run: &RunConfig) -> Result<()> {
        run.validate()
    }

    fn read_config(folder: &RunFolder) -> Result<RunConfig> {
        RunConfig::from_toml(&folder.config()?, &folder.config_path())
    }

    fn start(
        config: RunConfig,
        path: &Path,
        root: &Path,
        stop: &AtomicBool,
        observer: &mut dyn Observer,
    ) -> Result<bool> {
        let outcome = train::start(config, Some(path), root, stop, observer)?;
        Ok(matches!(outcome, Outcome::Finished(_)))
    }

    fn resume(path: &Path, stop: &AtomicBool, observer: &mut dyn Observer) -> Result<bool> {
        Ok(matches!(train::resume(path, stop, observer)?, Outcome::Finished(_)))
    }

    fn load(path: &Path) -> Result<Learned> {
        Learned::load(path)
    }

    fn hold(study: &Study, seed: u64) -> Result<Dataset> {
        Dataset::open(&study.data, study.data.image_size, seed)
    }

    fn prepare(
        study: &Study,
        folder: &Folder,
        model: (&Model, u64),
        dataset: &Dataset,
    ) -> Result<()> {
        taught::find_groups(study, folder, model, dataset)
    }

    fn taught(run: RunConfig, folder: &Folder, model: &str, seed: u64) -> Result<RunConfig> {
        Ok(taught::teach(run, folder.groups(model, seed)?.as_ref()))
    }

    fn validated(learned: &Learned, run: &RunConfig) -> Result<Validated> {
        let Learned { model, params, .. } = learned;
        let dataset = Dataset::open(&run.data, run.data.image_size, run.seed)?;
        let loss = run.train.loss.into();
        let found = evaluate(model, params, &dataset.validation, &run.eval, loss)?;
        Ok(Validated { top1: Some(found.top1), loss: found.loss })
    }

    fn read(
        study: &Study,
        folder: &Folder,
        (arm, seed): (&Arm, u64),
        learned: &Learned,
        dataset: &Dataset,
    ) -> Result<Tested<Images>> {
        let Learned { description, model, params } = learned;
        let config = EvalConfig { dial: arm.dial.clone(), ..Images::eval_config(study) };
        let loss = study.model(&arm.model)?.train.loss.into();
        let mut found = evaluate(model, params, &dataset.test, &config, loss)?;
        if let Some(file) = folder.groups(&arm.model, seed)? {
            let groups_v = groups_of(&dataset.class_names, &file.groups())?;
            found.judge_router(&groups_v, dataset.test.labels());
        }
        Ok(Tested {
            step: description.step,
            loss: found.loss,
            found: ImagesFound {
                dropped_share: found.dropped_share,
                flops_per_image: flops_per_image(model, &config, &found)?,
                weights: Some(Weights::of(model.config(), &found)?),
                layers: found.layers,
            },
            scores: Answers { is_right: found::as_digits(&found.is_right) },
        })
    }

    fn measure(
        study: &Study,
        learned: &BTreeMap<&str, Learned>,
        dataset: &Dataset,
        meter: &Meter,
    ) -> Result<Vec<ImageCost>> {
        let subjects = study.arms.iter().map(|arm| {
            let Learned { model, params, .. } = &learned[arm.model.as_str()];
            Subject { model, params: params.into(), dial: arm.dial.clone() }
        });
        cost_in_turn(&subjects.collect::<Vec<_>>(), &dataset.test, &study.timing, meter)
    }

    fn units(scores: &Answers) -> Vec<Unit> {
        scores.scores().map(|score| Unit::single(POINTS * score)).collect()
    }

    fn tested(scores: &Answers) -> usize {
        scores.is_right.len()
    }

    /// Images that compete for the same seats.
    fn units_together(study: &Study, arms: [&Arm; 2]) -> Result<usize> {
        let mut together = 1;
        for arm in arms {
            let config = EvalConfig { dial: arm.dial.clone(), ..Images::eval_config(study) };
            let model = study.model(&arm.model)?;
            together = lcm(together, config.group_images(&model.model)?);
        }
        Ok(together)
    }

    fn mean(of_seeds: &[&ImagesFound]) -> ImagesFound {
        ImagesFound::mean(of_seeds)
    }

    fn routing(study: &Study, arm: &Arm) -> Result<Option<ArmRouting>> {
        let moe = study.model(&arm.model)?.model.moe.as_ref();
        Ok(moe.map(|moe| ArmRouting::of(moe, &arm.dial)))
    }

    fn cells(seed: &SeedResult) -> Vec<Cell> {
        report::cells(&seed.found)
    }

    fn columns() -> Vec<Column<Images>> {
        report::COLUMNS.to_vec()
    }

    fn axes() -> Vec<CostAxis<Images>> {
        report::axes().into()
    }

    fn timing(study: &Study, threads: &str) -> String {
        format!(
            "Time: median over {} rounds in which all arms took turns on the same batches of {} images, \
             {threads} threads, decoding not counted.",
            study.timing.rounds, study.timing.batch_size
        )
    }

    fn sections(results: &Results) -> String {
        report::sections(results)
    }

    fn train_command(run: &RunConfig, out: &Path) -> Result<String> {
        super::train_command(run, out)
    }

    fn eval_flags(study: &Study, arm: &ArmResult) -> Vec<String> {
        let mut words = vec!["--batch".into(), study.timing.batch_size.to_string()];
        words.extend(arm.routing.iter().flat_map(ArmRouting::flags));
        words
    }
}
