//! The language model: embedding, pre-norm blocks, final norm, output.

use super::block::{Block, Flow, NORM_EPS, Pass, Told};
use super::tokens::{Memory, Past, RoutedPart, Side, Tokens};
use super::{BlockConfig, LanguageConfig};
use crate::attention::{Sinusoids, sinusoids};
use crate::moe::RouterStats;
use crate::moe::router::Learned;
use crate::nn::{Init, Initializer, LayerNorm, Linear, Mode, Precision};
use crate::{Error, Result};
use sparsely_tensor::{Layout, Param, Slab, Tape, Var};
use std::sync::{Arc, OnceLock};

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
        let gives_context = config.blocks_that_read_contexts();
        let gives_context = gives_context.into_iter().skip(1).chain([false]);
        let blocks = config.blocks().into_iter().zip(gives_context).enumerate();
        let blocks = blocks
            .map(|(i, (block, gives_context))| {
                let build = |init: &mut _| Block::init(init, &block, gives_context, config);
                init.scope(format!("blocks/{i}"), build)
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

    /// The same model with products of another precision.
    pub fn with_precision(mut self, precision: Precision) -> LanguageModel {
        self.config.precision = precision;
        self
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
        tape.compute_in(self.config.precision.into());
        let length = memory.map_or(0, |memory| memory.length);
        let sinusoids = self.sinusoids(tape, length + l - 1)?;
        let mut told = Told::default();
        let mut flow = Flow { x_bld: self.embed(tape, tokens)?, given_bld: None };
        let sizes = [b, self.config.memory, self.config.width];
        let (mut inputs, mut contexts) = (Vec::new(), Vec::new());
        for (i, block) in self.blocks.iter().enumerate() {
            let old = memory.map_or(Past::default(), |memory| memory.of(i));
            if self.config.memory > 0 {
                inputs.push(Memory::roll(old.inputs, flow.x_bld.values(), sizes));
                let given = flow.given_bld.as_ref();
                contexts.push(
                    given.map_or(Vec::new(), |given| {
                        Memory::roll(old.contexts, given.values(), sizes)
                    }),
                );
            }
            let pass = Pass { index: i, sinusoids: sinusoids.as_ref(), rate: self.config.dropout };
            flow = block.forward(&flow, old, pass, (mode, &mut told))?;
        }
        let length = self.config.memory.min(length + l);
        let memory =
            (self.config.memory > 0).then_some(Memory { inputs, contexts, batch: b, length });
        let logits_tv = self.logits(&flow.x_bld)?;
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
        let of_mlps = stats.iter().filter(|part| part.side == Side::Mlp);
        of_mlps.for_each(|part| model.merge(&part.stats));
        for RoutedPart { block, side, stats, .. } in stats {
            let Block { attention, mlp, .. } = &self.blocks[*block];
            match side {
                Side::Source => attention.adapt(params, [Some(stats), None]),
                Side::Destination => attention.adapt(params, [None, Some(stats)]),
                Side::Mlp => mlp.adapt(params, &Learned { layer: stats, model: &model }),
            }
        }
    }
}
