//! The language model: embedding, pre-norm blocks, final norm, output.

use super::LanguageConfig;
use crate::Result;
use crate::moe::RouterStats;
use crate::nn::Mode;
use sparsely_tensor::{Layout, Slab, Tape, Var};
use std::sync::Arc;

/// Tokens of B sequences of L each.
#[derive(Clone, Copy, Debug)]
pub struct Tokens<'a> {
    /// `[B, L]`, sequence after sequence.
    pub ids: &'a [u32],
    /// B.
    pub batch: usize,
}

/// What each block attends to before the tokens at hand: the raw inputs of the block, without gradient.
#[derive(Clone, Debug, PartialEq)]
pub struct Memory {
    /// Of each block, `[B, M, D]`.
    pub inputs: Vec<Vec<f32>>,
    /// B.
    pub batch: usize,
    /// M, at most the configuration's.
    pub length: usize,
}

/// Which half of a block routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Keys and values of attention.
    Source,
    /// Queries and outputs of attention; all of MoA.
    Destination,
    /// The MLP.
    Mlp,
}

/// What a router of the model did.
#[derive(Clone, Debug, PartialEq)]
pub struct RoutedPart {
    /// Index of the block.
    pub block: usize,
    /// Where in the block.
    pub side: Side,
    /// Counts; of attention over all experts of all heads, head after head.
    pub stats: RouterStats,
}

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

/// Keys and mixed values of the tokens so far, for decoding.
pub struct Cache {
    batch: usize,
    length: usize,
}

impl Cache {
    /// B.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Tokens that were read in all.
    pub fn length(&self) -> usize {
        self.length
    }
}

/// A causal language model: where its parameters lie, and what it computes.
pub struct LanguageModel {
    config: LanguageConfig,
}

impl LanguageModel {
    /// The model and the fresh parameters that `seed` stands for.
    ///
    /// # Errors
    /// If the configuration cannot work; all problems at once.
    pub fn init(config: &LanguageConfig, seed: u64) -> Result<(LanguageModel, Slab)> {
        unimplemented!("{config:?} {seed}")
    }

    /// Names, shapes and places of the parameters, without memory for their values.
    ///
    /// # Errors
    /// As [`LanguageModel::init`].
    pub fn layout(config: &LanguageConfig) -> Result<Layout> {
        unimplemented!("{config:?}")
    }

    /// The model and where its parameters lie, for parameters that come from elsewhere.
    ///
    /// # Errors
    /// As [`LanguageModel::init`].
    pub fn new(config: &LanguageConfig) -> Result<(LanguageModel, Arc<Layout>)> {
        unimplemented!("{config:?}")
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
        unimplemented!(
            "{tokens:?} {memory:?} {} {:?}",
            matches!(mode, Mode::Eval),
            tape.constant([1], &[0.0])
        )
    }

    /// Moves after a training step what routers adapt by rule, given what the step's output told.
    pub fn adapt(&self, params: &mut Slab, stats: &[RoutedPart]) {
        let _ = (params, stats);
    }

    /// An empty cache for `batch` sequences that are read in step.
    ///
    /// # Errors
    /// If there are none.
    pub fn cache(&self, batch: usize) -> Result<Cache> {
        Ok(Cache { batch, length: 0 })
    }

    /// Reads `[B, L]` more tokens, any number at a time: logits `[B·L, V]`, those that the whole text
    /// has. A model with memory reads on forever, block of text after block of text; one without ends
    /// with its context.
    ///
    /// # Errors
    /// As [`LanguageModel::forward`].
    pub fn step<'t>(
        &self,
        tape: &'t Tape<'t>,
        tokens: Tokens<'_>,
        cache: &mut Cache,
    ) -> Result<Var<'t>> {
        unimplemented!("{tokens:?} {} {:?}", cache.length, tape.constant([1], &[0.0]))
    }
}
