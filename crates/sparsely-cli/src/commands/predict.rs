//! `sparsely predict`.

use super::{Trained, dial, sweep};
use crate::ERROR;
use crate::args::PredictArgs;
use crate::memory::{peak_bytes, resident_bytes};
use anyhow::{Context, Result};
use serde_json::json;
use sparsely::checkpoint::RunFolder;
use sparsely::data::{append_scaled, load_image};
use sparsely::eval::{Answer, answers};
use sparsely_tensor::PackedSlab;
use std::path::Path;
use std::process::ExitCode;

pub(crate) fn run(args: &PredictArgs) -> Result<ExitCode> {
    let mut trained = Trained::open(&args.run, &args.precision)?;
    trained.config.eval.dial = match &args.budget.budget {
        Some(budget) => sweep::within_budget(&args.run, &trained, budget)?,
        None => dial(&args.dial, trained.model.config(), &trained.config.eval.dial)?,
    };
    let Trained { config, saved, model, params } = &trained;
    let (size, channels) = (saved.model.image_size, saved.model.channels);

    // A file that cannot be read must not take the others' answers with it.
    let (mut images, mut pixels, mut is_complete) = (Vec::new(), Vec::new(), true);
    for path in &args.images {
        match load_image(path, size, channels) {
            Ok(image) => {
                images.push(path);
                append_scaled(&mut pixels, &image);
            }
            Err(error) => {
                is_complete = false;
                eprintln!("sparsely: {}", crate::one_line(&error.into()));
            }
        }
    }
    let loss = config.train.loss.into();
    let answers = answers(model, params, &pixels, &config.eval, loss)?;
    let taught = config.train.super_classes.as_ref();
    let groups = taught.map_or(&[][..], |taught| &taught.groups);
    for (path, answer) in images.into_iter().zip(&answers) {
        tell(path, answer, (&saved.class_names, groups), args);
    }
    if args.memory {
        eprintln!("{}", memory_line(params, &args.run)?);
    }
    Ok(if is_complete { ExitCode::SUCCESS } else { ExitCode::from(ERROR) })
}

/// Memory against the file: experts that no image asked for are not in it.
fn memory_line(params: &PackedSlab, run: &Path) -> Result<String> {
    let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
    let file = RunFolder::open(run)?.model_path();
    let size = std::fs::metadata(&file)
        .with_context(|| format!("cannot read `{}`", file.display()))?
        .len();
    let usage = params.usage();
    let experts = match usage.stacked {
        0 => String::new(),
        all => format!("; {} of {all} experts' layers used", usage.stacked_used),
    };
    let resident = resident_bytes().map_or("unknown".into(), megabytes);
    let peak = peak_bytes().map_or("unknown".into(), megabytes);
    Ok(format!(
        "sparsely: memory: {resident} resident, {peak} at most; weights {} of a file of {}{experts}",
        megabytes(usage.packed_bytes as u64),
        megabytes(size)
    ))
}

fn tell(
    path: &Path,
    answer: &Answer,
    (names, groups): (&[String], &[Vec<String>]),
    args: &PredictArgs,
) {
    let Answer { probabilities_v, experts_e, visited_experts } = answer;
    let mut order = descending(probabilities_v);
    order.truncate(args.top.get());
    let expert = experts_e.as_ref().map(|experts_e| {
        let expert = descending(experts_e)[0];
        (expert, experts_e[expert])
    });
    if args.json {
        let classes: Vec<_> = order
            .iter()
            .map(|v| json!({ "class": names[*v], "probability": probabilities_v[*v] }))
            .collect();
        let mut line = json!({ "image": path, "classes": classes });
        if !visited_experts.is_empty() {
            line["experts_of_layers"] = visited_experts.clone().into();
        }
        if let Some((expert, probability)) = expert {
            line["expert"] = json!({
                "index": expert, "probability": probability, "super_class": groups.get(expert),
            });
        }
        say!("{line}");
    } else {
        let classes: Vec<_> = order
            .iter()
            .map(|v| format!("{} {:.1} %", names[*v], 100.0 * probabilities_v[*v]))
            .collect();
        let by = expert.map_or(String::new(), |(expert, probability)| {
            let first = |group: &Vec<String>| match &group[..] {
                [] => String::new(),
                [only] => format!(" of {only}"),
                [first, others @ ..] => format!(" of {first} +{}", others.len()),
            };
            let of = groups.get(expert).map(first).unwrap_or_default();
            format!("; expert {expert}{of} ({:.1} %)", 100.0 * probability)
        });
        say!("{}: {}{by}", path.display(), classes.join(", "));
    }
}

/// Indices, the largest value first.
fn descending(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
    order
}
