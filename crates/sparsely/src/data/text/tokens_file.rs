//! Tokens on disk: written once, mapped where they are read.
//!
//! ```text
//! 0   `sparstok`            8   bytes of a token, 2 or 4 (u32)     12  vocabulary (u32)
//! 16  tokens (u64)          24  bytes of the text (u64)            32  its words, or all ones (u64)
//! 40  documents (u64)       48  checksum of the tokens (u32)       52  checksum of the tokenizer (u32)
//! 56  0 (u32)               60  checksum of the 60 bytes before    64  tokens
//! ```
//! All numbers are little-endian, all checksums CRC-32.

use super::Tokenizer;
use crate::{Error, Result};
use sparsely_tensor::Mapping;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"sparstok";
const HEADER_BYTES: usize = 64;
const NO_WORDS: u64 = u64::MAX;

/// How much text a file of tokens is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tokens, with those of the ends of texts.
    pub tokens: u64,
    /// Bytes of the text.
    pub bytes: u64,
    /// Words between white space; `None` where the text is not UTF-8.
    pub words: Option<u64>,
    /// Documents.
    pub documents: u64,
}

/// Tokens of a split: `end of text, document, end of text, document, …, end of text`.
#[derive(Debug)]
pub struct TokensFile {
    map: Mapping,
    width: usize,
    counts: Counts,
    crc32: u32,
}

/// Writes one.
pub(super) struct TokensWriter {
    path: PathBuf,
    file: BufWriter<File>,
    hasher: crc32fast::Hasher,
    vocabulary: u32,
    tokenizer: u32,
    pub(super) counts: Counts,
}

impl TokensWriter {
    pub(super) fn create(path: &Path, tokenizer: &Tokenizer) -> Result<TokensWriter> {
        let file = File::create(path).map_err(Error::io("create", path))?;
        let mut file = BufWriter::with_capacity(1 << 16, file);
        file.write_all(&[0; HEADER_BYTES]).map_err(Error::io("write", path))?;
        let hasher = crc32fast::Hasher::new();
        let (vocabulary, counts) = (tokenizer.vocabulary() as u32, Counts::default());
        let tokenizer = tokenizer.fingerprint();
        Ok(TokensWriter { path: path.into(), file, hasher, vocabulary, tokenizer, counts })
    }

    pub(super) fn push(&mut self, tokens: &[u32]) -> Result<()> {
        let mut bytes = Vec::with_capacity(4 * tokens.len());
        for token in tokens {
            match width_of(self.vocabulary) {
                2 => bytes.extend_from_slice(&(*token as u16).to_le_bytes()),
                _ => bytes.extend_from_slice(&token.to_le_bytes()),
            }
        }
        self.hasher.update(&bytes);
        self.counts.tokens += tokens.len() as u64;
        self.file.write_all(&bytes).map_err(Error::io("write", &self.path))
    }

    pub(super) fn finish(mut self) -> Result<()> {
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&(width_of(self.vocabulary) as u32).to_le_bytes());
        header.extend_from_slice(&self.vocabulary.to_le_bytes());
        let Counts { tokens, bytes, words, documents } = self.counts;
        for count in [tokens, bytes, words.unwrap_or(NO_WORDS), documents] {
            header.extend_from_slice(&count.to_le_bytes());
        }
        for number in [self.hasher.finalize(), self.tokenizer, 0] {
            header.extend_from_slice(&number.to_le_bytes());
        }
        header.extend_from_slice(&crc32fast::hash(&header).to_le_bytes());
        let mut write = || {
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(&header)?;
            self.file.flush()?;
            self.file.get_ref().sync_all()
        };
        write().map_err(Error::io("write", &self.path))
    }
}

/// Bytes of a token.
fn width_of(vocabulary: u32) -> usize {
    if vocabulary <= 1 << 16 { 2 } else { 4 }
}

impl TokensFile {
    /// Maps a file that was written with `tokenizer`.
    ///
    /// # Errors
    /// If it is missing, damaged or of another tokenizer.
    pub fn open(path: &Path, tokenizer: &Tokenizer) -> Result<TokensFile> {
        let mapping = Mapping::open(path).map_err(Error::io("read", path))?;
        let map = mapping.bytes();
        let damaged = |expected: &str, got: String| Err(Error::format(path, expected, got));
        if map.len() < HEADER_BYTES || &map[..8] != MAGIC {
            return damaged("a file of tokens", format!("{} other bytes", map.len()));
        }
        let u32_at = |at: usize| u32::from_le_bytes(map[at..at + 4].try_into().expect("4 bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(map[at..at + 8].try_into().expect("8 bytes"));
        if crc32fast::hash(&map[..60]) != u32_at(60) {
            return damaged("a whole file of tokens", "a damaged header".into());
        }
        let (width, vocabulary) = (u32_at(8) as usize, u32_at(12));
        if (vocabulary as usize, u32_at(52)) != (tokenizer.vocabulary(), tokenizer.fingerprint()) {
            let expected = format!("tokens of this tokenizer ({} pieces)", tokenizer.vocabulary());
            return damaged(&expected, format!("those of another one ({vocabulary} pieces)"));
        }
        let (tokens, held) = (u64_at(16), (map.len() - HEADER_BYTES) as u64);
        if width != width_of(vocabulary) || tokens.checked_mul(width as u64) != Some(held) {
            return damaged(&format!("{tokens} tokens"), format!("{held} bytes of them"));
        }
        let crc32 = u32_at(48);
        if crc32fast::hash(&map[HEADER_BYTES..]) != crc32 {
            return damaged("a whole file of tokens", "tokens with another checksum".into());
        }
        let words = Some(u64_at(32)).filter(|words| *words != NO_WORDS);
        let counts = Counts { tokens, bytes: u64_at(24), words, documents: u64_at(40) };
        Ok(TokensFile { map: mapping, width, counts, crc32 })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        self.map.path()
    }

    /// How much text it is.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Checksum of the tokens.
    pub fn crc32(&self) -> u32 {
        self.crc32
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.counts.tokens as usize
    }

    /// Whether there is nothing to predict: a text has a token after its beginning.
    pub fn is_empty(&self) -> bool {
        self.len() < 2
    }

    /// Appends the tokens `start..start + count`, which there must be, to `tokens`.
    pub fn append(&self, start: usize, count: usize, tokens: &mut Vec<u32>) {
        let at = |token: usize| HEADER_BYTES + token * self.width;
        let bytes = self.map.bytes()[at(start)..at(start + count)].chunks_exact(self.width);
        tokens.extend(bytes.map(|bytes| match *bytes {
            [a, b] => u32::from(u16::from_le_bytes([a, b])),
            [a, b, c, d] => u32::from_le_bytes([a, b, c, d]),
            _ => unreachable!("tokens have 2 or 4 bytes"),
        }));
    }
}
