//! Which experts of a head read which tokens.

use super::evaluate::side_name;
use crate::Result;
use crate::data::text::TokenKind;
use crate::eval::csv::csv;
use crate::model::language::RoutedPart;
use serde::Serialize;

/// How often the tokens of each kind went to each expert of a head.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeadUsage {
    /// Index of the block.
    pub block: usize,
    /// `source` or `destination`.
    pub side: &'static str,
    /// Index of the head; 0 where heads are what is chosen.
    pub head: usize,
    /// One for each of [`TokenKind::ALL`], in that order.
    pub kinds: Vec<KindUsage>,
}

/// The tokens of a kind in a head.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KindUsage {
    /// Which.
    pub kind: TokenKind,
    /// How many were read.
    pub tokens: u64,
    /// How many of them went to each expert: K choices a token.
    pub chosen: Vec<u64>,
}

impl KindUsage {
    /// Share of the tokens that went to each expert, in [0, 1], summing to K; `None` without tokens.
    pub fn shares(&self) -> Option<Vec<f64>> {
        let share = |chosen: &u64| *chosen as f64 / self.tokens as f64;
        (self.tokens > 0).then(|| self.chosen.iter().map(share).collect())
    }
}

/// Counts of all heads of a model.
pub(super) struct Usage<'a> {
    /// By token.
    kinds: &'a [TokenKind],
    heads: Vec<HeadUsage>,
}

impl<'a> Usage<'a> {
    /// None yet; `kinds` are those of all tokens of the vocabulary.
    pub(super) fn new(kinds: &'a [TokenKind]) -> Usage<'a> {
        Usage { kinds, heads: Vec::new() }
    }

    pub(super) fn into_heads(self) -> Vec<HeadUsage> {
        self.heads
    }

    /// Adds what `batch` sequences of tokens chose. Memory was counted when it was read.
    pub(super) fn add(&mut self, (ids, batch): (&[u32], usize), parts: &[RoutedPart]) {
        let mut place = 0;
        for part in parts {
            let Some(choices) = &part.choices else { continue };
            let (h, k) = (choices.heads, choices.num_selected);
            if self.heads.len() == place {
                let experts = part.stats.asked_e.len() / h;
                self.heads.extend((0..h).map(|head| HeadUsage::empty(part, head, experts)));
            }
            let length = ids.len() / batch;
            let of_sequence = choices.experts_thk.len() / batch;
            for (own, ids) in choices.experts_thk.chunks(of_sequence).zip(ids.chunks(length)) {
                let at_hand = &own[of_sequence - length * h * k..];
                for (chosen_hk, id) in at_hand.chunks(h * k).zip(ids) {
                    let kind = self.kinds[*id as usize] as usize;
                    for (head, chosen_k) in chosen_hk.chunks(k).enumerate() {
                        let counts = &mut self.heads[place + head].kinds[kind];
                        counts.tokens += 1;
                        chosen_k.iter().for_each(|expert| counts.chosen[*expert as usize] += 1);
                    }
                }
            }
            place += h;
        }
    }
}

impl HeadUsage {
    fn empty(part: &RoutedPart, head: usize, experts: usize) -> HeadUsage {
        let none = |kind| KindUsage { kind, tokens: 0, chosen: vec![0; experts] };
        let kinds = TokenKind::ALL.map(none).to_vec();
        HeadUsage { block: part.block, side: side_name(part.side), head, kinds }
    }
}

/// As a table for other programs: a line for each expert of each head and each kind of tokens that there are.
///
/// # Errors
/// Never: it is written into memory.
pub fn usage_csv(heads: &[HeadUsage]) -> Result<String> {
    csv(heads.iter().flat_map(|head| {
        head.kinds.iter().flat_map(move |kind| {
            let shares = kind.shares().unwrap_or_default();
            shares.into_iter().enumerate().map(move |(expert, share)| Line {
                block: head.block,
                side: head.side,
                head: head.head,
                token_kind: kind.kind,
                tokens: kind.tokens,
                expert,
                share,
            })
        })
    }))
}

#[derive(Serialize)]
struct Line {
    block: usize,
    side: &'static str,
    head: usize,
    token_kind: TokenKind,
    tokens: u64,
    expert: usize,
    share: f64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::HeadChoices;
    use crate::model::language::Side;
    use crate::moe::RouterStats;

    /// Two heads of three experts, one choice each.
    fn part(experts_thk: Vec<u32>) -> RoutedPart {
        let stats = RouterStats { asked_e: vec![0; 6], ..RouterStats::default() };
        let choices = Some(HeadChoices { heads: 2, num_selected: 1, experts_thk });
        RoutedPart { block: 1, side: Side::Source, stats, choices }
    }

    #[test]
    fn tokens_at_hand_are_counted_by_kind_and_those_of_memory_are_not() {
        use TokenKind::{Digit, Letter};
        let kinds = [Letter, Digit];
        let mut usage = Usage::new(&kinds);
        // Two sequences of a letter and a digit, without memory. Head 0 takes expert 0 for letters and 2 for digits,
        // head 1 always 1.
        usage.add((&[0, 1, 0, 1], 2), &[part(vec![0, 1, 2, 1, 0, 1, 2, 1])]);
        // One letter each after one remembered token that chose expert 1 of head 0: that is not counted again.
        usage.add((&[0, 0], 2), &[part(vec![1, 1, 0, 1, 1, 1, 2, 1])]);
        let heads = usage.into_heads();
        assert_eq!(
            (heads.len(), heads[1].block, heads[1].side, heads[1].head),
            (2, 1, "source", 1)
        );
        let counts = |head: usize, kind: TokenKind| {
            let own = &heads[head].kinds[kind as usize];
            assert_eq!(own.kind, kind);
            (own.tokens, own.chosen.clone())
        };
        assert_eq!(counts(0, Letter), (4, vec![3, 0, 1]));
        assert_eq!(counts(0, Digit), (2, vec![0, 0, 2]));
        assert_eq!(counts(1, Letter), (4, vec![0, 4, 0]));
        assert_eq!(counts(1, TokenKind::Space), (0, vec![0, 0, 0]));
        assert_eq!(heads[0].kinds[0].shares().unwrap(), [0.75, 0.0, 0.25]);
        assert_eq!(heads[0].kinds[TokenKind::Space as usize].shares(), None);
        let table = usage_csv(&heads[..1]).unwrap();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0], "block,side,head,token_kind,tokens,expert,share");
        assert_eq!(lines[1], "1,source,0,letter,4,0,0.75");
        assert_eq!((lines.len(), lines[6]), (7, "1,source,0,digit,2,2,1.0"));
    }
}
