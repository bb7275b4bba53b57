//! A text, cut into tokens and split.

use super::piece::{Piece, Sink, parts};
use super::source::Source;
use super::split::TextSplit;
use super::tokens_file::TokensWriter;
use super::{TextConfig, Tokenizer, TokenizerConfig, TokensFile};
use crate::{Error, Result};
use rayon::prelude::*;
use std::fs;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::thread;

/// Where a vocabulary lies in the folder of a run; bytes have none.
pub const TOKENIZER_FILE: &str = "tokenizer.json";
/// Where the tokens lie in the folder of a run.
pub const TOKENS_FOLDER: &str = "tokens";
/// Bytes of text that one thread tokenises in one go.
const PART_BYTES: usize = 1 << 16;
/// Pieces of text that wait for the learning of a vocabulary.
const WAITING: usize = 4;

/// Three splits of tokens and what they mean.
#[derive(Debug)]
pub struct Corpus {
    /// What tokens are.
    pub tokenizer: Tokenizer,
    /// To learn from.
    pub train: TokensFile,
    /// To take decisions on; may be empty.
    pub validation: TokensFile,
    /// To report results on; may be empty.
    pub test: TokensFile,
}

impl Corpus {
    /// Reads the text of `config` and leaves vocabulary and tokens in `folder`. Without a tokenizer the
    /// configuration's is made.
    ///
    /// # Errors
    /// If the text or the tokenizer cannot be used, or the folder cannot be written.
    pub fn prepare(
        config: &TextConfig,
        tokenizer: Option<Tokenizer>,
        folder: &Path,
    ) -> Result<Corpus> {
        let source = Source::open(config)?;
        let tokenizer = match tokenizer {
            Some(tokenizer) => tokenizer,
            None => make_tokenizer(&config.tokenizer, &source)?,
        };
        let tokens = folder.join(TOKENS_FOLDER);
        fs::create_dir_all(&tokens).map_err(Error::io("create", &tokens))?;
        if let Some(json) = tokenizer.json()? {
            let path = folder.join(TOKENIZER_FILE);
            fs::write(&path, json).map_err(Error::io("write", &path))?;
        }
        for split in TextSplit::ALL {
            write_tokens(&source, split, &tokenizer, &path_of(folder, split))?;
        }
        // The rule is of the source, which may be gone when the tokens are opened again.
        let rule = tokens.join(RULE_FILE);
        let told = format!("{} ({})\n", source.name, source.rule());
        fs::write(&rule, told).map_err(Error::io("write", &rule))?;
        let corpus = Corpus::with_tokenizer(tokenizer, folder)?;
        if corpus.train.is_empty() {
            let got = "no text in it".to_string();
            return Err(Error::format(Path::new(&config.source), "text to learn from", got));
        }
        Ok(corpus)
    }

    /// Opens what [`Corpus::prepare`] has left.
    ///
    /// # Errors
    /// If a file is missing or damaged, or the tokens are those of another tokenizer.
    pub fn open(config: &TextConfig, folder: &Path) -> Result<Corpus> {
        Corpus::with_tokenizer(Corpus::tokenizer(config, folder)?, folder)
    }

    /// The tokenizer alone.
    ///
    /// # Errors
    /// If it is missing or damaged.
    pub fn tokenizer(config: &TextConfig, folder: &Path) -> Result<Tokenizer> {
        match config.tokenizer {
            TokenizerConfig::Bytes => Ok(Tokenizer::bytes()),
            _ => Tokenizer::load(&folder.join(TOKENIZER_FILE)),
        }
    }

    fn with_tokenizer(tokenizer: Tokenizer, folder: &Path) -> Result<Corpus> {
        let open = |split| TokensFile::open(&path_of(folder, split), &tokenizer);
        let [train, validation, test] = TextSplit::ALL.map(open);
        Ok(Corpus { train: train?, validation: validation?, test: test?, tokenizer })
    }

    /// The tokens of a split.
    pub fn split(&self, split: TextSplit) -> &TokensFile {
        match split {
            TextSplit::Train => &self.train,
            TextSplit::Validation => &self.validation,
            TextSplit::Test => &self.test,
        }
    }

    /// One line: name, sizes of the splits, vocabulary, and how the splits came about.
    pub fn describe(&self) -> String {
        let folder = self.train.path().parent().unwrap_or(Path::new(""));
        let source = fs::read_to_string(folder.join(RULE_FILE)).unwrap_or_default();
        let (name, rule) = source.trim().split_once(" (").unwrap_or((source.trim(), ")"));
        format!(
            "{name}: {} training, {} validation, {} test tokens of {} ({rule}",
            self.train.len(),
            self.validation.len(),
            self.test.len(),
            match self.tokenizer.takes_bytes() {
                true => "bytes".to_string(),
                false => format!("{} pieces", self.tokenizer.vocabulary()),
            }
        )
    }
}

/// What the source was, for people.
const RULE_FILE: &str = "source.txt";

fn path_of(folder: &Path, split: TextSplit) -> std::path::PathBuf {
    folder.join(TOKENS_FOLDER).join(format!("{}.tokens", split.name()))
}

fn make_tokenizer(config: &TokenizerConfig, source: &Source) -> Result<Tokenizer> {
    match config {
        TokenizerConfig::Bytes => Ok(Tokenizer::bytes()),
        TokenizerConfig::File { path } => Tokenizer::load(Path::new(path)),
        TokenizerConfig::Bpe { pieces } => learn(*pieces, source),
    }
}

/// Learns a vocabulary from the training text, which another thread reads meanwhile.
fn learn(pieces: usize, source: &Source) -> Result<Tokenizer> {
    let (sender, receiver) = sync_channel::<String>(WAITING);
    thread::scope(|scope| {
        let reading = scope.spawn(move || {
            source.read(TextSplit::Train, &mut |piece| {
                if let Piece::Bytes { bytes, place } = piece {
                    // Whoever has stopped listening has an error to tell.
                    let _ = sender.send(Piece::text(bytes, &place)?.to_string());
                }
                Ok(())
            })
        });
        let learned = Tokenizer::learn(pieces, receiver.into_iter());
        reading.join().expect("reading does not panic")?;
        learned
    })
}

/// Writes the tokens of a split, piece by piece.
fn write_tokens(
    source: &Source,
    split: TextSplit,
    tokenizer: &Tokenizer,
    path: &Path,
) -> Result<()> {
    let mut writer = TokensWriter::create(path, tokenizer)?;
    writer.counts.words = Some(0);
    let end = [tokenizer.end_of_text()];
    let sink: &mut Sink<'_> = &mut |piece| match piece {
        Piece::Begin => {
            writer.counts.documents += 1;
            writer.push(&end)
        }
        Piece::Bytes { bytes, place } => {
            let text = Piece::text(bytes, &place);
            let words = text.as_ref().ok().map(|text| text.split_whitespace().count() as u64);
            let counts = &mut writer.counts;
            counts.bytes += bytes.len() as u64;
            counts.words = counts.words.zip(words).map(|(before, more)| before + more);
            if tokenizer.takes_bytes() {
                let tokens: Vec<u32> = bytes.iter().map(|byte| u32::from(*byte)).collect();
                return writer.push(&tokens);
            }
            // Parts that do not depend on the number of threads.
            let parts = parts(text?, PART_BYTES);
            let tokens = parts.par_iter().map(|part| tokenizer.encode(part));
            writer.push(&tokens.collect::<Result<Vec<_>>>()?.concat())
        }
    };
    source.read(split, sink)?;
    if writer.counts.documents > 0 {
        writer.push(&end)?;
    }
    writer.finish()
}

#[cfg(test)]
#[path = "corpus_tests.rs"]
mod tests;
