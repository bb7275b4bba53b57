//! Which document, or which part of one, belongs to which split.

use super::TextConfig;
use crate::rng::{Purpose, stream};
use rand::seq::SliceRandom;
use std::ops::Range;

/// Held-out text is the same for every seed of a run: results of several seeds could not be compared
/// otherwise.
const SEED: u64 = 0;
/// Fewer documents than this are not held out whole.
const DOCUMENTS: usize = 3;

/// What a text is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextSplit {
    /// To learn from.
    Train,
    /// To take decisions on.
    Validation,
    /// To report results on.
    Test,
}

impl TextSplit {
    /// All three.
    pub const ALL: [TextSplit; 3] = [TextSplit::Train, TextSplit::Validation, TextSplit::Test];

    /// `train`, `validation` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            TextSplit::Train => "train",
            TextSplit::Validation => "validation",
            TextSplit::Test => "test",
        }
    }
}

/// How documents that nobody has split are split.
pub(super) enum Rule {
    /// Each whole document's.
    Documents(Vec<TextSplit>),
    /// The tail of each document is held out: shares for validation and test.
    Tails { validation: f64, test: f64 },
}

impl Rule {
    /// For `count` documents.
    pub(super) fn of(config: &TextConfig, count: usize) -> Rule {
        let (validation, test) = (config.validation_fraction, config.test_fraction);
        if count < DOCUMENTS {
            return Rule::Tails { validation, test };
        }
        let whole = |fraction: f64| {
            let documents = (fraction * count as f64).round() as usize;
            if fraction > 0.0 { documents.max(1) } else { 0 }
        };
        let mut order: Vec<usize> = (0..count).collect();
        order.shuffle(&mut stream(SEED, Purpose::Split, 1));
        let mut splits = vec![TextSplit::Train; count];
        let held_out = std::iter::repeat_n(TextSplit::Test, whole(test))
            .chain(std::iter::repeat_n(TextSplit::Validation, whole(validation)));
        order.into_iter().zip(held_out).for_each(|(document, split)| splits[document] = split);
        Rule::Documents(splits)
    }

    /// For people.
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Rule::Documents(_) => "held-out documents",
            Rule::Tails { .. } => "held-out tail",
        }
    }

    /// The part of document `index`, of `length` bytes, that is in `split`, before it is moved to the
    /// end of a line.
    pub(super) fn part(&self, index: usize, length: u64, split: TextSplit) -> Range<u64> {
        match self {
            Rule::Documents(splits) if splits[index] == split => 0..length,
            Rule::Documents(_) => 0..0,
            Rule::Tails { validation, test } => {
                let before = |held_out: f64| (length as f64 * (1.0 - held_out)).round() as u64;
                let (first, second) = (before(validation + test), before(*test));
                match split {
                    TextSplit::Train => 0..first,
                    TextSplit::Validation => first..second,
                    TextSplit::Test => second..length,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_three_documents_one_validates_and_one_tests() {
        let Rule::Documents(splits) = Rule::of(&TextConfig::default(), 3) else { panic!() };
        for split in TextSplit::ALL {
            assert_eq!(splits.iter().filter(|other| **other == split).count(), 1, "{split:?}");
        }
    }

    #[test]
    fn of_one_document_the_tail_is_held_out() {
        // 5 % and 5 % of 1000 bytes.
        let rule = Rule::of(&TextConfig::default(), 1);
        let parts = TextSplit::ALL.map(|split| rule.part(0, 1000, split));
        assert_eq!(parts, [0..900, 900..950, 950..1000]);
    }
}
