//! The cost of attention in language models: one layer, one sequence.
//!
//! Two counts. The *published* one is the authors' formula (SwitchHead, arXiv 2312.07987, appendix;
//! their tables are made of it), which counts the position term with the memory for the baseline
//! and without it for SwitchHead, and the routers without their factor H. The *executed* one counts
//! on every side what their code computes: keys and values of the memory again, a position key for
//! each distance in both directions (2TC) and its product with the queries, a router row for each
//! expert of each head, over all keys on the source side and over the block on the destination
//! side. Values held are q, k, v, outputs, position keys, router scores and the matrix before and
//! after softmax; the scores of positions are added to it and not held.

use serde::Serialize;

/// What attends, as the formulas name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AttentionSizes {
    /// D.
    pub d: u64,
    /// H; for MoA the heads that each token selects.
    pub h: u64,
    /// A, the width of a head.
    pub a: u64,
    /// T, the tokens of a block.
    pub t: u64,
    /// C, the blocks of keys for a block of queries: 2 with a block of memory, else 1.
    pub c: u64,
}

/// Which attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Attention {
    /// Dense, with Transformer-XL's relative positions.
    TransformerXl,
    /// Dense, with rotary positions.
    Rope,
    /// Experts for the values and outputs of each head.
    SwitchHead {
        /// E, of each head.
        experts: u64,
        /// K, active of each head.
        selected: u64,
        /// Transformer-XL's relative positions, else rotary ones.
        relative_positions: bool,
    },
    /// Experts are whole heads that share keys and values (arXiv 2210.05144), with relative
    /// positions.
    Moa {
        /// E, of which each token selects H.
        experts: u64,
    },
}

/// What a layer costs for one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AttentionCost {
    /// Multiply-accumulates.
    pub macs: u64,
    /// Values held.
    pub values: u64,
}

impl Attention {
    /// The authors' formula.
    pub fn published(&self, sizes: &AttentionSizes) -> AttentionCost {
        let &AttentionSizes { d, h, a, t, c } = sizes;
        let (core, matrices) = core(sizes);
        let (macs, values) = match *self {
            Attention::TransformerXl => {
                (4 * d * h * a * t + 2 * d * h * a * t * c, 4 * h * a * t + 2 * h * t * a * c)
            }
            Attention::Rope => (4 * d * h * a * t, 4 * h * a * t),
            Attention::SwitchHead { experts: e, selected: k, relative_positions } => {
                let positions = u64::from(relative_positions);
                (
                    (2 + 2 * k) * d * h * a * t
                        + 2 * k * h * a * t
                        + 2 * e * d * t * c
                        + 2 * d * h * a * t * positions,
                    4 * h * a * t + 2 * e * t * c + 2 * h * t * a * positions,
                )
            }
            Attention::Moa { experts: e } => (
                (2 * h + 2) * d * a * t + 2 * h * a * t + e * d * t + 2 * d * a * t * c,
                (2 * h + 2) * a * t + 2 * a * t + e * t * c,
            ),
        };
        AttentionCost { macs: core + macs, values: matrices + values }
    }

    /// What runs, on every side by the same rules.
    pub fn executed(&self, sizes: &AttentionSizes) -> AttentionCost {
        let &AttentionSizes { d, h, a, t, c } = sizes;
        let (core, matrices) = core(sizes);
        let queries = t;
        let keys = t * c;
        // A position key for each distance in both directions, projected and met by each query.
        let positions = if self.has_relative_positions() { 2 * keys } else { 0 };
        let product = h * queries * positions * a;
        let (macs, values) = match *self {
            Attention::TransformerXl | Attention::Rope => (
                d * h * a * (2 * queries + 2 * keys + positions),
                h * a * (2 * queries + 2 * keys + positions),
            ),
            Attention::SwitchHead { experts: e, selected: k, .. } => {
                // q and k are dense; v on the source side and o on the destination side have
                // experts.
                let projections = d * h * a * (queries + keys + k * keys + k * queries + positions);
                let gates = k * h * a * (keys + queries);
                let routers = d * h * e * (keys + queries);
                (
                    projections + gates + routers,
                    h * a * (2 * queries + 2 * keys + positions) + h * e * (keys + queries),
                )
            }
            Attention::Moa { experts: e } => (
                2 * d * h * a * queries
                    + d * a * (2 * keys + positions)
                    + 2 * h * a * queries
                    + d * e * queries,
                2 * h * a * queries + a * (2 * keys + positions) + e * queries,
            ),
        };
        AttentionCost { macs: core + product + macs, values: matrices + values }
    }

    /// Parameters of a layer. Nothing has biases but Transformer-XL, whose u and v are two for each
    /// channel of a head; it and MoA learn the scale.
    pub fn params(&self, sizes: &AttentionSizes) -> u64 {
        let &AttentionSizes { d, h, a, .. } = sizes;
        match *self {
            Attention::TransformerXl => 5 * d * h * a + 2 * h * a + 1,
            Attention::Rope => 4 * d * h * a,
            Attention::SwitchHead { experts: e, relative_positions, .. } => {
                let positions = if relative_positions { d * h * a } else { 0 };
                2 * d * h * a + 2 * h * e * a * d + 2 * h * e * d + positions
            }
            Attention::Moa { experts: e } => 2 * e * d * a + 2 * d * a + d * a + e * d + 1,
        }
    }

    fn has_relative_positions(&self) -> bool {
        match *self {
            Attention::TransformerXl | Attention::Moa { .. } => true,
            Attention::Rope => false,
            Attention::SwitchHead { relative_positions, .. } => relative_positions,
        }
    }
}

/// MACs of q kᵀ and P v, and the values of the two matrices before and after softmax.
fn core(&AttentionSizes { h, a, t, c, .. }: &AttentionSizes) -> (u64, u64) {
    (2 * h * a * t * t * c, 2 * h * t * t * c)
}

#[cfg(test)]
mod tests;
