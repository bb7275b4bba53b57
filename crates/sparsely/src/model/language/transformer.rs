//! The language model: embedding, pre-norm blocks, final norm, output.

use super::mlp::MlpLayer;
use super::tokens::{Memory, RoutedPart, Side, Tokens};
use super::{BlockConfig, LanguageConfig};
use crate::attention::{AttentionLayer, KeysValues, Report, Scene, Sinusoids, sinusoids};
use crate::moe::RouterStats;
use crate::moe::router::Learned;
use crate::nn::{Init, Initializer, LayerNorm, Linear, Mode, dropout};
use crate::{Error, Result};
use sparsely_tensor::{AttentionMask, Layout, Param, Slab, Tape, Var};
use std::sync::{Arc, OnceLock};

/// Added to the variance in all norms.
const NORM_EPS: f32 = 1e-5;

/// What the model returns.
pub struct LanguageOutput<'t> {
    /// `[B·L, V]`.
    pub logits_tv: Var<'t>,
    /// Auxiliary losses with their weights, to be added to the task loss.
    pub losses: Vec<(Var<'t>, f32)>,
    /// What routers did.
    pub stats: Vec<RoutedPart>,
    /// For the next block of text; `None` for a model without memory.
    pub memory: Option<Memory>,
}

/// A causal language model: where its parameters lie, and what it computes.
pub struct LanguageModel {
    pub(super) config: LanguageConfig,
    /// `[V, D]`.
    embedding: Param,
    pub(super) blocks: Vec<Block>,
    norm: LayerNorm,
    output: Linear,
    /// Of all distances behind, made when they are first needed.
    sinusoids: OnceLock<Vec<f32>>,
}

/// One block: x += Attention(LN x); x += MLP(LN x).
pub(super) struct Block {
    pub(super) norm_0: LayerNorm,
    pub(super) attention: AttentionLayer,
    norm_1: LayerNorm,
    mlp: MlpLayer,
}

/// What blocks tell beside their outputs.
#[derive(Default)]
pub(super) struct Told<'t> {
    losses: Vec<(Var<'t>, f32)>,
    stats: Vec<RoutedPart>,
}

impl LanguageModel {
    /// The model and the fresh parameters that `seed` stands for.
    ///
    /// # Errors
    /// If the configuration cannot work; all problems at once.
    pub fn init(config: &LanguageConfig, seed: u64) -> Result<(LanguageModel, Slab)> {
        let (model, init) = LanguageModel::planned(config)?;
        Ok((model, init.finish(seed)))
    }

    /// Names, shapes and places of the parameters, without memory for their values.
    ///
    /// # Errors
    /// As [`LanguageModel::init`].
    pub fn layout(config: &LanguageConfig) -> Result<Layout> {
        Ok(LanguageModel::planned(config)?.1.into_layout())
    }

    /// The model and where its parameters lie, for parameters that come from elsewhere.
    ///
    /// # Errors
    /// As [`LanguageModel::init`].
    pub fn new(config: &LanguageConfig) -> Result<(LanguageModel, Arc<Layout>)> {
        let (model, init) = LanguageModel::planned(config)?;
        Ok((model, Arc::new(init.into_layout())))
    }

    fn planned(config: &LanguageConfig) -> Result<(LanguageModel, Initializer)> {
        config.validate()?;
        let mut init = Initializer::default();
        let model = LanguageModel::lay_out(&mut init, config);
        Ok((model, init))
    }

    fn lay_out(init: &mut Initializer, config: &LanguageConfig) -> LanguageModel {
        let &LanguageConfig { vocabulary: v, width: d, .. } = config;
        let embedding = Init::Normal { std: 1.0 / (d as f32).sqrt() };
        let embedding = init.vector("embedding", [v, d], embedding);
        let blocks = config.blocks().into_iter().enumerate();
        let blocks = blocks
            .map(|(i, block)| {
                init.scope(format!("blocks/{i}"), |init| Block::init(init, &block, config))
            })
            .collect();
        let edge = Init::Uniform { limit: 1.0 / (d as f32).sqrt() };
        LanguageModel {
            config: config.clone(),
            embedding,
            blocks,
            norm: LayerNorm::init(init, "norm", d).with_eps(NORM_EPS),
            output: Linear::init(init, "output", [d, v], edge, edge),
            sinusoids: OnceLock::new(),
        }
    }

    /// Its configuration.
    pub fn config(&self) -> &LanguageConfig {
        &self.config
    }

    /// One block of text: logits of the token after each, given those before it and the memory.
    ///
    /// The first block of a text has no memory; afterwards it is that of the output before.
    ///
    /// # Errors
    /// If a token is not below V, the block is longer than the context, or the memory is that of other
    /// sequences.
    pub fn forward<'t>(
        &self,
        tape: &'t Tape<'t>,
        tokens: Tokens<'_>,
        memory: Option<&Memory>,
        mode: &mut Mode<'_>,
    ) -> Result<LanguageOutput<'t>> {
        let (b, l) = (tokens.batch, tokens.length("language model", self.config.vocabulary)?);
        if l > self.config.context {
            return Err(Error::Argument {
                op: "language model",
                expected: format!(
                    "at most {} tokens, the context of the model",
                    self.config.context
                ),
                got: format!("{l}"),
            });
        }
        memory.map_or(Ok(()), |memory| memory.check(&self.config, b))?;
        let length = memory.map_or(0, |memory| memory.length);
        let sinusoids = self.sinusoids(tape, length + l - 1)?;
        let mut x_bld = self.embed(tape, tokens)?;
        let mut told = Told::default();
        let mut inputs = Vec::new();
        for (i, block) in self.blocks.iter().enumerate() {
            let old = memory.map_or(&[][..], |memory| &memory.inputs[i]);
            if self.config.memory > 0 {
                inputs.push(Memory::roll(
                    old,
                    x_bld.values(),
                    [b, self.config.memory, self.config.width],
                ));
            }
            let pass = Pass { index: i, sinusoids: sinusoids.as_ref(), rate: self.config.dropout };
            x_bld = block.forward(&x_bld, old, pass, (mode, &mut told))?;
        }
        let length = self.config.memory.min(length + l);
        let memory = (self.config.memory > 0).then_some(Memory { inputs, batch: b, length });
        let logits_tv = self.logits(&x_bld)?;
        Ok(LanguageOutput { logits_tv, losses: told.losses, stats: told.stats, memory })
    }

    /// `[B, L, D]`.
    pub(super) fn embed<'t>(&self, tape: &'t Tape<'t>, tokens: Tokens<'_>) -> Result<Var<'t>> {
        let x_td = tape.embedding(&self.embedding, tokens.ids)?;
        let length = tokens.ids.len() / tokens.batch;
        Ok(x_td.reshape([tokens.batch, length, self.config.width])?)
    }

    /// `[B, L, D]` → `[B·L, V]`.
    pub(super) fn logits<'t>(&self, x_bld: &Var<'t>) -> Result<Var<'t>> {
        let rows = x_bld.shape().rows();
        self.output.forward(&self.norm.forward(x_bld)?.reshape([rows, self.config.width])?)
    }

    /// Those of distances up to `behind`, if any block asks for them.
    pub(super) fn sinusoids<'t>(
        &self,
        tape: &'t Tape<'t>,
        behind: usize,
    ) -> Result<Option<Sinusoids<'t>>> {
        let is_relative = |block: &BlockConfig| block.attention.positions().are_relative();
        if !self.config.blocks().iter().any(is_relative) {
            return Ok(None);
        }
        let LanguageConfig { context, memory, width: d, .. } = self.config;
        let all = self.sinusoids.get_or_init(|| sinusoids([context + memory - 1, 0], d));
        let own = &all[all.len() - (behind + 1) * d..];
        let table_rd = tape.constant([behind + 1, d], own)?;
        Ok(Some(Sinusoids { table_rd, zero: behind }))
    }

    /// Moves after a training step what routers adapt by rule, given what the step's output told.
    pub fn adapt(&self, params: &mut Slab, stats: &[RoutedPart]) {
        let mut model = RouterStats::default();
        let of_mlps = || stats.iter().filter(|part| part.side == Side::Mlp);
        of_mlps().for_each(|part| model.merge(&part.stats));
        for part in of_mlps() {
            let learned = Learned { layer: &part.stats, model: &model };
            self.blocks[part.block].mlp.adapt(params, &learned);
        }
    }
}

/// What a forward pass brings to a block.
#[derive(Clone, Copy)]
struct Pass<'a, 't> {
    index: usize,
    sinusoids: Option<&'a Sinusoids<'t>>,
    rate: f32,
}

impl Block {
    fn init(init: &mut Initializer, block: &BlockConfig, config: &LanguageConfig) -> Block {
        let &LanguageConfig { width: d, depth, context, .. } = config;
        Block {
            norm_0: LayerNorm::init(init, "norm_0", d).with_eps(NORM_EPS),
            attention: AttentionLayer::init(init, &block.attention, [d, depth]),
            norm_1: LayerNorm::init(init, "norm_1", d).with_eps(NORM_EPS),
            mlp: MlpLayer::init(init, &block.mlp, [d, depth, context]),
        }
    }

    /// `[B, L, D]` → `[B, L, D]`, over the raw inputs `[B, M, D]` of the block before.
    fn forward<'t>(
        &self,
        x_bld: &Var<'t>,
        memory: &[f32],
        pass: Pass<'_, 't>,
        (mode, told): (&mut Mode<'_>, &mut Told<'t>),
    ) -> Result<Var<'t>> {
        let [b, _, d] = x_bld.dims("language block")?;
        let normed = self.norm_0.forward(x_bld)?;
        let m = memory.len() / (b * d);
        let source = match m {
            0 => normed.clone(),
            _ => {
                let memory = x_bld.tape().constant([b, m, d], memory)?;
                self.norm_0.forward(&memory)?.append(&normed)?
            }
        };
        let mut report = Report::default();
        let source = self.attention.source(&source, 0, mode, &mut report)?;
        let distances =
            pass.sinusoids.map(|s| self.attention.distance_keys(s)).transpose()?.flatten();
        let mask = AttentionMask { is_causal: true, ..AttentionMask::default() };
        let scene = Scene { first_key: 0, offset: m, mask: &mask, distances: distances.as_ref() };
        self.rest([x_bld, &normed], &source, &scene, (pass.index, pass.rate, report), (mode, told))
    }

    /// What follows keys and values: x and LN(x) → the block's output.
    pub(super) fn rest<'t>(
        &self,
        [x_bld, normed_bld]: [&Var<'t>; 2],
        source: &KeysValues<'t>,
        scene: &Scene<'_, 't>,
        (index, rate, mut report): (usize, f32, Report<'t>),
        (mode, told): (&mut Mode<'_>, &mut Told<'t>),
    ) -> Result<Var<'t>> {
        let drops = rate > 0.0 && matches!(mode, Mode::Train(_));
        let residual = (!drops).then_some(x_bld);
        let both = (&mut *mode, &mut report);
        let mut x = self.attention.attend(normed_bld, source, scene, residual, both)?;
        if drops {
            x = dropout(x, rate, mode)?.add(x_bld)?;
        }
        let x = x.reshape(x_bld.shape())?;
        let output = self.mlp.forward(&self.norm_1.forward(&x)?, &x, rate, mode)?;
        told.losses.append(&mut report.losses);
        told.losses.extend(output.losses);
        let sides = [
            (Side::Source, report.source),
            (Side::Destination, report.destination),
            (Side::Mlp, output.stats),
        ];
        let parts = sides
            .into_iter()
            .filter_map(|(side, stats)| Some(RoutedPart { block: index, side, stats: stats? }));
        told.stats.extend(parts);
        Ok(output.y_bld)
    }
}
