//! One verb a file.

pub(crate) mod bench;
mod bench_routers;
pub(crate) mod cost;
pub(crate) mod eval;
pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod logits;
pub(crate) mod mobile;
pub(crate) mod predict;
pub(crate) mod study;
pub(crate) mod superclasses;
pub(crate) mod train;

use crate::args::DialArgs;
use anyhow::{Result, bail};
use sparsely::checkpoint::RunFolder;
use sparsely::eval::SavedModel;
use sparsely::model::{ModelConfig, Vit};
use sparsely::moe::Dial;
use sparsely::train::RunConfig;
use sparsely_tensor::Slab;
use std::path::Path;

/// A run whose model is used.
pub(crate) struct Trained {
    pub(crate) config: RunConfig,
    pub(crate) saved: SavedModel,
    pub(crate) model: Vit,
    pub(crate) params: Slab,
}

impl Trained {
    pub(crate) fn load(path: &Path) -> Result<Trained> {
        let folder = RunFolder::open(path)?;
        let config = RunConfig::from_toml(&folder.config()?, &folder.config_path())?;
        let (saved, model, params) = SavedModel::load(&folder)?;
        Ok(Trained { config, saved, model, params })
    }
}

/// `base` with the routing that was asked for; refused for a model without experts.
pub(crate) fn dial(args: &DialArgs, model: &ModelConfig, base: Dial) -> Result<Dial> {
    let asked = args.over(Dial::default());
    match &model.moe {
        None if !args.is_empty() => bail!("routing was asked of a dense model: it has no experts"),
        None => {}
        Some(moe) => {
            if let Some(reason) = moe.router.refusal(&asked) {
                bail!("{reason}");
            }
            if let Some(reason) = asked.group.and_then(|group| moe.group_problem(group)) {
                bail!("{reason}");
            }
        }
    }
    Ok(args.over(base))
}
