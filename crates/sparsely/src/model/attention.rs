//! Attention of images with experts inside its heads.

use super::ModelConfig;
use crate::Result;
use crate::attention::{
    ExpertProjections, HeadGate, MultiHeadAttention, RelativePositions, Report, Scene, SwitchHead,
    SwitchHeadConfig,
};
use crate::moe::RouterStats;
use crate::nn::{Initializer, LayerNorm, Mode, dropout};
use serde::{Deserialize, Serialize};
use sparsely_tensor::{AttentionMask, Var};

/// SwitchHead (arXiv 2312.07987) over all tokens of an image, which carry their positions themselves.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExpertAttention {
    /// H.
    pub heads: usize,
    /// A.
    pub head_width: usize,
    /// E, of each head.
    pub num_experts: usize,
    /// K, of each head.
    pub num_selected: usize,
    /// Which projections have experts.
    pub experts: ExpertProjections,
    /// Whether one router weight serves source and destination.
    pub shared_router: bool,
    /// What weighs the selected experts.
    pub gate: HeadGate,
    /// Chance that an expert may not be chosen by a token, in training.
    pub expert_dropout: f32,
}

impl Default for ExpertAttention {
    fn default() -> ExpertAttention {
        let config = SwitchHeadConfig::default();
        ExpertAttention {
            heads: config.heads,
            head_width: config.head_width,
            num_experts: config.num_experts,
            num_selected: config.num_selected,
            experts: config.experts,
            shared_router: config.shared_router,
            gate: config.gate,
            expert_dropout: config.expert_dropout,
        }
    }
}

impl ExpertAttention {
    /// The layer's settings.
    pub fn switch_head(&self) -> SwitchHeadConfig {
        SwitchHeadConfig {
            heads: self.heads,
            head_width: self.head_width,
            num_experts: self.num_experts,
            num_selected: self.num_selected,
            positions: RelativePositions::None,
            experts: self.experts,
            shared_router: self.shared_router,
            gate: self.gate,
            expert_dropout: self.expert_dropout,
            ..SwitchHeadConfig::default()
        }
    }
}

/// What the routers of a block's attention did, over all experts of all heads.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionStats {
    /// Index of the block.
    pub block: usize,
    /// Of keys and values.
    pub source: Option<RouterStats>,
    /// Of queries and outputs.
    pub destination: Option<RouterStats>,
}

/// The attention of a block of the vision transformer.
pub(super) enum BlockAttention {
    MultiHead(Box<MultiHeadAttention>),
    SwitchHead(Box<SwitchHead>),
}

impl BlockAttention {
    pub(super) fn init(init: &mut Initializer, config: &ModelConfig) -> BlockAttention {
        let &ModelConfig { width: d, heads, qk_norm, depth, .. } = config;
        match &config.attention {
            None => {
                let layer = MultiHeadAttention::init(init, "attention", d, heads, qk_norm);
                BlockAttention::MultiHead(Box::new(layer))
            }
            Some(attention) => init.scope("attention", |init| {
                let config = attention.switch_head();
                BlockAttention::SwitchHead(Box::new(SwitchHead::init(init, &config, [d, depth])))
            }),
        }
    }

    /// What the layer reads of a block's input. Routers choose by values in f32.
    pub(super) fn normed<'t>(&self, norm: &LayerNorm, x_bld: &Var<'t>) -> Result<Var<'t>> {
        match self {
            BlockAttention::MultiHead(_) => norm.rounded(x_bld),
            BlockAttention::SwitchHead(_) => norm.forward(x_bld),
        }
    }

    /// residual + Dropout(attention(x)): `[B, L, D]` → `[B, L, D]`, and what routers did in block `i`.
    pub(super) fn forward<'t>(
        &self,
        [x_bld, residual_bld]: [&Var<'t>; 2],
        rate: f32,
        i: usize,
        mode: &mut Mode<'_>,
    ) -> Result<(Var<'t>, Option<AttentionStats>)> {
        let layer = match self {
            BlockAttention::MultiHead(layer) => {
                return Ok((layer.forward(x_bld, residual_bld, rate, mode)?, None));
            }
            BlockAttention::SwitchHead(layer) => layer,
        };
        let mask = AttentionMask::default();
        let scene = Scene { first_key: 0, offset: 0, mask: &mask, distances: None };
        let mut report = Report::default();
        let source = layer.source(x_bld, 0, mode, &mut report)?;
        let drops = rate > 0.0 && matches!(mode, Mode::Train(_));
        let residual = (!drops).then_some(residual_bld);
        let mut y = layer.attend(x_bld, &source, &scene, residual, (mode, &mut report))?;
        if drops {
            y = dropout(y, rate, mode)?.add(residual_bld)?;
        }
        let [source, destination] =
            [report.source, report.destination].map(|routing| routing.map(|own| own.stats));
        Ok((y, Some(AttentionStats { block: i, source, destination })))
    }
}
