//! What attention layers of all kinds are asked, and what they answer.

use super::positions::{DistanceKeys, Positions};
use crate::Result;
use crate::moe::RouterStats;
use sparsely_tensor::{Activation, Attention, AttentionMask, Distances, Param, Var};

/// Keys and values `[B, L, Hk·A]` of the source: all that later queries need of it.
#[derive(Clone, Debug)]
pub struct KeysValues<'t> {
    /// Turned to their places, where positions are rotary.
    pub keys: Var<'t>,
    /// With experts already mixed.
    pub values: Var<'t>,
}

impl<'t> KeysValues<'t> {
    /// By dense projections `[D, Hk·A]` of `[B, L, D]`, the first token at place `first`.
    pub(super) fn dense(
        x: &Var<'t>,
        [keys, values]: [&Param; 2],
        positions: &Positions,
        first: usize,
    ) -> Result<KeysValues<'t>> {
        let keys = x.linear(Activation::Identity, keys, None, None)?;
        let values = x.linear(Activation::Identity, values, None, None)?;
        Ok(KeysValues { keys: positions.turn(keys, first)?, values })
    }
}

/// What a layer reads of tokens.
#[derive(Clone, Copy)]
pub struct Reading<'a, 't> {
    /// `[B, L, D]`.
    pub x: &'a Var<'t>,
    /// `[B, L, W]`, for routers that read what attention of the block before gave the same tokens.
    pub context: Option<&'a Var<'t>>,
}

impl<'a, 't> From<&'a Var<'t>> for Reading<'a, 't> {
    fn from(x: &'a Var<'t>) -> Reading<'a, 't> {
        Reading { x, context: None }
    }
}

/// Where queries stand among the keys.
#[derive(Clone, Copy)]
pub struct Scene<'a, 't> {
    /// The place of the first key, for rotation.
    pub first_key: usize,
    /// The index of the first query among the keys.
    pub offset: usize,
    /// Who does not see whom.
    pub mask: &'a AttentionMask,
    /// The layer's keys of distances, where it has them.
    pub distances: Option<&'a DistanceKeys<'t>>,
}

/// What came of a layer beside its output.
#[derive(Debug, Default)]
pub struct Report<'t> {
    /// Auxiliary losses with their weights.
    pub losses: Vec<(Var<'t>, f32)>,
    /// What the router of keys and values did.
    pub source: Option<HeadRouting>,
    /// What the router of queries and outputs did.
    pub destination: Option<HeadRouting>,
}

/// What the routers of the heads did on one side.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadRouting {
    /// Counts over all experts of all heads, head after head; a token counts once for each head.
    pub stats: RouterStats,
    /// Who chose whom.
    pub choices: HeadChoices,
}

/// The experts that tokens chose in each head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadChoices {
    /// H; one where heads are what is chosen.
    pub heads: usize,
    /// K.
    pub num_selected: usize,
    /// `[T, H, K]`, indices within the head.
    pub experts_thk: Vec<u32>,
}

impl<'t> Scene<'_, 't> {
    /// Queries `[B, Q, H·A]` of heads of width A, and others for distances, meet keys: `[B, Q, H·A]`.
    pub(super) fn attend(
        &self,
        positions: &Positions,
        [queries, for_distances]: [Var<'t>; 2],
        source: &KeysValues<'t>,
        (head_width, scale): (usize, f32),
    ) -> Result<Var<'t>> {
        let queries = positions.turn(queries, self.first_key + self.offset)?;
        let distances = self.distances.map(|distances| Distances {
            queries: &for_distances,
            keys: &distances.keys,
            zero: distances.zero,
        });
        let (offset, mask) = (self.offset, self.mask);
        let settings = Attention { head_width, scale, offset, mask, distances };
        Ok(queries.masked_attention(&source.keys, &source.values, &settings)?)
    }
}
