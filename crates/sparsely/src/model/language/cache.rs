//! Decoding: keys and mixed values are kept, so that a token is computed once.

use super::block::{Flow, Told};
use super::tokens::Past;
use super::transformer::LanguageModel;
use super::{Memory, Tokens};
use crate::attention::{DistanceKeys, KeysValues, Reading, Report, Scene};
use crate::nn::Mode;
use crate::{Error, Result};
use sparsely_tensor::{AttentionMask, Rows, Tape, Var};

/// Keys and mixed values of the tokens so far, for parameters that stay as they are.
pub struct Cache {
    batch: usize,
    /// Tokens that were read in all.
    length: usize,
    /// Tokens of the block of text at hand.
    in_block: usize,
    /// Tokens whose keys are kept, those of the block at hand last.
    kept: usize,
    layers: Vec<Kept>,
}

/// Of one block.
#[derive(Default)]
struct Kept {
    /// `[kept, Hk·A]` of each sequence.
    keys: Vec<Rows>,
    values: Vec<Rows>,
    /// Keys of all distances that may come, if the layer has them.
    distances: Option<Distances>,
}

/// `[R, Hk·A]`, that of distance 0 last.
struct Distances {
    keys: Rows,
    width: usize,
}

impl Cache {
    /// B.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Tokens that were read in all.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        let of = |rows: &[Rows]| rows.iter().map(|row| 4 * row.len()).sum::<usize>();
        self.layers.iter().map(|layer| of(&layer.keys) + of(&layer.values)).sum()
    }
}

impl LanguageModel {
    /// An empty cache for `batch` sequences that are read in step.
    ///
    /// # Errors
    /// If there are none.
    pub fn cache(&self, batch: usize) -> Result<Cache> {
        if batch == 0 {
            let expected = "at least one sequence".into();
            return Err(Error::Argument { op: "cache", expected, got: "0".into() });
        }
        let layer = || Kept {
            keys: (0..batch).map(|_| Rows::default()).collect(),
            values: (0..batch).map(|_| Rows::default()).collect(),
            distances: None,
        };
        let layers = self.blocks.iter().map(|_| layer()).collect();
        Ok(Cache { batch, length: 0, in_block: 0, kept: 0, layers })
    }

    /// A cache that begins with a memory, as the block of text after it would.
    ///
    /// # Errors
    /// If the memory is another model's.
    pub fn cache_after(&self, tape: &Tape<'_>, memory: &Memory) -> Result<Cache> {
        memory.check(&self.config, memory.batch)?;
        tape.compute_in(self.config.precision.into());
        let mut cache = self.cache(memory.batch)?;
        let shape = [memory.batch, memory.length, self.config.width];
        for (i, (block, kept)) in self.blocks.iter().zip(&mut cache.layers).enumerate() {
            let Past { inputs, contexts } = memory.of(i);
            let normed = block.norm_0.forward(&tape.constant(shape, inputs)?)?;
            let context = match contexts {
                [] => None,
                given => block.attention.read_context(&tape.constant(shape, given)?)?,
            };
            let tokens = Reading { x: &normed, context: context.as_ref() };
            let mut report = Report::default();
            kept.push(tape, &block.attention.source(tokens, 0, &mut Mode::Eval, &mut report)?);
        }
        (cache.length, cache.kept) = (memory.length, memory.length);
        Ok(cache)
    }

    /// Reads `[B, L]` more tokens, any number at a time: logits `[B·L, V]`, those that the whole text
    /// has. A model with memory reads on forever: after each T tokens a new block of text begins, whose
    /// memory are the last M tokens. One without ends with its context.
    ///
    /// # Errors
    /// As [`LanguageModel::forward`].
    pub fn step<'t>(
        &self,
        tape: &'t Tape<'t>,
        tokens: Tokens<'_>,
        cache: &mut Cache,
    ) -> Result<Var<'t>> {
        let l = tokens.length("decoding", self.config.vocabulary)?;
        tape.compute_in(self.config.precision.into());
        let (context, memory) = (self.config.context, self.config.memory);
        if tokens.batch != cache.batch {
            let expected = format!("{} sequences, those of the cache", cache.batch);
            return Err(Error::Argument {
                op: "decoding",
                expected,
                got: format!("{}", tokens.batch),
            });
        }
        if memory == 0 && cache.length + l > context {
            return Err(Error::Argument {
                op: "decoding",
                expected: format!("at most {context} tokens in all, the context of the model"),
                got: format!("{}", cache.length + l),
            });
        }
        let mut logits: Option<Var<'t>> = None;
        let mut first = 0;
        while first < l {
            if cache.in_block == context {
                cache.forget(tape, memory);
            }
            let count = (l - first).min(context - cache.in_block);
            let part = tokens.part(first, count);
            let own = self.step_part(tape, Tokens { ids: &part, batch: tokens.batch }, cache)?;
            let own = own.reshape([tokens.batch, count, self.config.vocabulary])?;
            logits = Some(match logits {
                Some(before) => before.append(&own)?,
                None => own,
            });
            first += count;
        }
        let logits = logits.expect("at least one token");
        Ok(logits.reshape([tokens.batch * l, self.config.vocabulary])?)
    }

    /// Tokens that end within the block of text.
    fn step_part<'t>(
        &self,
        tape: &'t Tape<'t>,
        tokens: Tokens<'_>,
        cache: &mut Cache,
    ) -> Result<Var<'t>> {
        let count = tokens.ids.len() / tokens.batch;
        let place = cache.length - cache.kept;
        let mask = AttentionMask { is_causal: true, ..AttentionMask::default() };
        let mut flow = Flow { x_bld: self.embed(tape, tokens)?, given_bld: None };
        let mut told = Told::default();
        self.prepare_distances(tape, cache)?;
        for (i, (block, kept)) in self.blocks.iter().zip(&mut cache.layers).enumerate() {
            let normed = block.norm_0.forward(&flow.x_bld)?;
            let context = block.context(&flow)?;
            let hand = Reading { x: &normed, context: context.as_ref() };
            let mut report = Report::default();
            let own = block.attention.source(hand, cache.length, &mut Mode::Eval, &mut report)?;
            kept.push(tape, &own);
            let source = kept.source(tape, cache.kept + count)?;
            let distances = kept.distance_keys(tape)?;
            let scene = Scene {
                first_key: place,
                offset: cache.kept,
                mask: &mask,
                distances: distances.as_ref(),
            };
            let both = (&mut Mode::Eval, &mut told);
            let hand = [&flow.x_bld, &normed];
            flow = block.rest(hand, context.as_ref(), (&source, &scene), (i, 0.0, report), both)?;
        }
        cache.length += count;
        cache.in_block += count;
        cache.kept += count;
        self.logits(&flow.x_bld)
    }

    /// Projects the sinusoids of all distances once.
    fn prepare_distances<'t>(&self, tape: &'t Tape<'t>, cache: &mut Cache) -> Result<()> {
        if cache.layers.iter().any(|layer| layer.distances.is_some()) {
            return Ok(());
        }
        let longest = self.config.context + self.config.memory - 1;
        let Some(sinusoids) = self.sinusoids(tape, longest)? else { return Ok(()) };
        for (block, kept) in self.blocks.iter().zip(&mut cache.layers) {
            let keys = block.attention.distance_keys(&sinusoids)?;
            kept.distances = keys.map(|DistanceKeys { keys, .. }| {
                let mut all = Rows::default();
                all.append(tape, keys.values());
                Distances { width: keys.shape().width(), keys: all }
            });
        }
        Ok(())
    }
}

impl Cache {
    /// Begins a block of text: of what came before, the last `memory` tokens stay.
    fn forget(&mut self, tape: &Tape<'_>, memory: usize) {
        let gone = self.kept.saturating_sub(memory);
        let kept = self.kept;
        for layer in &mut self.layers {
            for rows in layer.keys.iter_mut().chain(&mut layer.values) {
                rows.forget(tape, rows.len() / kept * gone);
            }
        }
        self.kept -= gone;
        self.in_block = 0;
    }
}

impl Kept {
    /// Adds keys and values `[B, L, Hk·A]`.
    fn push(&mut self, tape: &Tape<'_>, new: &KeysValues<'_>) {
        for (rows, new) in [(&mut self.keys, &new.keys), (&mut self.values, &new.values)] {
            let own = new.values().chunks(new.shape().len() / rows.len());
            rows.iter_mut().zip(own).for_each(|(rows, own)| rows.append(tape, own));
        }
    }

    /// All that is kept, of `[B, rows]`: that of one sequence is read where it lies.
    fn source<'t>(&self, tape: &'t Tape<'t>, rows: usize) -> Result<KeysValues<'t>> {
        let of = |all: &[Rows]| {
            let shape = [all.len(), rows, all[0].len() / rows];
            match all {
                [one] => tape.rows(shape, one),
                _ => {
                    let all: Vec<&[f32]> = all.iter().map(Rows::as_slice).collect();
                    tape.constant(shape, &all.concat())
                }
            }
        };
        Ok(KeysValues { keys: of(&self.keys)?, values: of(&self.values)? })
    }

    /// Those of all distances.
    fn distance_keys<'t>(&self, tape: &'t Tape<'t>) -> Result<Option<DistanceKeys<'t>>> {
        let Some(Distances { keys, width }) = &self.distances else { return Ok(None) };
        let count = keys.len() / width;
        Ok(Some(DistanceKeys { keys: tape.rows([count, *width], keys)?, zero: count - 1 }))
    }
}
