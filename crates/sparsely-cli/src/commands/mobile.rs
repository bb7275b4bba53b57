//! `sparsely mobile`: dense model, super-classes, sparse model.

use super::superclasses;
use super::train::{set, stop_on_signals, teach};
use crate::NO;
use crate::args::MobileArgs;
use crate::progress::Progress;
use crate::quantity::short;
use crate::table::{cells, say_aligned};
use anyhow::{Result, bail};
use sparsely::checkpoint::RunFolder;
use sparsely::cost::{Call, ModelCost};
use sparsely::data::{class_names, label_groups, validation_images};
use sparsely::eval::Evaluation;
use sparsely::superclass::SuperClassFile;
use sparsely::train::{Outcome, RunConfig, preset, resume, start};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

pub(crate) fn run(args: &MobileArgs) -> Result<ExitCode> {
    let stop = stop_on_signals()?;
    let [dense, sparse, groups] =
        ["dense", "sparse", "superclasses.json"].map(|name| args.out.join(name));
    let stopped = || {
        say!("go on with the same command");
        Ok(ExitCode::from(NO))
    };
    let config = configure("vit", args, &args.sets, None)?;
    // What can be wrong with the sparse model is told before the dense one is trained.
    let all_sets = [&args.sets[..], &args.sparse_sets[..]].concat();
    configure("mobile", args, &all_sets, None)?.validate()?;
    if validation_images(&config.data)? == 0 {
        bail!(
            "super-classes: expected images held out of training to find them by, got none: a \
             data.validation_fraction above 0 keeps some"
        );
    }
    let classes = class_names(&config.data)?.len();
    let experts = match &args.grouping.from_labels {
        Some(column) => label_groups(&config.data, column)?.len(),
        None => args.grouping.experts.get(),
    };
    if experts > classes {
        bail!(
            "super-classes: expected 1 to {classes} experts, each with a class of its own or more, got \
             {experts}"
        );
    }

    say!("dense model, 1 of 3");
    let Some(dense_test) = train(config, &dense, &stop)? else { return stopped() };
    say!();
    say!("super-classes, 2 of 3");
    let file = superclasses::find(&dense, &args.grouping, Some(args.seed), &groups)?;
    superclasses::print(&file);
    say!();
    say!("sparse model, 3 of 3");
    let config = configure("mobile", args, &all_sets, Some(&file))?;
    let Some(sparse_test) = train(config, &sparse, &stop)? else { return stopped() };
    say!();
    summarise([&dense, &sparse], [&dense_test, &sparse_test], &file)?;
    Ok(ExitCode::SUCCESS)
}

fn configure(
    kind: &str,
    args: &MobileArgs,
    sets: &[String],
    file: Option<&SuperClassFile>,
) -> Result<RunConfig> {
    let mut base = preset(&format!("{kind}-{}", args.size))?;
    base.data.source.clone_from(&args.data);
    base.seed = args.seed;
    if let Some(moe) = &mut base.model.moe {
        moe.num_experts = args.grouping.experts.get();
    }
    if let Some(file) = file {
        teach(&mut base, file.groups());
    }
    set(&base, sets)
}

/// Trains, or goes on with a run of the same settings; nothing if it was stopped.
fn train(config: RunConfig, folder: &Path, stop: &AtomicBool) -> Result<Option<Evaluation>> {
    let mut progress = Progress::new();
    let outcome = if folder.join("config.toml").exists() {
        check_same(config, folder)?;
        resume(folder, stop, &mut progress)
    } else {
        start(config, Some(folder), folder, stop, &mut progress)
    };
    progress.clear();
    match outcome? {
        Outcome::Finished(test) => Ok(Some(test)),
        Outcome::Stopped { step } => {
            say!("stopped after step {step}");
            Ok(None)
        }
    }
}

fn check_same(mut config: RunConfig, folder: &Path) -> Result<()> {
    let run = RunFolder::open(folder)?;
    let written = RunConfig::from_toml(&run.config()?, &run.config_path())?;
    // These are the data's.
    config.model.image_size = written.model.image_size;
    config.model.channels = written.model.channels;
    config.model.num_classes = written.model.num_classes;
    if config != written {
        bail!(
            "`{}`: expected a run of the settings that are asked for, got one of others: name another \
             --out",
            folder.display()
        );
    }
    Ok(())
}

fn summarise(folders: [&Path; 2], tests: [&Evaluation; 2], file: &SuperClassFile) -> Result<()> {
    let mut rows = vec![cells([
        "model",
        "test top-1",
        "router top-1",
        "params",
        "touched by an image",
        "MACs/image",
    ])];
    for ((name, folder), test) in ["dense", "sparse"].iter().zip(folders).zip(tests) {
        let run = RunFolder::open(folder)?;
        let config = RunConfig::from_toml(&run.config()?, &run.config_path())?;
        let call = Call { dial: config.eval.dial, ..Call::balanced(1) };
        let cost = ModelCost::of(&config.model, &call)?;
        let touched: u64 = cost.parts.iter().map(|part| part.read_params).sum();
        rows.push(vec![
            (*name).to_string(),
            format!("{:.1} %", 100.0 * test.top1),
            test.router_top1.map_or("–".into(), |top1| format!("{:.1} %", 100.0 * top1)),
            short(cost.params() as f64),
            short(touched as f64),
            short(cost.macs() as f64),
        ]);
    }
    say_aligned(&rows);
    let gain = 100.0 * (tests[1].top1 - tests[0].top1);
    say!(
        "{gain:+.1} points of {} test images for the sparse model, {} super-classes that keep {:.0} % of the \
         confusion; one seed",
        tests[0].n,
        file.groups.len(),
        100.0 * file.kept_share.unwrap_or(0.0)
    );
    Ok(())
}
