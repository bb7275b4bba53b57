//! Documents as their source keeps them, and reading a part of one.

use super::novels::Novel;
use super::piece::{Piece, Place, Sink, character_start, cut_reader};
use super::split::{Rule, TextSplit};
use crate::data::parquet::read_texts;
use crate::{Error, Result};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// How far the end of a line is looked for.
const REACH: u64 = 1 << 16;

/// One document, or the rows of one Parquet file.
#[derive(Clone, Debug)]
pub(super) enum Document {
    /// An embedded one.
    Novel(Novel),
    /// A text file.
    File(PathBuf),
    /// The rows of a Parquet file, each a document.
    Rows { path: PathBuf, column: String, count: usize },
}

impl Document {
    /// How many documents it is.
    pub(super) fn count(&self) -> usize {
        match self {
            Document::Novel(_) | Document::File(_) => 1,
            Document::Rows { count, .. } => *count,
        }
    }

    /// Hands on the part that `rule` gives to `split`; without a rule all of it. `index` is that of the
    /// first document among all.
    pub(super) fn read(
        &self,
        index: usize,
        (rule, split): (Option<&Rule>, TextSplit),
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        let part_of = |index: usize, length: u64| {
            rule.map_or(0..length, |rule| rule.part(index, length, split))
        };
        match self {
            Document::Novel(novel) => {
                let place = Place { path: Path::new(novel.name), row: None, offset: 0 };
                let text = novel.text();
                read_part(&text, part_of(index, text.len() as u64), place, sink)
            }
            Document::File(path) => {
                let mut file = File::open(path).map_err(Error::io("read", path))?;
                let length = file.metadata().map_err(Error::io("read", path))?.len();
                let part = part_of(index, length);
                if part.is_empty() {
                    return Ok(());
                }
                let start = line_start(&mut file, path, part.start, length)?;
                let end = line_start(&mut file, path, part.end, length)?;
                if start >= end {
                    return Ok(());
                }
                file.seek(SeekFrom::Start(start)).map_err(Error::io("read", path))?;
                sink(Piece::Begin)?;
                cut_reader(file.take(end - start), Place { path, row: None, offset: start }, sink)
            }
            Document::Rows { path, column, .. } => read_texts(path, column, &mut |row, text| {
                let place = Place { path, row: Some(row), offset: 0 };
                read_part(text, part_of(index + row, text.len() as u64), place, sink)
            }),
        }
    }
}

/// Hands on a part of a document in memory.
pub(super) fn read_part(
    text: &[u8],
    part: Range<u64>,
    mut place: Place<'_>,
    sink: &mut Sink<'_>,
) -> Result<()> {
    let bound = |at: u64| match at as usize {
        0 => 0,
        at if at >= text.len() => text.len(),
        at => at + next_line(&text[at - 1..(at + REACH as usize).min(text.len())]),
    };
    let (start, end) = (bound(part.start), bound(part.end));
    if start >= end {
        return Ok(());
    }
    sink(Piece::Begin)?;
    place.offset = start as u64;
    cut_reader(&text[start..end], place, sink)
}

/// The first place from `at` where a line begins, or a character if no line does in reach.
fn line_start(file: &mut File, path: &Path, at: u64, length: u64) -> Result<u64> {
    if at == 0 || at >= length {
        return Ok(at.min(length));
    }
    file.seek(SeekFrom::Start(at - 1)).map_err(Error::io("read", path))?;
    let mut window = Vec::new();
    file.take(REACH + 1).read_to_end(&mut window).map_err(Error::io("read", path))?;
    Ok(at + next_line(&window) as u64)
}

/// How far after `window[1]` a line begins; `window[0]` is the byte before the place asked for.
fn next_line(window: &[u8]) -> usize {
    match window.iter().position(|byte| *byte == b'\n') {
        Some(newline) => newline,
        None => {
            let character = (1..window.len()).find(|&at| character_start(window, at) == at);
            character.map_or(0, |at| at - 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str, rule: &Rule) -> [String; 3] {
        TextSplit::ALL.map(|split| {
            let mut read = Vec::new();
            let place = Place { path: Path::new("x"), row: None, offset: 0 };
            let part = rule.part(0, text.len() as u64, split);
            read_part(text.as_bytes(), part, place, &mut |piece| {
                if let Piece::Bytes { bytes, .. } = piece {
                    read.extend_from_slice(bytes);
                }
                Ok(())
            })
            .unwrap();
            String::from_utf8(read).unwrap()
        })
    }

    #[test]
    fn parts_are_whole_lines_and_together_the_whole() {
        // 20 bytes; the cuts at 10 and 15 move to the next line, at 12 and 16.
        let rule = Rule::Tails { validation: 0.25, test: 0.25 };
        assert_eq!(
            parts("aaa\nbbb\nccc\nddd\neee\n", &rule),
            ["aaa\nbbb\nccc\n", "ddd\n", "eee\n"]
        );
        // No line to cut at: characters of two bytes stay whole.
        let text = "é".repeat(9);
        let split = parts(&text, &rule);
        assert_eq!(split.concat(), text);
        assert!(split.iter().all(|part| !part.is_empty()), "{split:?}");
    }

    #[test]
    fn a_file_is_cut_where_its_text_is() {
        let rule = Rule::Tails { validation: 0.2, test: 0.3 };
        let text = "one line\nanother, longer line\nthe third\n\nlast\n".repeat(7);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &text).unwrap();
        let document = Document::File(file.path().to_path_buf());
        let read = TextSplit::ALL.map(|split| {
            let mut read = Vec::new();
            document
                .read(0, (Some(&rule), split), &mut |piece| {
                    if let Piece::Bytes { bytes, .. } = piece {
                        read.extend_from_slice(bytes);
                    }
                    Ok(())
                })
                .unwrap();
            String::from_utf8(read).unwrap()
        });
        assert_eq!(read, parts(&text, &rule));
    }
}
