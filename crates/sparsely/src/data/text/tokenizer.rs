//! Text to tokens and back.

use crate::{Error, Result};
use std::path::Path;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, TokenizerBuilder};

/// What ends a text, in vocabularies of our own and in those of others.
const ENDS: [&str; 7] =
    ["<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "[EOS]", "<|eot_id|>", "[SEP]"];
/// Of bytes.
const BYTES: usize = 256;

/// A vocabulary: tokens of text, and one that ends a text and stands before it.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    pub(super) kind: Kind,
    end_of_text: u32,
    vocabulary: usize,
    fingerprint: u32,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Bytes,
    Pieces(Box<tokenizers::Tokenizer>),
}

impl Tokenizer {
    /// A token for each byte and one for the end of a text.
    pub fn bytes() -> Tokenizer {
        let vocabulary = BYTES + 1;
        Tokenizer { kind: Kind::Bytes, end_of_text: BYTES as u32, vocabulary, fingerprint: 0 }
    }

    /// Byte-pair encoding of `pieces` tokens, learned from texts.
    ///
    /// # Errors
    /// If the texts do not have so many pairs.
    pub fn learn(pieces: usize, texts: impl Iterator<Item = String> + Send) -> Result<Tokenizer> {
        let byte_level = ByteLevel::default().add_prefix_space(false);
        let mut trainer = BpeTrainer::builder()
            .show_progress(false)
            .vocab_size(pieces)
            .special_tokens(vec![AddedToken::from(ENDS[0], true)])
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build();
        let mut learned = TokenizerBuilder::new()
            .with_model(BPE::default())
            .with_normalizer(None::<tokenizers::NormalizerWrapper>)
            .with_pre_tokenizer(Some(byte_level))
            .with_post_processor(None::<tokenizers::PostProcessorWrapper>)
            .with_decoder(Some(byte_level))
            .build()
            .map_err(|error| refused(&*error))?;
        learned.train(&mut trainer, texts).map_err(|error| refused(&*error))?;
        let json = learned.to_string(true).map_err(|error| refused(&*error))?;
        let tokenizer = Tokenizer::from_json(&json).map_err(|error| refused(&*error))?;
        if tokenizer.vocabulary != pieces {
            return Err(Error::Argument {
                op: "byte-pair encoding",
                expected: format!("a training text with {pieces} pieces"),
                got: format!("one with {}: set data.tokenizer.pieces", tokenizer.vocabulary),
            });
        }
        Ok(tokenizer)
    }

    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// If it is none.
    pub fn load(path: &Path) -> Result<Tokenizer> {
        let json = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        Tokenizer::from_json(&json)
            .map_err(|error| Error::format(path, "a tokenizer.json", one_line(&*error)))
    }

    fn from_json(json: &str) -> tokenizers::Result<Tokenizer> {
        let mut pieces: tokenizers::Tokenizer = json.parse()?;
        pieces.with_truncation(None)?;
        pieces.with_padding(None);
        // Text that looks like a special token is text.
        pieces.set_encode_special_tokens(true);
        let largest = pieces.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1);
        let known = ENDS.iter().find_map(|end| pieces.token_to_id(end));
        Ok(Tokenizer {
            end_of_text: known.unwrap_or(largest as u32),
            vocabulary: largest + usize::from(known.is_none()),
            fingerprint: crc32fast::hash(json.as_bytes()),
            kind: Kind::Pieces(Box::new(pieces)),
        })
    }

    /// As a `tokenizer.json`; `None` for bytes.
    pub(super) fn json(&self) -> Result<Option<String>> {
        match &self.kind {
            Kind::Bytes => Ok(None),
            Kind::Pieces(pieces) => {
                pieces.to_string(true).map(Some).map_err(|error| refused(&*error))
            }
        }
    }

    /// V.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// The token that ends a text, and that a text is read after.
    pub fn end_of_text(&self) -> u32 {
        self.end_of_text
    }

    /// Tells tokenizers apart.
    pub fn fingerprint(&self) -> u32 {
        self.fingerprint
    }

    /// Whether any bytes have tokens.
    pub fn takes_bytes(&self) -> bool {
        matches!(self.kind, Kind::Bytes)
    }

    /// The tokens of a text, without its end.
    ///
    /// # Errors
    /// If the vocabulary has none for it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        match &self.kind {
            Kind::Bytes => Ok(text.bytes().map(u32::from).collect()),
            Kind::Pieces(pieces) => Ok(pieces
                .encode_fast(text, false)
                .map_err(|error| refused(&*error))?
                .get_ids()
                .to_vec()),
        }
    }
}

fn refused(error: &(dyn std::error::Error + Send + Sync)) -> Error {
    Error::Argument {
        op: "tokenizer",
        expected: "a text that it has tokens for".into(),
        got: one_line(error),
    }
}

fn one_line(error: &(dyn std::error::Error + Send + Sync)) -> String {
    error.to_string().replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_their_own_tokens() {
        let tokenizer = Tokenizer::bytes();
        assert_eq!(tokenizer.encode("aé").unwrap(), [97, 0xc3, 0xa9]);
        assert_eq!((tokenizer.vocabulary(), tokenizer.end_of_text()), (257, 256));
    }

    #[test]
    fn frequent_pairs_become_pieces() {
        let texts = || std::iter::repeat_n("the theme of the thesis\n".to_string(), 5);
        let tokenizer = Tokenizer::learn(260, texts()).unwrap();
        assert_eq!((tokenizer.vocabulary(), tokenizer.end_of_text()), (260, 0));
        // Three merges: `t h`, `th e`, and `␣ the`.
        assert_eq!(tokenizer.encode(" the").unwrap().len(), 1);
        assert!(tokenizer.encode("über 日本").unwrap().len() > 5, "any text has tokens");
        // What looks like the end of a text is text.
        assert!(!tokenizer.encode("<|endoftext|>").unwrap().contains(&0));
        let again = Tokenizer::learn(260, texts()).unwrap();
        assert_eq!(again.fingerprint(), tokenizer.fingerprint());
        let error = Tokenizer::learn(2000, texts()).unwrap_err().to_string();
        let expected =
            "byte-pair encoding: expected a training text with 2000 pieces, got one with ";
        assert!(error.starts_with(expected), "{error}");
    }
}
