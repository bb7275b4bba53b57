//! What a language model reads, and what it remembers.

use super::LanguageConfig;
use crate::attention::HeadChoices;
use crate::moe::RouterStats;
use crate::{Error, Result};

/// Tokens of B sequences of L each.
#[derive(Clone, Copy, Debug)]
pub struct Tokens<'a> {
    /// `[B, L]`, sequence after sequence.
    pub ids: &'a [u32],
    /// B.
    pub batch: usize,
}

/// What each block attends to before the tokens at hand: the raw inputs of the block, without gradient, and what
/// its routers read beside them.
#[derive(Clone, Debug, PartialEq)]
pub struct Memory {
    /// Of each block, `[B, M, D]`.
    pub inputs: Vec<Vec<f32>>,
    /// What the attention of the block before gave the same tokens, `[B, M, D]` of each block whose routers read it;
    /// empty of the others.
    pub contexts: Vec<Vec<f32>>,
    /// B.
    pub batch: usize,
    /// M, at most the configuration's.
    pub length: usize,
}

/// Which half of a block routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Keys and values of attention.
    Source,
    /// Queries and outputs of attention; all of MoA.
    Destination,
    /// The MLP.
    Mlp,
}

/// What a router of the model did.
#[derive(Clone, Debug, PartialEq)]
pub struct RoutedPart {
    /// Index of the block.
    pub block: usize,
    /// Where in the block.
    pub side: Side,
    /// Counts; of attention over all experts of all heads, head after head, and a token counts once
    /// for each head.
    pub stats: RouterStats,
    /// Who chose whom in attention; of the source the tokens of the memory too, first in each sequence.
    pub choices: Option<HeadChoices>,
}

impl<'a> Tokens<'a> {
    /// One sequence.
    pub fn one(ids: &'a [u32]) -> Tokens<'a> {
        Tokens { ids, batch: 1 }
    }

    /// L.
    ///
    /// # Errors
    /// If the sequences are not of one length of at least one token, or a token is not below V.
    pub(super) fn length(&self, op: &'static str, vocabulary: usize) -> Result<usize> {
        let &Tokens { ids, batch } = self;
        if batch == 0 || ids.is_empty() || !ids.len().is_multiple_of(batch) {
            let expected = "sequences of one length, at least one token each".into();
            let got = format!("{} tokens for {batch} sequences", ids.len());
            return Err(Error::Argument { op, expected, got });
        }
        if let Some(id) = ids.iter().find(|id| **id as usize >= vocabulary) {
            let expected = format!("tokens below {vocabulary}, the vocabulary of the model");
            return Err(Error::Argument { op, expected, got: format!("{id}") });
        }
        Ok(ids.len() / batch)
    }

    /// Tokens `first..first + count` of each sequence.
    pub(super) fn part(&self, first: usize, count: usize) -> Vec<u32> {
        let length = self.ids.len() / self.batch;
        self.ids.chunks(length).flat_map(|own| own[first..first + count].to_vec()).collect()
    }
}

/// What one block remembers; empty at the beginning of a text.
#[derive(Clone, Copy, Default)]
pub(super) struct Past<'a> {
    pub(super) inputs: &'a [f32],
    pub(super) contexts: &'a [f32],
}

impl Memory {
    /// What block `i` remembers.
    pub(super) fn of(&self, i: usize) -> Past<'_> {
        Past { inputs: &self.inputs[i], contexts: &self.contexts[i] }
    }

    /// Refuses the memory of other sequences or of another model.
    pub(super) fn check(&self, config: &LanguageConfig, batch: usize) -> Result<()> {
        let values = batch * self.length * config.width;
        let reading = config.blocks_that_read_contexts();
        let contexts = self.contexts.iter().zip(&reading);
        let fits = self.batch == batch
            && self.length <= config.memory
            && self.inputs.len() == config.depth
            && self.inputs.iter().all(|inputs| inputs.len() == values)
            && self.contexts.len() == config.depth
            && contexts.into_iter().all(|(own, reads)| own.len() == values * usize::from(*reads));
        if fits {
            return Ok(());
        }
        let contexts = match reading.iter().filter(|reads| **reads).count() {
            0 => String::new(),
            read => format!(", with the contexts of {read}"),
        };
        let expected = format!(
            "the memory of {batch} sequences in {} blocks of width {}{contexts}, at most {} tokens",
            config.depth, config.width, config.memory
        );
        let got = format!(
            "{} sequences, {} blocks, {} tokens",
            self.batch,
            self.inputs.len(),
            self.length
        );
        Err(Error::Argument { op: "memory of a language model", expected, got })
    }

    /// The last `keep` rows of `[B, M, D]` followed by `[B, L, D]`.
    pub(super) fn roll(old: &[f32], new: &[f32], [batch, keep, d]: [usize; 3]) -> Vec<f32> {
        let (m, l) = (old.len() / batch, new.len() / batch);
        let mut rolled = Vec::with_capacity(batch * keep * d);
        for b in 0..batch {
            let (old, new) = (&old[b * m..(b + 1) * m], &new[b * l..(b + 1) * l]);
            let from_new = l.min(keep * d);
            let from_old = m.min(keep * d - from_new);
            rolled.extend_from_slice(&old[m - from_old..]);
            rolled.extend_from_slice(&new[l - from_new..]);
        }
        rolled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_keeps_the_last_rows_of_old_and_new() {
        // Two sequences, width 1: old 1 2 | 5 6, new 3 | 7.
        let rolled = |keep| Memory::roll(&[1., 2., 5., 6.], &[3., 7.], [2, keep, 1]);
        assert_eq!(rolled(2), [2., 3., 6., 7.]);
        assert_eq!(rolled(1), [3., 7.]);
        assert_eq!(rolled(9), [1., 2., 3., 5., 6., 7.]);
    }
}
