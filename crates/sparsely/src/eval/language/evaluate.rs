//! How well a model predicts a text.

use super::LanguageEvalConfig;
use super::usage::{HeadUsage, Usage};
use crate::Result;
use crate::data::text::{TokenKind, TokensFile};
use crate::model::language::{LanguageModel, Memory, RoutedPart, Side, Tokens};
use crate::nn::Mode;
use serde::Serialize;
use sparsely_tensor::{Pool, Slab, Tape};
use std::time::Instant;

/// How well a model predicts a text: from its beginning to its end, with the memory carried along.
///
/// Every token but the first is predicted, ends of documents too. A model without memory begins anew with
/// each block of its context.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TextEvaluation {
    /// Predicted tokens.
    pub tokens: u64,
    /// Mean loss of a token, in nats.
    pub loss: f64,
    /// e^loss.
    pub perplexity: f64,
    /// Bytes of the text; absent if only a part of it was read.
    pub bytes: Option<u64>,
    /// Loss of the whole text in bits, by its bytes.
    pub bits_per_byte: Option<f64>,
    /// Words between white space; absent where the text is not UTF-8 or only a part of it was read.
    pub words: Option<u64>,
    /// e^(loss of the whole text in nats / words).
    pub word_perplexity: Option<f64>,
    /// Tokens a second.
    pub tokens_per_second: f64,
    /// One for each router.
    pub routers: Vec<PartLoad>,
}

/// What one router did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PartLoad {
    /// Index of the block.
    pub block: usize,
    /// `source`, `destination` or `mlp`.
    pub side: &'static str,
    /// Largest load over mean load.
    pub imbalance: f64,
    /// Mean entropy of a token's gates in nats, where the router tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entropy: Option<f64>,
    /// How often each expert was asked; in attention head after head.
    pub asked: Vec<u64>,
}

/// How well a model predicts a block of a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlockLoss {
    /// The token before the first that is predicted.
    pub first: usize,
    /// Predicted tokens.
    pub tokens: usize,
    /// Their losses, summed up.
    pub nats: f64,
}

/// Evaluates a model on a text, or on its first `limit` tokens.
///
/// # Errors
/// If a token is not of the model's vocabulary.
pub fn evaluate_text(
    model: (&LanguageModel, &Slab),
    tokens: &TokensFile,
    limit: Option<usize>,
    config: &LanguageEvalConfig,
) -> Result<TextEvaluation> {
    Ok(evaluate_blocks(model, tokens, limit, config)?.0)
}

/// As [`evaluate_text`], with the losses of blocks as long as the context, or shorter where the text or a
/// row ends, in the order of the text.
///
/// # Errors
/// As [`evaluate_text`].
pub fn evaluate_blocks(
    (model, params): (&LanguageModel, &Slab),
    tokens: &TokensFile,
    limit: Option<usize>,
    config: &LanguageEvalConfig,
) -> Result<(TextEvaluation, Vec<BlockLoss>)> {
    let mut pass = Pass::new(model, params, None);
    let evaluation = pass.evaluate(tokens, limit, config)?;
    pass.blocks.sort_by_key(|block| block.first);
    Ok((evaluation, pass.blocks))
}

/// The same on the whole text, and which experts of each head of attention its tokens went to, by their kinds:
/// `kinds` are those of the vocabulary.
///
/// # Errors
/// As [`evaluate_text`].
pub fn evaluate_usage(
    (model, params): (&LanguageModel, &Slab),
    tokens: &TokensFile,
    kinds: &[TokenKind],
    config: &LanguageEvalConfig,
) -> Result<(TextEvaluation, Vec<HeadUsage>)> {
    let mut pass = Pass::new(model, params, Some(Usage::new(kinds)));
    let evaluation = pass.evaluate(tokens, None, config)?;
    Ok((evaluation, pass.usage.map(Usage::into_heads).unwrap_or_default()))
}

struct Pass<'a> {
    model: &'a LanguageModel,
    params: &'a Slab,
    pool: Pool,
    blocks: Vec<BlockLoss>,
    parts: Vec<RoutedPart>,
    usage: Option<Usage<'a>>,
}

impl<'a> Pass<'a> {
    fn new(model: &'a LanguageModel, params: &'a Slab, usage: Option<Usage<'a>>) -> Pass<'a> {
        Pass { model, params, pool: Pool::new(), blocks: Vec::new(), parts: Vec::new(), usage }
    }

    fn evaluate(
        &mut self,
        tokens: &TokensFile,
        limit: Option<usize>,
        config: &LanguageEvalConfig,
    ) -> Result<TextEvaluation> {
        let begin = Instant::now();
        let predicted = tokens.len().saturating_sub(1);
        let read = predicted.min(limit.unwrap_or(predicted));
        let rows = config.batch_size.min(read).max(1);
        self.rows(tokens, (0, read / rows), rows)?;
        // What does not fill the rows is a row of its own.
        self.rows(tokens, (read / rows * rows, read % rows), 1)?;
        let counts = Some(tokens.counts()).filter(|_| read == predicted);
        let (bytes, words) = (counts.map(|c| c.bytes), counts.and_then(|c| c.words));
        let nats: f64 = self.blocks.iter().map(|block| block.nats).sum();
        let per = |count: Option<u64>| count.filter(|n| *n > 0).map(|n| nats / n as f64);
        let loss = nats / read.max(1) as f64;
        Ok(TextEvaluation {
            tokens: read as u64,
            loss,
            perplexity: loss.exp(),
            bytes,
            bits_per_byte: per(bytes).map(|nats| nats / std::f64::consts::LN_2),
            words,
            word_perplexity: per(words).map(f64::exp),
            tokens_per_second: read as f64 / begin.elapsed().as_secs_f64(),
            routers: self.parts.iter().map(PartLoad::from).collect(),
        })
    }

    /// Reads `batch` rows of `length` predicted tokens, one after the other in the text from `start` on.
    fn rows(
        &mut self,
        tokens: &TokensFile,
        (start, length): (usize, usize),
        batch: usize,
    ) -> Result<()> {
        let context = self.model.config().context;
        let mut memory = None;
        for at in (0..length).step_by(context) {
            let count = context.min(length - at);
            let (mut inputs, mut targets) = (Vec::new(), Vec::new());
            let firsts: Vec<usize> = (0..batch).map(|b| start + b * length + at).collect();
            for &first in &firsts {
                tokens.append(first, count, &mut inputs);
                tokens.append(first + 1, count, &mut targets);
            }
            memory = self.block((&inputs, &targets), &firsts, memory.as_ref())?;
        }
        Ok(())
    }

    fn block(
        &mut self,
        (inputs, targets): (&[u32], &[u32]),
        firsts: &[usize],
        memory: Option<&Memory>,
    ) -> Result<Option<Memory>> {
        let tape = Tape::inference(self.params, &self.pool);
        let tokens = Tokens { ids: inputs, batch: firsts.len() };
        let output = self.model.forward(&tape, tokens, memory, &mut Mode::Eval)?;
        if let Some(usage) = &mut self.usage {
            usage.add((inputs, firsts.len()), &output.stats);
        }
        let losses = output.logits_tv.token_losses(targets)?;
        let tokens = losses.len() / firsts.len();
        let rows = firsts.iter().zip(losses.chunks(tokens));
        self.blocks.extend(rows.map(|(&first, losses)| BlockLoss {
            first,
            tokens,
            nats: losses.iter().sum(),
        }));
        if self.parts.is_empty() {
            self.parts = output.stats;
        } else {
            let parts = self.parts.iter_mut().zip(&output.stats);
            parts.for_each(|(sum, more)| sum.stats.merge(&more.stats));
        }
        Ok(output.memory)
    }
}

impl From<&RoutedPart> for PartLoad {
    fn from(part: &RoutedPart) -> PartLoad {
        PartLoad {
            block: part.block,
            side: side_name(part.side),
            imbalance: part.stats.imbalance(),
            entropy: Some(part.stats.entropy()).filter(|entropy| *entropy > 0.0),
            asked: part.stats.asked_e.clone(),
        }
    }
}

/// As it is called in tables.
pub(super) fn side_name(side: Side) -> &'static str {
    match side {
        Side::Source => "source",
        Side::Destination => "destination",
        Side::Mlp => "mlp",
    }
}
