//! Which text, and how it becomes tokens.

use serde::{Deserialize, Serialize};

use super::novels;

/// Pieces of a vocabulary that nobody has chosen the size of.
const PIECES: usize = 2048;
/// The bytes and the end of a text must be among them.
const FEWEST_PIECES: usize = 257;
/// More than any published vocabulary.
const MOST_PIECES: usize = 1 << 20;

/// Where a text comes from, how it is split, and what its tokens are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TextConfig {
    /// `austen` for the embedded novels, else the path of a text file, of a Parquet file, or of a folder
    /// of either.
    pub source: String,
    /// Parquet: the column of the texts; empty means `text`, `content`, or the only column of strings.
    pub text_column: String,
    /// What a token is.
    pub tokenizer: TokenizerConfig,
    /// Share held out for validation, in `[0, 0.4]`, where the source has no validation text of its own.
    pub validation_fraction: f64,
    /// Share held out for the test, in `[0, 0.4]`, where the source has no test text of its own.
    pub test_fraction: f64,
}

impl Default for TextConfig {
    fn default() -> TextConfig {
        TextConfig {
            source: novels::NAME.into(),
            text_column: String::new(),
            tokenizer: TokenizerConfig::default(),
            validation_fraction: 0.05,
            test_fraction: 0.05,
        }
    }
}

/// What a token is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum TokenizerConfig {
    /// A byte; any file will do.
    #[default]
    Bytes,
    /// A piece of byte-pair encoding, learned from the training text and saved with the run.
    Bpe {
        /// Size of the vocabulary, the 256 bytes and the end of a text included.
        #[serde(default = "pieces")]
        pieces: usize,
    },
    /// What a `tokenizer.json` says.
    File {
        /// Its path.
        #[serde(default)]
        path: String,
    },
}

fn pieces() -> usize {
    PIECES
}

impl TextConfig {
    /// One sentence per setting that cannot work; empty when all can.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.source.is_empty() {
            let novels = novels::NAME;
            problems.push(format!("data.source is empty: name a file, a folder or `{novels}`"));
        }
        let fractions = [("validation", self.validation_fraction), ("test", self.test_fraction)];
        for (name, fraction) in fractions {
            if !(0.0..=0.4).contains(&fraction) {
                problems.push(format!("data.{name}_fraction must be in [0, 0.4], got {fraction}"));
            }
        }
        match &self.tokenizer {
            TokenizerConfig::Bpe { pieces } if !(FEWEST_PIECES..=MOST_PIECES).contains(pieces) => {
                problems.push(format!(
                    "data.tokenizer.pieces must be in {FEWEST_PIECES}..={MOST_PIECES} (256 bytes and the \
                     end of a text are among them), got {pieces}"
                ));
            }
            TokenizerConfig::File { path } if path.is_empty() => {
                problems.push("data.tokenizer.path is empty: name a tokenizer.json".into());
            }
            _ => {}
        }
        problems
    }
}
