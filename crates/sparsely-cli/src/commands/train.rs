//! `sparsely train`.

use super::language::{self, is_language_run};
use crate::args::TrainArgs;
use crate::progress::Progress;
use crate::{ERROR, NO};
use anyhow::{Context, Result, bail};
use sparsely::config::overlay::apply_set;
use sparsely::data::label_groups;
use sparsely::superclass::SuperClassFile;
use sparsely::train::language::language_preset;
use sparsely::train::{Outcome, RunConfig, SuperClassLoss, preset, resume, start};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where runs without a folder of their own go.
pub(super) const ROOT: &str = "runs";

pub(crate) fn run(args: &TrainArgs) -> Result<ExitCode> {
    let is_language = match &args.resume {
        Some(folder) => is_language_run(folder)?,
        None => language_preset(&args.preset).is_some(),
    };
    if is_language {
        return language::train(args);
    }
    let stop = stop_on_signals()?;
    let mut progress = Progress::new();
    let outcome = match &args.resume {
        Some(folder) => resume(folder, &stop, &mut progress),
        None => start(configure(args)?, args.out.as_deref(), Path::new(ROOT), &stop, &mut progress),
    };
    progress.clear();
    match outcome? {
        Outcome::Finished(test) => {
            if let Some(top1) = test.router_top1 {
                say!("router top-1 {:.1} %", 100.0 * top1);
            }
            say!("test top-1 {:.1} % (n={})", 100.0 * test.top1, test.n);
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Stopped { step } => Ok(tell_stop(step, &progress)),
    }
}

/// Says how to go on.
pub(super) fn tell_stop(step: u64, progress: &Progress) -> ExitCode {
    let folder = progress.folder().display();
    say!("stopped after step {step}; go on with: sparsely train --resume {folder}");
    ExitCode::from(NO)
}

fn configure(args: &TrainArgs) -> Result<RunConfig> {
    let mut base = preset(&args.preset)?;
    if let Some(data) = &args.data {
        base.data.source.clone_from(data);
    }
    if let Some(seed) = args.seed {
        base.seed = seed;
    }
    base.model.precision = args.precision.or(base.model.precision);
    if let Some(path) = &args.superclasses {
        teach(&mut base, SuperClassFile::read(path)?.groups());
    }
    let Some(column) = &args.superclass_labels else { return set(&base, &args.sets) };
    let groups = label_groups(&set(&base, &args.sets)?.data, column)?;
    teach(&mut base, groups.into_iter().map(|(_, classes)| classes).collect());
    set(&base, &args.sets)
}

/// Teaches the router of whole images these super-classes, with an expert for each.
pub(super) fn teach(config: &mut RunConfig, groups: Vec<Vec<String>>) {
    if let Some(moe) = &mut config.model.moe {
        moe.num_experts = groups.len();
    }
    config.train.super_classes = Some(SuperClassLoss { groups, ..SuperClassLoss::default() });
}

/// `base` with the settings that were asked for.
pub(super) fn set(base: &RunConfig, sets: &[String]) -> Result<RunConfig> {
    let config = apply_set(base, sets)?;
    // The data decide these three; a setting that would be overwritten is a mistake to tell.
    let decided = [
        ("image_size", base.model.image_size != config.model.image_size, " (set data.image_size)"),
        ("channels", base.model.channels != config.model.channels, ""),
        ("num_classes", base.model.num_classes != config.model.num_classes, ""),
    ];
    if let Some((name, _, instead)) = decided.iter().find(|(_, changed, _)| *changed) {
        bail!("model.{name} cannot be set: it is the data's{instead}");
    }
    Ok(config)
}

/// Becomes true with the first Ctrl-C or SIGTERM; the second one ends the program at once.
pub(crate) fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(ERROR));
        }
        eprintln!("stopping after this step (again to stop at once, without saving)");
    })
    .context("cannot listen to signals")?;
    Ok(stop)
}
