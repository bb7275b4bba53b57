//! `sparsely mobile`: dense model, super-classes, sparse model.

use super::superclasses;
use super::train::{set, stop_on_signals, teach};
use crate::NO;
use crate::args::MobileArgs;
use crate::progress::Progress;
use crate::quantity::short;
use crate::table::{cells, say_aligned};
use anyhow::{Result, bail};
use serde_json::{Map, Value};
use sparsely::checkpoint::RunFolder;
use sparsely::cost::{Call, ModelCost};
use sparsely::data::{DataConfig, class_names, label_groups, validation_images};
use sparsely::eval::Evaluation;
use sparsely::superclass::SuperClassFile;
use sparsely::train::{Outcome, RunConfig, preset, resume, start};
use std::collections::BTreeSet;
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
    let config = set(&base("vit", args)?, &args.sets)?;
    if config.model.moe.is_some() {
        bail!(
            "--set model.moe: expected settings of both models, got experts for the dense one: use --set-sparse"
        );
    }
    if validation_images(&config.data)? == 0 {
        bail!(
            "super-classes: expected images held out of training to find them by, got none: a \
             data.validation_fraction above 0 keeps some"
        );
    }
    // What can be wrong with the super-classes and the sparse model is told before the dense one is trained.
    let classes = class_names(&config.data)?;
    let all_sets = [&args.sets[..], &args.sparse_sets[..]].concat();
    configure(args, &all_sets, &stand_ins(args, &config.data, &classes)?)?.validate()?;
    let known = known(&groups, args)?;

    say!("dense model, 1 of 3");
    let Some(dense_test) = train(config, &dense, &stop)? else { return stopped() };
    say!();
    say!("super-classes, 2 of 3");
    let file = match known {
        Some(file) => file,
        None => superclasses::find(&dense, &args.grouping, Some(args.seed), &groups)?,
    };
    superclasses::print(&file);
    say!();
    say!("sparse model, 3 of 3");
    let config = configure(args, &all_sets, &file)?;
    let Some(sparse_test) = train(config, &sparse, &stop)? else { return stopped() };
    say!();
    summarise([&dense, &sparse], [&dense_test, &sparse_test], &file)?;
    Ok(ExitCode::SUCCESS)
}

/// The sparse model, taught these super-classes.
fn configure(args: &MobileArgs, sets: &[String], file: &SuperClassFile) -> Result<RunConfig> {
    let mut base = base("mobile", args)?;
    teach(&mut base, file.groups());
    set(&base, sets)
}

fn base(kind: &str, args: &MobileArgs) -> Result<RunConfig> {
    let mut base = preset(&format!("{kind}-{}", args.size))?;
    base.data.source.clone_from(&args.data);
    base.seed = args.seed;
    Ok(base)
}

/// Groups of all classes in the place of those that are found when the dense model is trained.
fn stand_ins(args: &MobileArgs, data: &DataConfig, classes: &[String]) -> Result<SuperClassFile> {
    if let Some(column) = &args.grouping.from_labels {
        return Ok(SuperClassFile::of_labels(column, label_groups(data, column)?));
    }
    let experts = args.grouping.experts.get();
    superclasses::grouping(&args.grouping, args.seed)?.check(classes.len(), experts)?;
    let group = |expert| classes.iter().skip(expert).step_by(experts).cloned().collect();
    Ok(SuperClassFile::of_groups((0..experts).map(group).collect()))
}

/// Super-classes that were found before, and perhaps edited since.
fn known(path: &Path, args: &MobileArgs) -> Result<Option<SuperClassFile>> {
    if !path.exists() {
        return Ok(None);
    }
    let file = SuperClassFile::read(path)?;
    if !superclasses::is_as_asked(&file, &args.grouping, args.seed)? {
        bail!(
            "`{}`: expected super-classes by the options that are asked for, got some by others: name another \
             --out",
            path.display()
        );
    }
    Ok(Some(file))
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
    let place = |config: &RunConfig| Path::new(&config.data.source).canonicalize().ok();
    if place(&config).is_some_and(|own| place(&written) == Some(own)) {
        config.data.source.clone_from(&written.data.source);
    }
    let [asked, got] = [&config, &written].map(serde_json::to_value);
    let Some((setting, asked, got)) = first_difference("", &asked?, &got?) else { return Ok(()) };
    bail!(
        "`{}`: expected a run with `{setting}` {asked}, as is asked for, got one with {got}: name another --out",
        folder.display()
    );
}

/// The first setting that differs, and its values.
fn first_difference(path: &str, a: &Value, b: &Value) -> Option<(String, Value, Value)> {
    match (a, b) {
        (Value::Object(own), Value::Object(other)) => {
            let keys: BTreeSet<&String> = own.keys().chain(other.keys()).collect();
            keys.into_iter().find_map(|key| {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let of = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                first_difference(&path, &of(own), &of(other))
            })
        }
        _ => (a != b).then(|| (path.to_string(), a.clone(), b.clone())),
    }
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
