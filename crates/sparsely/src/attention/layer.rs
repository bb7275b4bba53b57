//! The attention of a block, whichever it is.

use super::positions::{DistanceKeys, Positions, Sinusoids};
use super::scene::{KeysValues, Report, Scene};
use super::{AttentionConfig, DenseAttention, Moa, SwitchHead};
use crate::Result;
use crate::nn::{Initializer, Mode};
use sparsely_tensor::Var;

/// Attention over a source: first the source's keys and values, which a cache may keep, then queries.
#[derive(Clone, Debug)]
pub enum AttentionLayer {
    /// Dense heads.
    Dense(DenseAttention),
    /// Experts inside heads.
    SwitchHead(SwitchHead),
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
                AttentionLayer::SwitchHead(SwitchHead::init(init, config, sizes))
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

    /// Keys and values of `[B, L, D]`, the first at place `first`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn source<'t>(
        &self,
        x: &Var<'t>,
        first: usize,
        mode: &mut Mode<'_>,
        report: &mut Report<'t>,
    ) -> Result<KeysValues<'t>> {
        match self {
            AttentionLayer::Dense(layer) => layer.source(x, first),
            AttentionLayer::SwitchHead(layer) => layer.source(x, first, mode, report),
            AttentionLayer::Moa(layer) => layer.source(x, first),
        }
    }

    /// Queries of `[B, Q, D]` over a source: `[B, Q, D]`, plus the residual.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn attend<'t>(
        &self,
        x: &Var<'t>,
        source: &KeysValues<'t>,
        scene: &Scene<'_, 't>,
        residual: Option<&Var<'t>>,
        (mode, report): (&mut Mode<'_>, &mut Report<'t>),
    ) -> Result<Var<'t>> {
        match self {
            AttentionLayer::Dense(layer) => layer.attend(x, source, scene, residual),
            AttentionLayer::SwitchHead(layer) => {
                layer.attend(x, source, scene, residual, (mode, report))
            }
            AttentionLayer::Moa(layer) => layer.attend(x, source, scene, residual, report),
        }
    }
}
