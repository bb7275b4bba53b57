//! One block: x += Attention(LN x); x += MLP(LN x).

use super::mlp::MlpLayer;
use super::tokens::{Past, RoutedPart, Side};
use super::{BlockConfig, LanguageConfig};
use crate::Result;
use crate::attention::{AttentionLayer, KeysValues, Reading, Report, Scene, Sinusoids};
use crate::nn::{Initializer, LayerNorm, Mode, dropout};
use sparsely_tensor::{AttentionMask, Var};

/// Added to the variance in all norms.
pub(super) const NORM_EPS: f32 = 1e-5;

/// A block.
pub(super) struct Block {
    pub(super) norm_0: LayerNorm,
    pub(super) attention: AttentionLayer,
    norm_1: LayerNorm,
    pub(super) mlp: MlpLayer,
    /// Whether the routers of the next block read what attention gives.
    gives_context: bool,
}

/// What goes from block to block.
pub(super) struct Flow<'t> {
    /// `[B, L, D]`.
    pub(super) x_bld: Var<'t>,
    /// What the attention of the block before gave, before dropout and the residual, where the routers of the next
    /// read it: `[B, L, D]`.
    pub(super) given_bld: Option<Var<'t>>,
}

/// What blocks tell beside their outputs.
#[derive(Default)]
pub(super) struct Told<'t> {
    pub(super) losses: Vec<(Var<'t>, f32)>,
    pub(super) stats: Vec<RoutedPart>,
}

/// What a forward pass brings to a block.
#[derive(Clone, Copy)]
pub(super) struct Pass<'a, 't> {
    pub(super) index: usize,
    pub(super) sinusoids: Option<&'a Sinusoids<'t>>,
    pub(super) rate: f32,
}

impl Block {
    pub(super) fn init(
        init: &mut Initializer,
        block: &BlockConfig,
        gives_context: bool,
        config: &LanguageConfig,
    ) -> Block {
        let &LanguageConfig { width: d, depth, context, .. } = config;
        Block {
            norm_0: LayerNorm::init(init, "norm_0", d).with_eps(NORM_EPS),
            attention: AttentionLayer::init(init, &block.attention, [d, depth]),
            norm_1: LayerNorm::init(init, "norm_1", d).with_eps(NORM_EPS),
            mlp: MlpLayer::init(init, &block.mlp, [d, depth, context]),
            gives_context,
        }
    }

    /// The block after, over what it remembers of the block of text before.
    pub(super) fn forward<'t>(
        &self,
        flow: &Flow<'t>,
        past: Past<'_>,
        pass: Pass<'_, 't>,
        (mode, told): (&mut Mode<'_>, &mut Told<'t>),
    ) -> Result<Flow<'t>> {
        let x_bld = &flow.x_bld;
        let [b, _, d] = x_bld.dims("language block")?;
        let normed = self.norm_0.forward(x_bld)?;
        let context = self.context(flow)?;
        let hand = Reading { x: &normed, context: context.as_ref() };
        let m = past.inputs.len() / (b * d);
        let mut report = Report::default();
        let source = match m {
            0 => self.attention.source(hand, 0, mode, &mut report)?,
            _ => {
                let remembered = |values: &[f32]| x_bld.tape().constant([b, m, d], values);
                let x = self.norm_0.forward(&remembered(past.inputs)?)?.append(&normed)?;
                let context = match &context {
                    Some(own) => self
                        .attention
                        .read_context(&remembered(past.contexts)?)?
                        .map(|before| before.append(own))
                        .transpose()?,
                    None => None,
                };
                let all = Reading { x: &x, context: context.as_ref() };
                self.attention.source(all, 0, mode, &mut report)?
            }
        };
        let distances =
            pass.sinusoids.map(|s| self.attention.distance_keys(s)).transpose()?.flatten();
        let mask = AttentionMask { is_causal: true, ..AttentionMask::default() };
        let scene = Scene { first_key: 0, offset: m, mask: &mask, distances: distances.as_ref() };
        self.rest(
            [x_bld, &normed],
            context.as_ref(),
            (&source, &scene),
            (pass.index, pass.rate, report),
            (mode, told),
        )
    }

    /// What the routers read beside the tokens at hand.
    pub(super) fn context<'t>(&self, flow: &Flow<'t>) -> Result<Option<Var<'t>>> {
        let given = flow.given_bld.as_ref();
        Ok(given.map(|given| self.attention.read_context(given)).transpose()?.flatten())
    }

    /// What follows keys and values: x, LN(x) and the context → the block's output.
    pub(super) fn rest<'t>(
        &self,
        [x_bld, normed_bld]: [&Var<'t>; 2],
        context: Option<&Var<'t>>,
        (source, scene): (&KeysValues<'t>, &Scene<'_, 't>),
        (index, rate, mut report): (usize, f32, Report<'t>),
        (mode, told): (&mut Mode<'_>, &mut Told<'t>),
    ) -> Result<Flow<'t>> {
        let drops = rate > 0.0 && matches!(mode, Mode::Train(_));
        let is_apart = drops || self.gives_context;
        let residual = (!is_apart).then_some(x_bld);
        let both = (&mut *mode, &mut report);
        let hand = Reading { x: normed_bld, context };
        let given = self.attention.attend(hand, source, scene, residual, both)?;
        let x = match is_apart {
            true => dropout(given.clone(), rate, mode)?.add(x_bld)?,
            false => given.clone(),
        };
        let x = x.reshape(x_bld.shape())?;
        let output = self.mlp.forward(&self.norm_1.forward(&x)?, &x, rate, mode)?;
        told.losses.append(&mut report.losses);
        told.losses.extend(output.losses);
        for (side, routing) in
            [(Side::Source, report.source), (Side::Destination, report.destination)]
        {
            told.stats.extend(routing.map(|own| RoutedPart {
                block: index,
                side,
                stats: own.stats,
                choices: Some(own.choices),
            }));
        }
        let of_mlp = |stats| RoutedPart { block: index, side: Side::Mlp, stats, choices: None };
        told.stats.extend(output.stats.map(of_mlp));
        Ok(Flow { x_bld: output.y_bld, given_bld: self.gives_context.then_some(given) })
    }
}
