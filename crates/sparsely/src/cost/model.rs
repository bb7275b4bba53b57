//! The cost of a vision transformer, part by part in the order in which it computes.

use super::call::Call;
use super::formulas::Sizes;
use super::part::PartCost;
use super::router::Choice;
use crate::model::ModelConfig;
use crate::{Error, Result};
use serde::Serialize;

/// Multiply-accumulates of a batch beyond which a sum could leave 64 bits.
const MAX_MACS: f64 = 1e18;

/// What one batch costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelCost {
    /// Images, B.
    pub batch: usize,
    /// Tokens of an image, L.
    pub length: usize,
    /// In the order in which they compute.
    pub parts: Vec<PartCost>,
}

impl ModelCost {
    /// Counts a model under the conditions of `call`.
    ///
    /// # Errors
    /// If the configuration, the batch or the routing cannot work.
    pub fn of(config: &ModelConfig, call: &Call<'_>) -> Result<ModelCost> {
        let choice = config
            .moe
            .as_ref()
            .map(|moe| Choice::of(moe, &call.dial, config.length()))
            .transpose()?;
        ModelCost::with_choice(config, choice, call)
    }

    /// As [`ModelCost::of`], with the router's settings told apart from the configuration.
    ///
    /// # Errors
    /// As [`ModelCost::of`].
    pub fn with_choice(
        config: &ModelConfig,
        choice: Option<Choice>,
        call: &Call<'_>,
    ) -> Result<ModelCost> {
        config.validate()?;
        config.check_skipped(&call.dial)?;
        if call.batch == 0 {
            let expected = "a batch of at least 1 image".into();
            return Err(Error::Argument { op: "cost", expected, got: "0".into() });
        }
        check_size(config, choice, call.batch)?;
        let sizes = Sizes::of(config, call.batch);
        let moe_blocks = config.moe_blocks()?;
        let mut parts = vec![sizes.embedding(config)];
        for block in 0..config.depth {
            parts.extend(sizes.attention(config, block));
            let mut feed_forward = vec![sizes.norm(Some(block))];
            match (&config.moe, choice) {
                (Some(moe), Some(choice)) if moe_blocks.contains(&block) => {
                    feed_forward.extend(sizes.moe(moe, choice, (block, call))?);
                }
                _ => feed_forward.push(sizes.mlp(config, block)),
            }
            if call.dial.skips(block) {
                feed_forward = feed_forward.into_iter().map(PartCost::left_out).collect();
            }
            parts.extend(feed_forward);
        }
        parts.push(sizes.norm(None));
        parts.extend(sizes.top(config));
        Ok(ModelCost { batch: call.batch, length: config.length(), parts })
    }

    fn sum(&self, of: impl Fn(&PartCost) -> u64) -> u64 {
        self.parts.iter().map(of).sum()
    }

    /// Parameters.
    pub fn params(&self) -> u64 {
        self.sum(|part| part.params)
    }

    /// Parameters that one token meets: of E experts, K.
    pub fn active_params(&self) -> u64 {
        self.sum(|part| part.active_params)
    }

    /// Multiply-accumulates of the forward pass of the batch.
    pub fn macs(&self) -> u64 {
        self.sum(|part| part.macs)
    }

    /// Multiply-accumulates of the backward pass of the batch.
    pub fn backward_macs(&self) -> u64 {
        self.sum(|part| part.backward_macs)
    }

    /// Most activations that exist at once in inference, in values.
    pub fn inference_activations(&self) -> u64 {
        self.parts.iter().map(|part| part.alive).max().unwrap_or(0)
    }

    /// Most activations and their gradients that exist at once in training, in values: what earlier
    /// parts keep, and what the backward pass of a part works with.
    pub fn training_activations(&self) -> u64 {
        let mut kept = 0;
        let sums = self.parts.iter().map(|part| {
            kept += part.kept;
            kept + part.gradients
        });
        sums.max().unwrap_or(0)
    }

    /// FLOPs of the forward pass of the batch.
    pub fn flops(&self) -> u64 {
        self.sum(PartCost::flops)
    }

    /// FLOPs of forward and backward pass of the batch.
    pub fn training_flops(&self) -> u64 {
        self.sum(PartCost::training_flops)
    }
}

/// Refuses what whole numbers of 64 bits cannot count: in floating point, and rather too early.
fn check_size(config: &ModelConfig, choice: Option<Choice>, batch: usize) -> Result<()> {
    let experts = config.moe.as_ref().map_or(1, |moe| moe.num_experts);
    let per_token = choice.map_or(1, |choice| choice.experts_per_token(experts)).max(1) as f64;
    let (l, d, f) = (config.length() as f64, config.width as f64, config.mlp_width as f64);
    let pixels = (config.patch_size as f64).powi(2) * config.channels as f64;
    let token = config.depth as f64 * (4.0 * d * d + 2.0 * d * f * per_token + 2.0 * l * d);
    let classes = config.num_classes.unwrap_or(1) as f64;
    let macs = batch as f64 * (l * (token + pixels * d + d * experts as f64) + d * classes);
    if macs < MAX_MACS {
        return Ok(());
    }
    Err(Error::Argument {
        op: "cost",
        expected: format!("less than {MAX_MACS:.0e} multiply-accumulates"),
        got: format!("about {macs:.0e} for a batch of {batch} images of {l} tokens"),
    })
}
