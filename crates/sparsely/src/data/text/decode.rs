//! Tokens to text, one by one, never half a character.

use super::Tokenizer;
use super::tokenizer::Kind;

/// What stands for bytes that are no character.
const REPLACEMENT: char = '\u{fffd}';

/// Turns tokens into text as they come.
pub struct Decoder<'a> {
    tokenizer: &'a Tokenizer,
    /// Bytes that are no whole character yet.
    bytes: Vec<u8>,
    /// Tokens whose text is not all told: a window, since spaces depend on what stands before.
    window: Vec<u32>,
    /// How many of the window's tokens are told.
    told: usize,
}

impl<'a> Decoder<'a> {
    /// Nothing yet.
    pub fn new(tokenizer: &'a Tokenizer) -> Decoder<'a> {
        Decoder { tokenizer, bytes: Vec::new(), window: Vec::new(), told: 0 }
    }

    /// The text that is certain after one more token; empty within a character.
    pub fn push(&mut self, token: u32) -> String {
        match &self.tokenizer.kind {
            Kind::Bytes => {
                self.bytes.extend(u8::try_from(token));
                self.whole_characters(false)
            }
            Kind::Pieces(_) => {
                self.window.push(token);
                self.new_text(false)
            }
        }
    }

    /// The rest; what is no character is told as one that says so.
    pub fn finish(&mut self) -> String {
        match &self.tokenizer.kind {
            Kind::Bytes => self.whole_characters(true),
            Kind::Pieces(_) => self.new_text(true),
        }
    }

    fn whole_characters(&mut self, is_end: bool) -> String {
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.bytes) {
                Ok(valid) => {
                    text.push_str(valid);
                    self.bytes.clear();
                    return text;
                }
                Err(error) => {
                    let valid = error.valid_up_to();
                    text.push_str(&String::from_utf8_lossy(&self.bytes[..valid]));
                    let wrong = match error.error_len() {
                        None if !is_end => 0,
                        None => self.bytes.len() - valid,
                        Some(wrong) => wrong,
                    };
                    self.bytes.drain(..valid + wrong);
                    if wrong == 0 {
                        return text;
                    }
                    text.push(REPLACEMENT);
                }
            }
        }
    }

    fn new_text(&mut self, is_end: bool) -> String {
        let before = self.text(&self.window[..self.told]);
        let now = self.text(&self.window);
        if now.ends_with(REPLACEMENT) && !is_end {
            return String::new(); // perhaps half a character
        }
        let new = now.strip_prefix(&*before).unwrap_or_default().to_string();
        self.window.drain(..self.told);
        self.told = self.window.len();
        new
    }

    fn text(&self, tokens: &[u32]) -> String {
        match &self.tokenizer.kind {
            Kind::Pieces(pieces) => pieces.decode(tokens, true).unwrap_or_default(),
            Kind::Bytes => unreachable!("bytes have no window"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every prefix that is told is text, and all of it together is the text.
    fn tells(tokenizer: &Tokenizer, text: &str) {
        let mut decoder = Decoder::new(tokenizer);
        let tokens = tokenizer.encode(text).unwrap();
        let mut told: String = tokens.iter().map(|token| decoder.push(*token)).collect();
        told += &decoder.finish();
        assert_eq!(told, text);
    }

    #[test]
    fn text_comes_back_character_by_character() {
        let learned = ["the theme, the thesis".to_string()].into_iter().cycle().take(3);
        let pieces = Tokenizer::learn(262, learned).unwrap();
        for text in ["plain text, the thesis", "schön 日本語 🦀\n", "  two  spaces "] {
            tells(&Tokenizer::bytes(), text);
            tells(&pieces, text);
        }
    }

    #[test]
    fn bytes_that_are_no_character_are_told_as_such() {
        let tokenizer = Tokenizer::bytes();
        let mut decoder = Decoder::new(&tokenizer);
        let told: Vec<String> =
            [0x61, 0xff, 0xc3, 0xa9, 0xc3].map(|byte| decoder.push(byte)).into();
        assert_eq!(told, ["a", "\u{fffd}", "", "é", ""]);
        assert_eq!(decoder.finish(), "\u{fffd}");
    }
}
