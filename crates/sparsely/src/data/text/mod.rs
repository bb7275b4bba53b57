//! Text: documents in three splits, cut into tokens once, read as contiguous streams.
//!
//! A source is the embedded novels, a text file, a folder of text files, or Parquet files with a column
//! of texts. [`Corpus::prepare`] reads it document after document and piece after piece, so that
//! it may be larger than memory, and leaves one file of tokens for each split, which is mapped where it is
//! read.
//!
//! # Splits
//!
//! Published splits (Parquet files or folders called train, validation and test) stay as they are. Of
//! three or more documents whole ones are held out, the same for every seed; of one or two the tail of
//! each: first the validation text, then the test text, cut where a line ends.

mod config;
mod corpus;
mod decode;
mod document;
mod kind;
mod novels;
mod piece;
mod source;
mod split;
mod stream;
mod tokenizer;
mod tokens_file;

pub use config::{TextConfig, TokenizerConfig};
pub use corpus::{Corpus, TOKENIZER_FILE, TOKENS_FOLDER};
pub use decode::Decoder;
pub use kind::TokenKind;
pub use split::TextSplit;
pub use stream::{Block, Streams};
pub use tokenizer::Tokenizer;
pub use tokens_file::{Counts, TokensFile};
