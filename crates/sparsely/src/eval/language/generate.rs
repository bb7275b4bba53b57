//! Text that a model writes, token by token.

use super::Sampling;
use crate::data::text::{Decoder, Tokenizer};
use crate::model::language::{Cache, LanguageModel, Tokens};
use crate::{Error, Result};
use sparsely_tensor::{Pool, Slab, Tape};
use std::time::Instant;

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Generation {
    /// What the text begins with; may be empty.
    pub prompt: String,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Most tokens that are written.
    pub max_tokens: usize,
    /// Texts that end the answer and are no part of it.
    pub stops: Vec<String>,
}

/// Why a text ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All tokens that were asked for are written.
    Length,
    /// The model ended the text.
    EndOfText,
    /// A stop text came.
    Stop,
    /// The context of a model without memory is full.
    Context,
}

/// What was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Generated {
    /// The answer, without the prompt.
    pub text: String,
    /// Its tokens.
    pub tokens: usize,
    /// Tokens of the prompt, with the end of the text before it.
    pub prompt_tokens: usize,
    /// Reading the prompt.
    pub prompt_seconds: f64,
    /// Writing the answer.
    pub seconds: f64,
    /// Why it ends.
    pub ending: Ending,
}

/// Writes on from a prompt; `tell` gets the text piece by piece, whole characters each.
///
/// # Errors
/// If a setting is outside its range or the prompt is longer than the context of a model without memory.
pub fn generate(
    (model, params): (&LanguageModel, &Slab),
    tokenizer: &Tokenizer,
    asked: &Generation,
    tell: &mut dyn FnMut(&str),
) -> Result<Generated> {
    asked.sampling.validate()?;
    let prompt = [vec![tokenizer.end_of_text()], tokenizer.encode(&asked.prompt)?].concat();
    let config = model.config();
    let room = if config.memory > 0 { usize::MAX } else { config.context };
    if prompt.len() > room {
        return Err(Error::Argument {
            op: "generate",
            expected: format!("a prompt of at most {room} tokens, the context of the model"),
            got: format!("one of {} tokens, the beginning of the text included", prompt.len()),
        });
    }
    let begin = Instant::now();
    let mut reader = Reader { model, params, pool: Pool::new(), cache: model.cache(1)? };
    let mut logits_v = reader.read(&prompt)?;
    let prompt_seconds = begin.elapsed().as_secs_f64();
    let begin = Instant::now();
    let mut answer = Answer::new(tokenizer, &asked.stops);
    let mut tokens = 0;
    let ending = loop {
        if tokens == asked.max_tokens {
            break Ending::Length;
        }
        let token = asked.sampling.draw(&logits_v, tokens as u64);
        tokens += 1;
        if token == tokenizer.end_of_text() {
            break Ending::EndOfText;
        }
        if answer.push(token, tell) {
            break Ending::Stop;
        }
        if tokens < asked.max_tokens {
            if prompt.len() + tokens > room {
                break Ending::Context;
            }
            logits_v = reader.read(&[token])?;
        }
    };
    let is_stopped = answer.finish(ending == Ending::Stop, tell);
    Ok(Generated {
        text: answer.text,
        tokens,
        prompt_tokens: prompt.len(),
        prompt_seconds,
        seconds: begin.elapsed().as_secs_f64(),
        ending: if is_stopped { Ending::Stop } else { ending },
    })
}

/// A model that has read a text.
struct Reader<'a> {
    model: &'a LanguageModel,
    params: &'a Slab,
    pool: Pool,
    cache: Cache,
}

impl Reader<'_> {
    /// Logits of the token after these.
    fn read(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        let tape = Tape::inference(self.params, &self.pool);
        let logits_tv = self.model.step(&tape, Tokens::one(tokens), &mut self.cache)?;
        let v = logits_tv.shape().width();
        Ok(logits_tv.values()[(tokens.len() - 1) * v..].to_vec())
    }
}

/// Text as it is told: what may be the beginning of a stop text waits.
struct Answer<'a> {
    decoder: Decoder<'a>,
    stops: &'a [String],
    /// What was told.
    text: String,
    waiting: String,
}

impl<'a> Answer<'a> {
    fn new(tokenizer: &'a Tokenizer, stops: &'a [String]) -> Answer<'a> {
        let decoder = Decoder::new(tokenizer);
        Answer { decoder, stops, text: String::new(), waiting: String::new() }
    }

    /// Whether a stop text came.
    fn push(&mut self, token: u32, tell: &mut dyn FnMut(&str)) -> bool {
        let new = self.decoder.push(token);
        self.take(&new, tell)
    }

    fn take(&mut self, new: &str, tell: &mut dyn FnMut(&str)) -> bool {
        self.waiting += new;
        let stops = self.stops.iter().filter(|stop| !stop.is_empty());
        if let Some(at) = stops.clone().filter_map(|stop| self.waiting.find(&**stop)).min() {
            self.waiting.truncate(at);
            return true;
        }
        let held = stops.map(|stop| overlap(&self.waiting, stop)).max().unwrap_or(0);
        let free = self.waiting.len() - held;
        self.tell(free, tell);
        false
    }

    fn tell(&mut self, bytes: usize, tell: &mut dyn FnMut(&str)) {
        if bytes > 0 {
            tell(&self.waiting[..bytes]);
            self.text.push_str(&self.waiting[..bytes]);
            self.waiting.drain(..bytes);
        }
    }

    /// Tells what waits; whether a stop text came after all.
    fn finish(&mut self, is_stopped: bool, tell: &mut dyn FnMut(&str)) -> bool {
        let rest = if is_stopped { String::new() } else { self.decoder.finish() };
        let stops = !is_stopped && self.take(&rest, tell);
        self.tell(self.waiting.len(), tell);
        is_stopped || stops
    }
}

/// Bytes at the end of `text` that `stop` begins with.
fn overlap(text: &str, stop: &str) -> usize {
    let ends = stop.char_indices().map(|(at, _)| at).filter(|at| *at > 0);
    ends.filter(|at| text.ends_with(&stop[..*at])).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of `text`, byte by byte, and whether it was stopped.
    fn told(text: &str, stops: &[&str]) -> (Vec<String>, bool) {
        let tokenizer = Tokenizer::bytes();
        let stops: Vec<String> = stops.iter().map(ToString::to_string).collect();
        let mut answer = Answer::new(&tokenizer, &stops);
        let mut told = Vec::new();
        let tell = &mut |text: &str| told.push(text.to_string());
        let is_stopped = text.bytes().any(|byte| answer.push(u32::from(byte), tell));
        let is_stopped = answer.finish(is_stopped, tell);
        assert_eq!(told.concat(), answer.text);
        (told, is_stopped)
    }

    #[test]
    fn text_is_told_before_a_stop_and_no_part_of_it() {
        assert_eq!(told("abc", &[]), (vec!["a".into(), "b".into(), "c".into()], false));
        assert_eq!(told("ab\n\ncd", &["\n\n"]), (vec!["a".into(), "b".into()], true));
        // The first line break waits, and is told when no second one follows.
        let (pieces, is_stopped) = told("a\nb", &["\n\n"]);
        assert_eq!((pieces, is_stopped), (vec!["a".into(), "\nb".into()], false));
        assert_eq!(told("a\n", &["\n\n"]).0.concat(), "a\n");
        assert_eq!(told("xaab", &["aab", "zz"]), (vec!["x".into()], true));
    }

    #[test]
    fn characters_of_several_bytes_are_told_whole() {
        assert_eq!(told("é!", &[]).0, ["é", "!"]);
        assert_eq!(told("é", &["é"]), (vec![], true));
    }
}
