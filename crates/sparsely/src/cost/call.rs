//! The conditions under which a model's cost is told.

use crate::model::ModelConfig;
use crate::moe::{Dial, RouterStats};
use crate::{Error, Result};

/// One call of a model.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// Images, B.
    pub batch: usize,
    /// Deviations from the routing that the model was trained with.
    pub dial: Dial,
    /// How many pairs of tokens and experts there are.
    pub routed: Routed<'a>,
}

/// Where the number of routed pairs comes from.
#[derive(Clone, Copy, Debug)]
pub enum Routed<'a> {
    /// All experts are asked equally often: what is dropped is what capacity forbids on average.
    Balanced,
    /// What the routers did, by index of the block, as [`crate::model::Output::stats`] tells it.
    Measured(&'a [(usize, RouterStats)]),
}

impl Call<'_> {
    /// A batch routed as the model was trained, in balance.
    pub fn balanced(batch: usize) -> Call<'static> {
        Call { batch, dial: Dial::default(), routed: Routed::Balanced }
    }
}

/// The smallest number of images that whole routing groups fill.
pub(super) fn group_images(config: &ModelConfig, dial: &Dial) -> Result<usize> {
    let Some(moe) = &config.moe else { return Ok(1) };
    let group = dial.group.unwrap_or(moe.group);
    let images = group.whole_images(config.length());
    if images == 0 {
        return Err(Error::Argument {
            op: "cost",
            expected: "routing groups of at least one token".into(),
            got: format!("groups of {group}"),
        });
    }
    Ok(images)
}
