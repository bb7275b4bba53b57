//! How likely a model finds a text.

use crate::model::language::{LanguageModel, Tokens};
use crate::nn::Mode;
use crate::{Error, Result};
use sparsely_tensor::{Pool, Slab, Tape};

/// Tokens and what of them counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScoredText {
    /// What stands before a text, then the text.
    pub tokens: Vec<u32>,
    /// The first token that counts, at least 1.
    pub from: usize,
}

/// The natural logarithm of the probability of each token `from..`, given those before it.
///
/// A model with memory reads on, block after block; one without sees as much of what stands before as its
/// context holds.
///
/// # Errors
/// If what counts is longer than the context of a model without memory.
pub fn log_probabilities(
    (model, params): (&LanguageModel, &Slab),
    text: &ScoredText,
    pool: &Pool,
) -> Result<Vec<f64>> {
    let config = model.config();
    let predicted = text.tokens.len().saturating_sub(1);
    let left_out = match config.memory {
        0 => predicted.saturating_sub(config.context),
        _ => 0,
    };
    if left_out >= text.from.max(1) {
        return Err(Error::Argument {
            op: "score",
            expected: format!("a text within the context of {} tokens", config.context),
            got: format!("one of {}", text.tokens.len() - text.from),
        });
    }
    let tokens = &text.tokens[left_out..];
    let (mut losses, mut memory) = (Vec::new(), None);
    let (inputs, targets) = (&tokens[..tokens.len().saturating_sub(1)], tokens.get(1..));
    let blocks = inputs.chunks(config.context).zip(targets.unwrap_or(&[]).chunks(config.context));
    for (inputs, targets) in blocks {
        let tape = Tape::inference(params, pool);
        let tokens = Tokens { ids: inputs, batch: 1 };
        let output = model.forward(&tape, tokens, memory.as_ref(), &mut Mode::Eval)?;
        losses.extend(output.logits_tv.token_losses(targets)?);
        memory = output.memory;
    }
    let counted = &losses[(text.from.max(1) - 1 - left_out).min(losses.len())..];
    Ok(counted.iter().map(|nats| -nats).collect())
}
