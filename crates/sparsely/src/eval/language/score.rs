//! Which of several texts a model finds likeliest: minimal pairs (as in BLiMP) and cloze choices (as in
//! LAMBADA and the Children's Book Test).

use super::likelihood::{ScoredText, log_probabilities};
use crate::data::text::Tokenizer;
use crate::model::language::LanguageModel;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use sparsely_tensor::{Pool, Slab};
use statrs::distribution::{ContinuousCDF, Normal};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// Confidence of the interval.
const CONFIDENCE: f64 = 0.95;

/// One question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Item {
    /// Two sentences of which one is right: each is scored whole.
    Pair {
        /// The right one.
        good: String,
        /// The wrong one.
        bad: String,
    },
    /// Text that goes on in one of several ways: each way is scored, with what follows it, given the
    /// context.
    Cloze {
        /// What stands before.
        context: String,
        /// How it may go on, spaces included.
        choices: Vec<String>,
        /// What stands after the choice.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        after: String,
        /// Index of the right choice, 0-based.
        answer: usize,
    },
}

/// What a model says to one question.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ItemScore {
    /// Sum of the log-probabilities of each text, in nats; of a pair the right one's first.
    pub log_probabilities: Vec<f64>,
    /// Index of the right one.
    pub answer: usize,
    /// Whether it is likelier than every other one.
    pub is_right: bool,
}

/// Share of right answers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Accuracy {
    /// Questions.
    pub n: usize,
    /// Right answers.
    pub right: usize,
    /// Their share.
    pub share: f64,
    /// Lower and upper end of its 95 % interval (Wilson 1927).
    pub interval: [f64; 2],
}

/// Share of right answers by kind of question.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scores {
    /// Of minimal pairs, if there were any.
    pub pairs: Option<Accuracy>,
    /// Of cloze choices, if there were any.
    pub cloze: Option<Accuracy>,
    /// One for each question.
    #[serde(skip)]
    pub items: Vec<ItemScore>,
}

/// Reads questions, one JSON object a line; blank lines are skipped.
///
/// # Errors
/// If a line is no question, with its number.
pub fn read_items(path: &Path) -> Result<Vec<Item>> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    let mut items = Vec::new();
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(Error::io("read", path))?;
        if line.trim().is_empty() {
            continue;
        }
        let wrong = |got: &str| {
            let expected =
                r#"{"good": …, "bad": …} or {"context": …, "choices": […], "answer": i}"#;
            Error::format(path, expected, format!("{got} in line {}", number + 1))
        };
        let item: Item = serde_json::from_str(&line).map_err(|_| wrong("something else"))?;
        if let Item::Cloze { choices, answer, .. } = &item
            && (choices.len() < 2 || *answer >= choices.len())
        {
            return Err(wrong(&format!("answer {answer} of {} choices", choices.len())));
        }
        items.push(item);
    }
    if items.is_empty() {
        return Err(Error::format(path, "at least one question", "none"));
    }
    Ok(items)
}

/// Asks a model; `tell` hears how many questions are answered.
///
/// # Errors
/// If a text has no tokens or is too long, with the number of the question.
pub fn score(
    (model, params): (&LanguageModel, &Slab),
    tokenizer: &Tokenizer,
    items: &[Item],
    tell: &mut dyn FnMut(usize),
) -> Result<Scores> {
    let pool = Pool::new();
    let mut scores = Vec::new();
    for (index, item) in items.iter().enumerate() {
        tell(index);
        let texts = texts_of(item, tokenizer)?;
        let total = |text: &ScoredText| -> Result<f64> {
            Ok(log_probabilities((model, params), text, &pool)?.iter().sum())
        };
        let log_probabilities = texts.iter().map(total).collect::<Result<Vec<_>>>()?;
        let answer = match item {
            Item::Pair { .. } => 0,
            Item::Cloze { answer, .. } => *answer,
        };
        let own = log_probabilities[answer];
        let mut others = log_probabilities.iter().enumerate().filter(|(i, _)| *i != answer);
        let is_right = others.all(|(_, other)| own > *other);
        scores.push(ItemScore { log_probabilities, answer, is_right });
    }
    let accuracy = |is_pair: bool| {
        let kind = |item: &Item| matches!(item, Item::Pair { .. }) == is_pair;
        let of_kind = items.iter().zip(&scores).filter(|(item, _)| kind(item));
        let right: Vec<bool> = of_kind.map(|(_, score)| score.is_right).collect();
        (!right.is_empty())
            .then(|| Accuracy::of(right.iter().filter(|right| **right).count(), right.len()))
    };
    Ok(Scores { pairs: accuracy(true), cloze: accuracy(false), items: scores })
}

/// The texts of a question after the end of another text. What counts begins where the texts' tokens
/// first differ from those of the context, at the same place for all.
fn texts_of(item: &Item, tokenizer: &Tokenizer) -> Result<Vec<ScoredText>> {
    let begin = |text: &str| -> Result<Vec<u32>> {
        Ok([vec![tokenizer.end_of_text()], tokenizer.encode(text)?].concat())
    };
    let (context, texts) = match item {
        Item::Pair { good, bad } => (String::new(), vec![good.clone(), bad.clone()]),
        Item::Cloze { context, choices, after, .. } => {
            let whole = choices.iter().map(|choice| format!("{context}{choice}{after}"));
            (context.clone(), whole.collect())
        }
    };
    let before = begin(&context)?;
    let texts = texts.iter().map(|text| begin(text)).collect::<Result<Vec<_>>>()?;
    let common = |tokens: &Vec<u32>| tokens.iter().zip(&before).take_while(|(a, b)| a == b).count();
    let from = texts.iter().map(common).min().unwrap_or(1);
    Ok(texts.into_iter().map(|tokens| ScoredText { tokens, from }).collect())
}

impl Accuracy {
    /// `right` of `n`.
    pub fn of(right: usize, n: usize) -> Accuracy {
        let normal = Normal::new(0.0, 1.0).expect("a standard normal");
        let z = normal.inverse_cdf(0.5 + CONFIDENCE / 2.0);
        let (count, share) = (n as f64, right as f64 / n as f64);
        let shrink = 1.0 + z * z / count;
        let middle = (share + z * z / (2.0 * count)) / shrink;
        let half =
            z / shrink * (share * (1.0 - share) / count + (z / (2.0 * count)).powi(2)).sqrt();
        Accuracy { n, right, share, interval: [(middle - half).max(0.0), (middle + half).min(1.0)] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_of_ten_lie_between_49_and_94_percent() {
        // Wilson: z = 1.96; (0.8 + 0.19208) / 1.38416 = 0.7167; half width 1.96 / 1.38416 ·
        // √(0.016 + 0.009604) = 0.2266.
        let Accuracy { share, interval: [low, high], .. } = Accuracy::of(8, 10);
        assert!((share - 0.8).abs() < 1e-12);
        assert!((low - 0.4902).abs() < 1e-3 && (high - 0.9433).abs() < 1e-3, "{low} {high}");
        assert!((Accuracy::of(5, 5).interval[1] - 1.0).abs() < 1e-12);
    }

    #[test]
    fn what_counts_begins_after_the_context_for_all_choices() {
        let item = Item::Cloze {
            context: "ab".into(),
            choices: vec!["c".into(), "de".into()],
            after: "f".into(),
            answer: 1,
        };
        let texts = texts_of(&item, &Tokenizer::bytes()).unwrap();
        assert_eq!(texts[0], ScoredText { tokens: vec![256, 97, 98, 99, 102], from: 3 });
        assert_eq!(texts[1].tokens.len() - texts[1].from, 3);
        let pair = Item::Pair { good: "a".into(), bad: "b".into() };
        assert_eq!(texts_of(&pair, &Tokenizer::bytes()).unwrap()[0].from, 1);
    }
}
