//! `sparsely predict`.

use super::{Trained, dial, sweep};
use crate::ERROR;
use crate::args::PredictArgs;
use anyhow::Result;
use serde_json::json;
use sparsely::data::{append_scaled, load_image};
use sparsely::eval::class_probabilities;
use std::path::Path;
use std::process::ExitCode;

pub(crate) fn run(args: &PredictArgs) -> Result<ExitCode> {
    let mut trained = Trained::load(&args.run)?;
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
    let answers = class_probabilities(model, params, &pixels, &config.eval, loss)?;
    for (path, probabilities) in images.into_iter().zip(&answers) {
        answer(path, probabilities, &saved.class_names, args);
    }
    Ok(if is_complete { ExitCode::SUCCESS } else { ExitCode::from(ERROR) })
}

fn answer(path: &Path, probabilities: &[f64], names: &[String], args: &PredictArgs) {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|a, b| probabilities[*b].total_cmp(&probabilities[*a]));
    order.truncate(args.top.get());
    if args.json {
        let classes: Vec<_> = order
            .iter()
            .map(|v| json!({ "class": names[*v], "probability": probabilities[*v] }))
            .collect();
        say!("{}", json!({ "image": path, "classes": classes }));
    } else {
        let classes: Vec<_> = order
            .iter()
            .map(|v| format!("{} {:.1} %", names[*v], 100.0 * probabilities[*v]))
            .collect();
        say!("{}: {}", path.display(), classes.join(", "));
    }
}
