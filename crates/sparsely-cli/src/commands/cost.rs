//! `sparsely cost`: reads what a model is, never its parameters.

mod model;
mod paper;
mod plan;

use super::dial;
use crate::args::CostArgs;
use anyhow::{Context, Result, bail};
use sparsely::checkpoint::RunFolder;
use sparsely::config::overlay::apply_set;
use sparsely::model::ModelConfig;
use sparsely::moe::Dial;
use sparsely::train::language::language_preset;
use sparsely::train::{RunConfig, preset};
use std::path::Path;
use std::process::ExitCode;

/// The model that is asked about.
struct Subject {
    /// As it was asked for.
    name: String,
    model: ModelConfig,
    dial: Dial,
    /// Images of a step of training, where no other number was asked for.
    batch: usize,
}

pub(crate) fn run(args: &CostArgs) -> Result<ExitCode> {
    let Some(name) = &args.model else {
        paper::print(args.paper.expect("one of the two is required"), args.json)?;
        return Ok(ExitCode::SUCCESS);
    };
    let subject = Subject::load(name, args)?;
    match args.cluster.devices {
        None => model::print(&subject, args.batch.unwrap_or(subject.batch), args.json),
        Some(devices) => plan::print(&subject, devices, args),
    }
}

impl Subject {
    fn load(name: &str, args: &CostArgs) -> Result<Subject> {
        let mut config = apply_set(&named(name)?, &args.sets)?;
        if let Some(pixels) = args.resolution {
            config.model.image_size = pixels;
        }
        config.model.validate()?;
        let dial = dial(&args.dial, &config.model, &Dial::default())?;
        let batch = config.train.batch_size;
        Ok(Subject { name: name.to_string(), model: config.model, dial, batch })
    }
}

/// A run's configuration, or a preset's.
fn named(name: &str) -> Result<RunConfig> {
    if language_preset(name).is_some() {
        bail!("`{name}` is a language model: `--paper switchhead` tells what its kind costs");
    }
    let path = Path::new(name);
    match (RunFolder::open(path), preset(name)) {
        (Ok(folder), _) => Ok(RunConfig::from_toml(&folder.config()?, &folder.config_path())?),
        (Err(_), Ok(preset)) => Ok(preset),
        (Err(error), Err(_)) if path.exists() => Err(error.into()),
        (Err(_), Err(error)) => Err(error).with_context(|| format!("`{name}` is no run folder")),
    }
}
