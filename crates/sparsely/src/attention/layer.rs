//! The attention of a block, whichever it is.

use super::positions::{DistanceKeys, Positions, Sinusoids};
use super::scene::{KeysValues, Reading, Report, Scene};
use super::{AttentionConfig, DenseAttention, Moa, SwitchHead};
use crate::Result;
use crate::moe::RouterStats;
use crate::nn::{Initializer, Mode};
use sparsely_tensor::{Slab, Var};

/// Attention over a source: first the source's keys and values, which a cache may keep, then queries.
#[derive(Clone, Debug)]
pub enum AttentionLayer {
    /// Dense heads.
    Dense(DenseAttention),
    /// Experts inside heads.
    SwitchHead(Box<SwitchHead>),
    /// Heads as experts.
    Moa(Moa),
}

impl AttentionLayer {
    /// Fresh, in the scope `attention`, for width D in a model of `depth` layers.
    pub fn init(
        init: &mut Initializer,
        config: &AttentionConfig,
        [d, depth]: [usize; 2],
    ) -> AttentionLayer {
        let sizes = [d, depth];
        init.scope("attention", |init| match config {
            AttentionConfig::Dense(config) => {
                AttentionLayer::Dense(DenseAttention::init(init, config, sizes))
            }
            AttentionConfig::SwitchHead(config) => {
                AttentionLayer::SwitchHead(Box::new(SwitchHead::init(init, config, sizes)))
            }
            AttentionConfig::Moa(config) => AttentionLayer::Moa(Moa::init(init, config, sizes)),
        })
    }

    fn positions(&self) -> &Positions {
        match self {
            AttentionLayer::Dense(layer) => &layer.positions,
            AttentionLayer::SwitchHead(layer) => &layer.positions,
            AttentionLayer::Moa(layer) => &layer.positions,
        }
    }

    /// The layer's keys of distances, where it has them.
    ///
    /// # Errors
    /// If the sinusoids are of another width.
    pub fn distance_keys<'t>(&self, sinusoids: &Sinusoids<'t>) -> Result<Option<DistanceKeys<'t>>> {
        self.positions().distance_keys(sinusoids)
    }

    /// What the routers read of the outputs `[B, L, D]` of the attention of the block before, if they do: the
    /// context of a [`Reading`].
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn read_context<'t>(&self, y_bld: &Var<'t>) -> Result<Option<Var<'t>>> {
        match self {
            AttentionLayer::SwitchHead(layer) => layer.read_context(y_bld),
            AttentionLayer::Dense(_) | AttentionLayer::Moa(_) => Ok(None),
        }
    }

    /// Keys and values of `[B, L, D]`, the first at place `first`.
    ///
    /// # Errors
    /// If the shapes do not fit, or a context is missing.
    pub fn source<'a, 't: 'a>(
        &self,
        tokens: impl Into<Reading<'a, 't>>,
        first: usize,
        mode: &mut Mode<'_>,
        report: &mut Report<'t>,
    ) -> Result<KeysValues<'t>> {
        let tokens = tokens.into();
        match self {
            AttentionLayer::Dense(layer) => layer.source(tokens.x, first),
            AttentionLayer::SwitchHead(layer) => layer.source(tokens, first, mode, report),
            AttentionLayer::Moa(layer) => layer.source(tokens.x, first),
        }
    }

    /// Queries of `[B, Q, D]` over a source: `[B, Q, D]`, plus the residual.
    ///
    /// # Errors
    /// If the shapes do not fit, or a context is missing.
    pub fn attend<'a, 't: 'a>(
        &self,
        tokens: impl Into<Reading<'a, 't>>,
        source: &KeysValues<'t>,
        scene: &Scene<'_, 't>,
        residual: Option<&Var<'t>>,
        (mode, report): (&mut Mode<'_>, &mut Report<'t>),
    ) -> Result<Var<'t>> {
        let tokens = tokens.into();
        match self {
            AttentionLayer::Dense(layer) => layer.attend(tokens.x, source, scene, residual),
            AttentionLayer::SwitchHead(layer) => {
                layer.attend(tokens, source, scene, residual, (mode, report))
            }
            AttentionLayer::Moa(layer) => layer.attend(tokens.x, source, scene, residual, report),
        }
    }

    /// Moves after a training step what routers adapt by rule, given what the source and the destination did.
    pub fn adapt(&self, params: &mut Slab, stats: [Option<&RouterStats>; 2]) {
        if let AttentionLayer::SwitchHead(layer) = self {
            layer.routers.adapt(params, stats);
        }
    }
}
