//! One part of a model, and how the operations of a part add up.

use serde::Serialize;

/// FLOPs of each value of a normalisation.
const NORM: u64 = 5;
/// FLOPs of each value of a softmax.
const SOFTMAX: u64 = 5;
/// FLOPs of each GELU or tanh.
const ACTIVATION: u64 = 8;

/// What a part of a model does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Patches to tokens, class token, positions.
    Embedding,
    /// Layer normalisation of a block or at the end.
    Norm,
    /// Projections, attention matrix, mixing, output.
    Attention,
    /// The dense feed-forward block.
    Mlp,
    /// Scores of tokens and experts, and the choice.
    Router,
    /// Moving tokens to experts and the gated sum of what comes back.
    Dispatch,
    /// The experts' own layers.
    Experts,
    /// Pooling by attention before the head.
    Pool,
    /// The tanh layer before the head.
    PreLogits,
    /// The classifier.
    Head,
}

/// The cost of one part for a batch. Numbers of values, not of bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartCost {
    /// Index of the block, if it is in one.
    pub block: Option<usize>,
    /// Which part.
    pub part: Part,
    /// Parameters.
    pub params: u64,
    /// Parameters that one token meets: of E experts, K.
    pub active_params: u64,
    /// Parameters that the batch reads: experts that nobody asks are left alone.
    pub read_params: u64,
    /// Rows that experts compute: routed pairs, or slots.
    pub rows: u64,
    /// Multiply-accumulates of the forward pass.
    pub macs: u64,
    /// Multiply-accumulates of the backward pass.
    pub backward_macs: u64,
    /// FLOPs of the forward pass that belong to no product.
    pub elementwise_flops: u64,
    /// Values that the backward pass needs of the forward pass.
    #[serde(rename = "kept_values")]
    pub kept: u64,
    /// Values that exist at most while inference computes the part, its block's inputs included.
    #[serde(rename = "alive_values")]
    pub alive: u64,
    /// Values that the backward pass of the part works with, beside those that are kept.
    #[serde(rename = "gradients_values")]
    pub gradients: u64,
    /// Activations read and written by the operations of the forward pass, each once.
    #[serde(rename = "moved_values")]
    pub moved: u64,
}

impl PartCost {
    /// A part without any operation.
    pub(super) fn new(block: Option<usize>, part: Part) -> PartCost {
        PartCost {
            block,
            part,
            params: 0,
            active_params: 0,
            read_params: 0,
            rows: 0,
            macs: 0,
            backward_macs: 0,
            elementwise_flops: 0,
            kept: 0,
            alive: 0,
            gradients: 0,
            moved: 0,
        }
    }

    /// The same part where a call leaves it out: its parameters alone.
    pub(super) fn left_out(self) -> PartCost {
        PartCost { params: self.params, ..PartCost::new(self.block, self.part) }
    }

    /// FLOPs of the forward pass.
    pub fn flops(&self) -> u64 {
        2 * self.macs + self.elementwise_flops
    }

    /// FLOPs of forward and backward pass; what is no product counts twice on the way back.
    pub fn training_flops(&self) -> u64 {
        2 * (self.macs + self.backward_macs) + 3 * self.elementwise_flops
    }

    /// Parameters that every token meets.
    pub(super) fn with_params(mut self, params: u64) -> PartCost {
        self.params += params;
        self.active_params += params;
        self.read_params += params;
        self
    }

    /// Values that stay for the backward pass.
    pub(super) fn keeping(mut self, values: u64) -> PartCost {
        self.kept += values;
        self
    }

    /// A linear layer with bias whose input is kept: `[rows, I]` → `[rows, O]`. The backward
    /// pass has two products of the same size, one for the weights and one for the input.
    pub(super) fn linear(self, rows: u64, [i, o]: [u64; 2]) -> PartCost {
        self.with_params(i * o + o).keeping(rows * i).product([rows, i, o]).added(rows * o)
    }

    /// A product of activations and weights, `[M, K]·[K, N]`, there and twice back.
    pub(super) fn product(mut self, [m, k, n]: [u64; 3]) -> PartCost {
        self.macs += m * k * n;
        self.backward_macs += 2 * m * k * n;
        self.moved += m * (k + n);
        self
    }

    /// The norm of rows, with scale and bias or scale alone; the input is kept, and mean and
    /// deviation.
    pub(super) fn norm(mut self, rows: u64, width: u64) -> PartCost {
        self.elementwise_flops += NORM * rows * width;
        self.moved += 2 * rows * width;
        self.keeping(rows * width + 2 * rows)
    }

    /// What the part's working memory is: values at most alive in inference, and gradients.
    pub(super) fn working(mut self, alive: u64, gradients: u64) -> PartCost {
        self.alive = alive;
        self.gradients = gradients;
        self
    }

    /// The softmax of so many values.
    pub(super) fn softmax(mut self, values: u64) -> PartCost {
        self.elementwise_flops += SOFTMAX * values;
        self
    }

    /// An activation, applied while its product reads.
    pub(super) fn activation(mut self, values: u64) -> PartCost {
        self.elementwise_flops += ACTIVATION * values;
        self
    }

    /// An addition inside another operation: a bias.
    pub(super) fn added(mut self, values: u64) -> PartCost {
        self.elementwise_flops += values;
        self
    }

    /// A residual that an operation reads and adds.
    pub(super) fn residual(mut self, values: u64) -> PartCost {
        self.moved += values;
        self.added(values)
    }

    /// softmax(q kᵀ) v of Q queries and L keys a head, B·H heads of width A. Way back: the matrix
    /// again, then the gradients of its two products, two each.
    pub(super) fn attention(mut self, heads: u64, [q, l, a]: [u64; 3]) -> PartCost {
        let product = heads * q * l * a;
        self.macs += 2 * product;
        self.backward_macs += 5 * product;
        // Queries and mixed values, keys and values; the matrix stays in the cache.
        self.moved += heads * 2 * (q + l) * a;
        self.softmax(heads * q * l)
    }
}
