//! One verb a file.

pub(crate) mod bench;
pub(crate) mod cost;
pub(crate) mod eval;
pub(crate) mod export;
pub(crate) mod generate;
pub(crate) mod import;
mod language;
pub(crate) mod logits;
pub(crate) mod mobile;
pub(crate) mod predict;
pub(crate) mod score;
pub(crate) mod study;
pub(crate) mod superclasses;
mod sweep;
pub(crate) mod train;

use crate::args::{DialArgs, PrecisionArgs};
use anyhow::{Result, bail};
use sparsely::checkpoint::RunFolder;
use sparsely::eval::SavedModel;
use sparsely::model::{ModelConfig, Vit};
use sparsely::moe::Dial;
use sparsely::train::RunConfig;
use sparsely_tensor::PackedSlab;
use std::path::Path;

/// A run whose model is used.
pub(crate) struct Trained {
    pub(crate) config: RunConfig,
    pub(crate) saved: SavedModel,
    pub(crate) model: Vit,
    pub(crate) params: PackedSlab,
}

impl Trained {
    /// Opens it for inference: what is not used is not read.
    pub(crate) fn open(path: &Path, precision: &PrecisionArgs) -> Result<Trained> {
        let folder = RunFolder::open(path)?;
        let config = RunConfig::from_toml(&folder.config()?, &folder.config_path())?;
        let (saved, model, params) = SavedModel::open(&folder)?;
        let model = model.with_precision(precision.or(saved.model.precision));
        Ok(Trained { config, saved, model, params })
    }
}

/// Version and commit.
pub(crate) fn program() -> String {
    let version = env!("CARGO_PKG_VERSION");
    match option_env!("SPARSELY_COMMIT") {
        Some(commit) => format!("sparsely {version} ({commit})"),
        None => format!("sparsely {version}"),
    }
}

/// `base` with the routing that was asked for; refused for a model without experts.
pub(crate) fn dial(args: &DialArgs, model: &ModelConfig, base: &Dial) -> Result<Dial> {
    if model.moe.is_none() && !args.is_empty() {
        bail!("routing was asked of a dense model: it has no experts");
    }
    if let Some(reason) = model.dial_problem(&args.asked()) {
        bail!("{reason}");
    }
    Ok(args.asked().over(base))
}
