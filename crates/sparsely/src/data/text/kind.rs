//! What tokens are made of, for people who ask which experts read what.

use super::Tokenizer;
use super::tokenizer::Kind;
use serde::Serialize;

/// What stands for bytes that are no character.
const REPLACEMENT: char = '\u{fffd}';
/// What stands for a space in vocabularies that cannot have one.
const VISIBLE_SPACE: char = '\u{2581}';

/// What a token is made of: the kind of its first character that is no white space, so that a piece ` the` is letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// Letters of any alphabet.
    Letter,
    /// Numerals.
    Digit,
    /// White space alone, ends of lines too.
    Space,
    /// Any other visible character: punctuation, signs, symbols.
    Punctuation,
    /// Parts of characters (a byte from 128 on), control characters, the end of a text.
    Other,
}

impl TokenKind {
    /// Every kind, in the order of tables.
    pub const ALL: [TokenKind; 5] = [
        TokenKind::Letter,
        TokenKind::Digit,
        TokenKind::Space,
        TokenKind::Punctuation,
        TokenKind::Other,
    ];

    /// As it is called in tables.
    pub fn name(self) -> &'static str {
        match self {
            TokenKind::Letter => "letter",
            TokenKind::Digit => "digit",
            TokenKind::Space => "space",
            TokenKind::Punctuation => "punctuation",
            TokenKind::Other => "other",
        }
    }

    /// Of the text of a token.
    pub fn of(text: &str) -> TokenKind {
        match text.chars().find(|character| !character.is_whitespace()) {
            _ if text.is_empty() || text.contains(REPLACEMENT) => TokenKind::Other,
            None => TokenKind::Space,
            Some(first) if first.is_alphabetic() => TokenKind::Letter,
            Some(first) if first.is_numeric() => TokenKind::Digit,
            Some(first) if first.is_control() => TokenKind::Other,
            Some(_) => TokenKind::Punctuation,
        }
    }
}

impl Tokenizer {
    /// The kind of each token, by index.
    pub fn kinds(&self) -> Vec<TokenKind> {
        (0..self.vocabulary() as u32).map(|token| self.kind_of(token)).collect()
    }

    fn kind_of(&self, token: u32) -> TokenKind {
        if token == self.end_of_text() {
            return TokenKind::Other;
        }
        match &self.kind {
            Kind::Bytes => match char::from_u32(token) {
                Some(character) if character.is_ascii() => TokenKind::of(&character.to_string()),
                _ => TokenKind::Other,
            },
            Kind::Pieces(pieces) => {
                let whole = pieces.id_to_token(token).unwrap_or_default();
                if !whole.is_empty() && whole.chars().all(|own| own == VISIBLE_SPACE) {
                    return TokenKind::Space;
                }
                TokenKind::of(&pieces.decode(&[token], true).unwrap_or_default())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_what_its_first_visible_character_is() {
        for (text, kind) in [
            ("a", TokenKind::Letter),
            (" the", TokenKind::Letter),
            ("é", TokenKind::Letter),
            ("\n\n7th", TokenKind::Digit),
            (" \n", TokenKind::Space),
            ("--", TokenKind::Punctuation),
            ("'s", TokenKind::Punctuation),
            ("”", TokenKind::Punctuation),
            ("€", TokenKind::Punctuation),
            ("\u{7}", TokenKind::Other),
            ("\u{fffd}", TokenKind::Other),
            ("", TokenKind::Other),
        ] {
            assert_eq!(TokenKind::of(text), kind, "{text:?}");
        }
    }

    #[test]
    fn bytes_and_pieces_have_kinds() {
        let bytes = Tokenizer::bytes().kinds();
        assert_eq!(bytes.len(), 257);
        let of = |byte: u8| bytes[byte as usize].name();
        assert_eq!(
            [of(b'x'), of(b'0'), of(b'\n'), of(b'.'), of(0xc3), bytes[256].name()],
            ["letter", "digit", "space", "punctuation", "other", "other"]
        );
        let texts = std::iter::repeat_n("the theme of the thesis\n".to_string(), 5);
        let pieces = Tokenizer::learn(260, texts).unwrap();
        let kinds = pieces.kinds();
        let of = |text: &str| kinds[pieces.encode(text).unwrap()[0] as usize].name();
        assert_eq!([of(" the"), of("7"), of(" "), of("\n")], ["letter", "digit", "space", "space"]);
        // `é` has no piece of its own, only those of its bytes.
        assert_eq!([of("é"), kinds[0].name()], ["other", "other"]);
        assert!(TokenKind::ALL.iter().all(|kind| kinds.contains(kind)));
    }
}
