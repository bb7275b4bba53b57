//! `sparsely import`: models of other programs as run folders.

use crate::ERROR;
use crate::args::{ImportFormat, ImportVmoeArgs, LossArg};
use anyhow::{Context, Result, bail};
use sparsely::checkpoint::RunFolder;
use sparsely::checkpoint::reference::ReferenceParams;
use sparsely::data::{DataConfig, class_names};
use sparsely::eval::{SavedModel, numbered_classes};
use sparsely::train::{LossKind, RunConfig};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) fn run(format: &ImportFormat) -> Result<ExitCode> {
    match format {
        ImportFormat::Vmoe(args) => vmoe(args),
    }
}

fn vmoe(args: &ImportVmoeArgs) -> Result<ExitCode> {
    refuse_existing(&args.out)?;
    let json = read_json(&args.config)?;
    let (model, params) =
        ReferenceParams::open(&args.source)?.into_model(&json, args.image_size)?;
    let saved = SavedModel {
        class_names: names_of_classes(args, model.num_classes.unwrap_or(0))?,
        step: 0,
        imported_from: Some(args.source.display().to_string()),
        model,
    };
    let folder = finish_or_leave_nothing(&args.out, |folder| {
        folder.save_config(&run_config(args, &saved).to_toml()?)?;
        saved.save(folder, &params)
    })?;
    let model = &saved.model;
    say!(
        "{}: {:.1} M parameters, images of {size}×{size}×{}, {} classes",
        folder.path().display(),
        params.layout().num_params() as f64 / 1e6,
        model.channels,
        model.num_classes.unwrap_or(0),
        size = model.image_size,
    );
    Ok(ExitCode::SUCCESS)
}

/// Before anything is read, which may take a while.
fn refuse_existing(out: &Path) -> Result<()> {
    if out.symlink_metadata().is_ok() {
        bail!("`{}`: expected no file or folder yet, got one that exists", out.display());
    }
    Ok(())
}

pub(crate) fn read_json(path: &Path) -> Result<serde_json::Value> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read `{}`", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("`{}` is not JSON", path.display()))
}

/// From a file of lines, from data, or numbered.
fn names_of_classes(args: &ImportVmoeArgs, count: usize) -> Result<Vec<String>> {
    let (names, place) = match (&args.class_names, &args.data) {
        (Some(file), _) => {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read `{}`", file.display()))?;
            (text.lines().map(|line| line.trim().to_string()).collect(), file.display().to_string())
        }
        (None, Some(data)) => (class_names(&data_config(data))?, data.clone()),
        (None, None) => return Ok(numbered_classes(count)),
    };
    if names.len() != count {
        bail!("`{place}`: expected the names of the model's {count} classes, got {}", names.len());
    }
    Ok(names)
}

fn data_config(source: &str) -> DataConfig {
    DataConfig { source: source.into(), ..DataConfig::default() }
}

/// What `eval` and `predict` need to know. Without `--data` there is no source of images, and
/// `eval` asks for one.
fn run_config(args: &ImportVmoeArgs, saved: &SavedModel) -> RunConfig {
    let mut config = RunConfig { model: saved.model.clone(), ..RunConfig::default() };
    config.data = data_config(args.data.as_deref().unwrap_or_default());
    config.data.image_size = Some(saved.model.image_size);
    config.train.loss = match args.loss {
        LossArg::Softmax => LossKind::Softmax,
        LossArg::Sigmoid => LossKind::Sigmoid,
    };
    config
}

/// A signal that comes while the folder is written takes the folder with it.
fn finish_or_leave_nothing(
    out: &Path,
    fill: impl FnOnce(&RunFolder) -> sparsely::Result<()>,
) -> Result<RunFolder> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(ERROR));
        }
    })
    .context("cannot listen to signals")?;
    let folder = RunFolder::create_whole(out, |folder| {
        fill(folder)?;
        if stop.load(Ordering::Relaxed) {
            let signal = std::io::Error::other("stopped by a signal");
            return Err(sparsely::Error::io("finish", folder.path())(signal));
        }
        Ok(())
    })?;
    Ok(folder)
}
