//! `sparsely eval`.

use super::language::{self, is_language_run};
use super::{Trained, dial, sweep};
use crate::args::{EvalArgs, SplitArg};
use anyhow::{Result, bail};
use serde_json::json;
use sparsely::data::Dataset;
use sparsely::eval::{Evaluation, SavedModel, evaluate};
use std::process::ExitCode;

pub(crate) fn run(args: &EvalArgs) -> Result<ExitCode> {
    if is_language_run(&args.run)? {
        return language::eval(args);
    }
    if args.usage.is_some() {
        bail!("--usage is of language models");
    }
    let mut trained = Trained::open(&args.run, &args.precision)?;
    let Trained { config, saved, model, .. } = &mut trained;
    if let Some(data) = &args.data {
        config.data.source.clone_from(data);
    } else if config.data.source.is_empty() {
        bail!("the model was imported without images: name a folder with --data");
    }
    let dial = dial(&args.dial, model.config(), &config.eval.dial)?;
    if let Some(batch) = args.batch {
        config.eval.batch_size = batch.get();
    }
    if let Some(watts) = args.watts_per_core {
        config.eval.watts_per_core = watts;
    }
    let dataset = Dataset::open(&config.data, Some(saved.model.image_size), config.seed)?;
    if dataset.channels != saved.model.channels {
        bail!(
            "the model sees {} channels, the data have {}",
            saved.model.channels,
            dataset.channels
        );
    }
    check_classes(saved, &dataset.class_names)?;
    let unless_told = if args.sweep.sweep { SplitArg::Validation } else { SplitArg::Test };
    let (name, split) = match args.split.unwrap_or(unless_told) {
        SplitArg::Train => ("train", &dataset.train),
        SplitArg::Validation => ("validation", &dataset.validation),
        SplitArg::Test => ("test", &dataset.test),
    };
    if args.sweep.sweep {
        return sweep::run(args, &trained, (name, split));
    }
    config.eval.dial = dial;
    let Trained { config, saved, model, params } = &trained;
    let mut evaluation = evaluate(model, params, split, &config.eval, config.train.loss.into())?;
    if let Some(task) = config.train.router_task(&saved.class_names)? {
        evaluation.judge_router(&task.groups_v, split.labels());
    }
    if args.json {
        let mut line = json!({ "split": name, "step": saved.step });
        line.as_object_mut().expect("an object").extend(fields(&evaluation));
        say!("{line}");
    } else {
        print(name, &evaluation);
    }
    Ok(ExitCode::SUCCESS)
}

/// The data's classes must be the model's; to a model without names any so many are.
fn check_classes(saved: &SavedModel, names: &[String]) -> Result<()> {
    if saved.class_names.len() != names.len() {
        bail!("the model knows {} classes, the data have {}", saved.class_names.len(), names.len());
    }
    let differs =
        saved.class_names.iter().zip(names).enumerate().find(|(_, (one, other))| one != other);
    match differs {
        Some((class, (known, given))) if saved.has_class_names() => {
            bail!("class {class} is `{known}` to the model and `{given}` in the data")
        }
        _ => Ok(()),
    }
}

fn fields(evaluation: &Evaluation) -> serde_json::Map<String, serde_json::Value> {
    match serde_json::to_value(evaluation) {
        Ok(serde_json::Value::Object(fields)) => fields,
        _ => unreachable!("an evaluation is an object of numbers"),
    }
}

fn print(name: &str, evaluation: &Evaluation) {
    say!("top-5 {:.1} %", 100.0 * evaluation.top5);
    say!("loss {:.4}", evaluation.loss);
    say!("time {:.3} ms/image", 1e3 * evaluation.seconds_per_image);
    let (millijoules, source) = (1e3 * evaluation.joules_per_image, evaluation.energy_source);
    say!("energy {millijoules:.3} mJ/image, {source}");
    for layer in &evaluation.layers {
        let plan = layer
            .marginal_error
            .map_or(String::new(), |error| format!(", marginals {:.2} % off", 100.0 * error));
        say!(
            "block {}: dropped {:.1} %, unserved {:.1} %, imbalance {:.2}, load variation {:.2}, entropy \
             {:.2}{plan}, capacity factor {:.2}, {:.2} of {} experts an image, load {:?}",
            layer.block,
            100.0 * layer.dropped_share,
            100.0 * layer.unserved_share,
            layer.imbalance,
            layer.load_variation,
            layer.entropy,
            layer.actual_capacity_factor,
            layer.experts_per_image,
            layer.asked.len(),
            layer.asked
        );
    }
    say!("dropped {:.1} %", 100.0 * evaluation.dropped_share);
    if let Some(top1) = evaluation.router_top1 {
        say!("router top-1 {:.1} %", 100.0 * top1);
    }
    say!("{name} top-1 {:.1} % (n={})", 100.0 * evaluation.top1, evaluation.n);
}
