//! What is known of an arm on a test text.

use crate::Result;
use crate::cost::language::{TextCall, TextCost};
use crate::data::text::{Decoder, Tokenizer, TokensFile};
use crate::eval::language::{BlockLoss, TextEvaluation};
use crate::model::language::LanguageConfig;
use serde::{Deserialize, Serialize};

/// Blocks of a piece: neighbours are alike, so that few long pieces tell more honestly than many short ones how
/// much depends on the text.
const BLOCKS: usize = 8;

/// What is told of an arm besides its bits per byte.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextFound {
    /// e^(mean loss of a token); mean over seeds.
    pub perplexity: f64,
    /// Parameters.
    pub params: u64,
    /// Multiply-accumulates of the forward pass of a token after a full memory, as executed.
    pub macs_per_token: f64,
    /// Those of attention.
    pub attention_macs_per_token: f64,
    /// Bytes that a training step keeps of the forward pass, by its tokens.
    pub kept_bytes_per_token: f64,
    /// Those of attention.
    pub attention_kept_bytes_per_token: f64,
    /// Largest load of an expert over the mean load, mean over routers; nothing in dense models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imbalance: Option<f64>,
}

/// What bits per byte are made of: consecutive pieces of the test text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pieces {
    /// Predicted tokens of each.
    pub tokens: Vec<u64>,
    /// Their bytes.
    pub bytes: Vec<u64>,
    /// Their losses, in nats, summed up.
    pub nats: Vec<f64>,
}

impl TextFound {
    /// Of a model that was evaluated, in training steps of `batch` rows.
    ///
    /// # Errors
    /// If the model has no cost.
    pub(super) fn of(
        config: &LanguageConfig,
        batch: usize,
        evaluation: &TextEvaluation,
    ) -> Result<TextFound> {
        let cost = TextCost::of(config, &TextCall::full(config, batch))?;
        let per_token = |total: u64| total as f64 / cost.tokens as f64;
        let routers = evaluation.routers.len() as f64;
        let imbalance = evaluation.routers.iter().map(|part| part.imbalance).sum::<f64>() / routers;
        Ok(TextFound {
            perplexity: evaluation.perplexity,
            params: cost.params(),
            macs_per_token: per_token(cost.macs()),
            attention_macs_per_token: per_token(cost.attention_macs()),
            kept_bytes_per_token: per_token(cost.kept_bytes()),
            attention_kept_bytes_per_token: per_token(cost.attention_kept_bytes()),
            imbalance: (routers > 0.0).then_some(imbalance),
        })
    }

    /// Means over seeds; costs are the same for all.
    pub(super) fn mean(of_seeds: &[&TextFound]) -> TextFound {
        let n = of_seeds.len().max(1) as f64;
        let sum = |of: fn(&TextFound) -> f64| of_seeds.iter().map(|found| of(found)).sum::<f64>();
        let imbalance = of_seeds.iter().map(|found| found.imbalance).sum::<Option<f64>>();
        TextFound {
            perplexity: sum(|found| found.perplexity) / n,
            imbalance: imbalance.map(|sum| sum / n),
            ..*of_seeds[0]
        }
    }
}

impl Pieces {
    /// From the losses of blocks, with the bytes of their tokens; together those of the text.
    pub(super) fn of(blocks: &[BlockLoss], text: &TokensFile, tokenizer: &Tokenizer) -> Pieces {
        let mut pieces = Pieces { tokens: Vec::new(), bytes: Vec::new(), nats: Vec::new() };
        let mut measure = Measure::new(tokenizer);
        for blocks in blocks.chunks(BLOCKS) {
            let tokens: usize = blocks.iter().map(|block| block.tokens).sum();
            let mut ids = Vec::with_capacity(tokens);
            text.append(blocks[0].first + 1, tokens, &mut ids);
            pieces.tokens.push(tokens as u64);
            pieces.bytes.push(ids.iter().map(|id| measure.bytes(*id)).sum());
            pieces.nats.push(blocks.iter().map(|block| block.nats).sum());
        }
        // What waits within a character at the end, or is no character, goes to the last piece.
        let told: u64 = pieces.bytes.iter().sum();
        if let Some(last) = pieces.bytes.last_mut() {
            *last = (*last + text.counts().bytes).saturating_sub(told);
        }
        pieces
    }
}

/// Bytes of tokens, one after the other.
struct Measure<'a> {
    tokenizer: &'a Tokenizer,
    decoder: Decoder<'a>,
}

impl<'a> Measure<'a> {
    fn new(tokenizer: &'a Tokenizer) -> Measure<'a> {
        Measure { tokenizer, decoder: Decoder::new(tokenizer) }
    }

    fn bytes(&mut self, token: u32) -> u64 {
        if token == self.tokenizer.end_of_text() {
            0
        } else if self.tokenizer.takes_bytes() {
            1
        } else {
            self.decoder.push(token).len() as u64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::text::{Corpus, TextConfig, TokenizerConfig};

    /// Blocks of two tokens over the training tokens of a text.
    fn pieces(text: &str, tokenizer: TokenizerConfig) -> Pieces {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.txt");
        std::fs::write(&path, text).unwrap();
        let config = TextConfig {
            source: path.display().to_string(),
            tokenizer,
            validation_fraction: 0.0,
            test_fraction: 0.0,
            ..TextConfig::default()
        };
        let corpus = Corpus::prepare(&config, None, folder.path()).unwrap();
        let predicted = corpus.train.len() - 1;
        let block = |first| BlockLoss { first, tokens: 2.min(predicted - first), nats: 0.5 };
        let blocks: Vec<_> = (0..predicted).step_by(2).map(block).collect();
        Pieces::of(&blocks, &corpus.train, &corpus.tokenizer)
    }

    #[test]
    fn pieces_of_bytes_are_eight_blocks_and_the_end_has_no_byte() {
        // 39 bytes and the end of the text: 40 predicted tokens in 20 blocks.
        let found = pieces("It is a truth universally acknowledged!", TokenizerConfig::Bytes);
        assert_eq!(found.tokens, [16, 16, 8]);
        assert_eq!(found.bytes, [16, 16, 7]);
        assert_eq!(found.nats, [4.0, 4.0, 2.0]);
    }

    #[test]
    fn bytes_of_learned_pieces_are_those_of_the_text() {
        let text = "über the theme of the thesis, the same and the other; ".repeat(9);
        let found = pieces(&text, TokenizerConfig::Bpe { pieces: 270 });
        assert!(found.bytes.len() > 3, "{found:?}");
        assert_eq!(found.bytes.iter().sum::<u64>(), text.len() as u64);
        // Sixteen tokens of a byte or more; a character of two may lie on both sides of a cut.
        let (_, others) = found.bytes.split_last().unwrap();
        assert!(others.iter().all(|bytes| *bytes >= 15), "{found:?}");
    }
}
