//! Bytes of a document, handed on in pieces that tokenizers may take one by one.

use crate::{Error, Result};
use std::io::Read;
use std::path::Path;

/// Bytes of a piece, unless a line is longer.
const PIECE_BYTES: usize = 1 << 20;

/// What a source hands on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Piece<'a> {
    /// A document begins.
    Begin,
    /// More of it.
    Bytes {
        /// Whole lines where there are any, whole characters always.
        bytes: &'a [u8],
        /// Where they come from.
        place: Place<'a>,
    },
}

/// Where bytes come from, for errors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) path: &'a Path,
    pub(super) row: Option<usize>,
    /// Of the first byte within the document.
    pub(super) offset: u64,
}

/// Takes pieces.
pub(super) type Sink<'s> = dyn FnMut(Piece<'_>) -> Result<()> + 's;

impl<'a> Piece<'a> {
    /// The bytes as text.
    ///
    /// # Errors
    /// If they are none, with the way out.
    pub(super) fn text(bytes: &'a [u8], place: &Place<'_>) -> Result<&'a str> {
        std::str::from_utf8(bytes).map_err(|error| {
            let at = place.offset + error.valid_up_to() as u64;
            let row = place.row.map_or(String::new(), |row| format!(" of row {row}"));
            Error::format(
                place.path,
                "text in UTF-8 (data.tokenizer.kind=bytes takes any bytes)",
                format!("something else at byte {at}{row}"),
            )
        })
    }
}

/// Hands on what `reader` holds, piece after piece.
pub(super) fn cut_reader(
    mut reader: impl Read,
    mut place: Place<'_>,
    sink: &mut Sink<'_>,
) -> Result<()> {
    let mut held = Vec::new();
    loop {
        let before = held.len();
        let more = (&mut reader).take(PIECE_BYTES as u64).read_to_end(&mut held);
        more.map_err(Error::io("read", place.path))?;
        let is_end = held.len() - before < PIECE_BYTES;
        let end = if is_end { held.len() } else { cut(&held) };
        if end > 0 {
            sink(Piece::Bytes { bytes: &held[..end], place })?;
        }
        place.offset += end as u64;
        held.drain(..end);
        if is_end {
            return Ok(());
        }
    }
}

/// Where bytes that go on may be cut: after the last line that another one follows, else before the last
/// space, else between characters. Spaces stay together and before their word, as tokenizers see them.
fn cut(bytes: &[u8]) -> usize {
    let is_space = |at: usize| bytes[at].is_ascii_whitespace();
    let line = (1..bytes.len()).rev().find(|&at| bytes[at - 1] == b'\n' && !is_space(at));
    let word = || (1..bytes.len()).rev().find(|&at| is_space(at) && !is_space(at - 1));
    line.or_else(word).unwrap_or_else(|| character_start(bytes, bytes.len() - 1))
}

/// A text in parts of at most `bytes`, which are tokenised at once.
pub(super) fn parts(mut text: &str, bytes: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    while text.len() > bytes {
        let (part, rest) = text.split_at(cut(&text.as_bytes()[..bytes]));
        parts.push(part);
        text = rest;
    }
    parts.push(text);
    parts
}

/// The last place up to `at` where a character begins; `at` itself where none does in reach.
pub(super) fn character_start(bytes: &[u8], at: usize) -> usize {
    let is_start = |at: &usize| bytes[*at] & 0b1100_0000 != 0b1000_0000;
    (at.saturating_sub(3)..=at).rev().find(is_start).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_after_lines_before_words_and_between_characters() {
        assert_eq!(cut(b"one\ntwo\nthr"), 8);
        assert_eq!(cut(b"one\n\n  two"), 3, "a line that blanks follow is not cut off");
        assert_eq!(cut(b"one two thr"), 7);
        assert_eq!(cut("aé".as_bytes()), 1, "é has two bytes");
    }

    #[test]
    fn parts_are_the_whole_text_in_whole_characters() {
        assert_eq!(parts("one\ntwo\nthree", 9), ["one\ntwo\n", "three"]);
        let text = "日本語のテキスト ".repeat(20);
        assert_eq!(parts(&text, 16).concat(), text);
        assert!(parts(&text, 16).iter().all(|part| (1..=16).contains(&part.len())));
    }

    #[test]
    fn pieces_are_the_whole_text() {
        let text = "Zeile eins, schön.\nZeile zwei\n".repeat(100_000);
        let place = Place { path: Path::new("x"), row: None, offset: 0 };
        let (mut joined, mut pieces) = (Vec::new(), 0);
        cut_reader(text.as_bytes(), place, &mut |piece| {
            let Piece::Bytes { bytes, place } = piece else { unreachable!() };
            assert_eq!(place.offset, joined.len() as u64);
            assert!(Piece::text(bytes, &place)?.ends_with('\n'));
            joined.extend_from_slice(bytes);
            pieces += 1;
            Ok(())
        })
        .unwrap();
        assert!(joined == text.as_bytes() && pieces > 1);
    }
}
