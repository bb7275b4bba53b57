//! `sparsely eval`.

use super::{Trained, dial};
use crate::args::{EvalArgs, SplitArg};
use anyhow::{Result, bail};
use serde_json::json;
use sparsely::data::Dataset;
use sparsely::eval::{Evaluation, evaluate};
use std::process::ExitCode;

pub(crate) fn run(args: &EvalArgs) -> Result<ExitCode> {
    let Trained { mut config, saved, model, params } = Trained::load(&args.run)?;
    if let Some(data) = &args.data {
        config.data.source.clone_from(data);
    }
    config.eval.dial = dial(&args.dial, model.config(), config.eval.dial)?;
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
    if dataset.class_names != saved.class_names {
        bail!(
            "the model knows the classes {}; the data have {}",
            saved.class_names.join(", "),
            dataset.class_names.join(", ")
        );
    }
    let (name, split) = match args.split {
        SplitArg::Train => ("train", &dataset.train),
        SplitArg::Validation => ("validation", &dataset.validation),
        SplitArg::Test => ("test", &dataset.test),
    };
    let evaluation = evaluate(&model, &params, split, &config.eval, config.train.loss.into())?;
    if args.json {
        let mut line = json!({ "split": name, "step": saved.step });
        line.as_object_mut().expect("an object").extend(fields(&evaluation));
        say!("{line}");
    } else {
        print(name, &evaluation);
    }
    Ok(ExitCode::SUCCESS)
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
             {:.2}{plan}, capacity factor {:.2}, load {:?}",
            layer.block,
            100.0 * layer.dropped_share,
            100.0 * layer.unserved_share,
            layer.imbalance,
            layer.load_variation,
            layer.entropy,
            layer.actual_capacity_factor,
            layer.asked
        );
    }
    say!("dropped {:.1} %", 100.0 * evaluation.dropped_share);
    say!("{name} top-1 {:.1} % (n={})", 100.0 * evaluation.top1, evaluation.n);
}
