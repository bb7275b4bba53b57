//! Training text as contiguous streams: block t + 1 of a row follows block t.

use super::TokensFile;
use crate::{Error, Result};

/// A training text in B rows, each a contiguous part of it, read in blocks of T tokens.
#[derive(Clone, Copy, Debug)]
pub struct Streams {
    batch: usize,
    block: usize,
    /// Tokens from the beginning of a row to that of the next.
    row: usize,
}

/// What a step learns from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// `[B, T]`, row after row.
    pub inputs: Vec<u32>,
    /// The token after each.
    pub targets: Vec<u32>,
    /// Whether rows begin anew: what was remembered belongs to other text.
    pub is_first: bool,
}

impl Streams {
    /// Rows of a text. The last tokens, fewer than `batch` · `block`, are left out.
    ///
    /// # Errors
    /// If the text has not a block for each row.
    pub fn new(tokens: &TokensFile, batch: usize, block: usize) -> Result<Streams> {
        let row = tokens.len().saturating_sub(1) / batch.max(1);
        if row < block || batch == 0 || block == 0 {
            let rows = format!("{batch} rows of a block of {block} tokens");
            return Err(Error::Argument {
                op: "training text",
                expected: format!("at least {} tokens, {rows}", batch * block + 1),
                got: format!("{}: set train.batch_size or model.context", tokens.len()),
            });
        }
        Ok(Streams { batch, block, row })
    }

    /// Blocks of a row.
    pub fn steps_per_epoch(&self) -> u64 {
        (self.row / self.block) as u64
    }

    /// What step `step` learns from, whatever came before.
    pub fn block_at(&self, tokens: &TokensFile, step: u64) -> Block {
        let index = (step % self.steps_per_epoch()) as usize;
        let mut block = Block {
            inputs: Vec::with_capacity(self.batch * self.block),
            targets: Vec::with_capacity(self.batch * self.block),
            is_first: index == 0,
        };
        for b in 0..self.batch {
            let start = b * self.row + index * self.block;
            tokens.append(start, self.block, &mut block.inputs);
            tokens.append(start + 1, self.block, &mut block.targets);
        }
        block
    }
}
