//! One whole pre-norm block with a mixture of two experts, and a head, composed from twins.

use super::attention::{SelfAttention, Softmax};
use super::dense::Linear;
use super::graph::Graph;
use super::grouped::{GatherLinear, ScatterLinear};
use super::norm::LayerNorm;
use super::scalar::{CrossEntropy, Pick};
use super::tokens::MeanTokens;
use sparsely_tensor::{Activation, CrossEntropy as Kind};

/// Extents, routing and targets of the block.
pub(crate) struct Block {
    pub(crate) b: usize,
    pub(crate) l: usize,
    pub(crate) heads: usize,
    pub(crate) a: usize,
    pub(crate) f: usize,
    pub(crate) v: usize,
    pub(crate) eps: f64,
    /// The rows of each expert.
    pub(crate) groups: Vec<Vec<u32>>,
    pub(crate) targets: Vec<f32>,
}

impl Block {
    pub(crate) fn d(&self) -> usize {
        self.heads * self.a
    }

    /// Names and shapes of the inputs, in the order of the graph's; the last four are the
    /// biases and residuals that the block does not have.
    pub(crate) fn inputs(&self) -> Vec<(&'static str, Vec<usize>)> {
        let (d, e, f, v, t) = (self.d(), self.groups.len(), self.f, self.v, self.b * self.l);
        vec![
            ("x", vec![self.b, self.l, d]),
            ("norm_1_scale", vec![d]),
            ("norm_1_bias", vec![d]),
            ("w_qkv", vec![d, 3 * d]),
            ("b_qkv", vec![3 * d]),
            ("w_out", vec![d, d]),
            ("b_out", vec![d]),
            ("norm_2_scale", vec![d]),
            ("norm_2_bias", vec![d]),
            ("w_router", vec![d, e]),
            ("w_expert_in", vec![e, d, f]),
            ("b_expert_in", vec![e, f]),
            ("w_expert_out", vec![e, f, d]),
            ("b_expert_out", vec![e, d]),
            ("w_head", vec![d, v]),
            ("b_head", vec![v]),
            ("no residual of qkv", vec![t, 3 * d]),
            ("no bias of the router", vec![e]),
            ("no residual of the router", vec![t, e]),
            ("no residual of the head", vec![self.b, v]),
        ]
    }

    /// Where the gates of the entries lie in the probabilities `[T, E]`.
    pub(crate) fn gate_indices(&self) -> Vec<u32> {
        let num_experts = self.groups.len() as u32;
        let of_expert = |(e, rows): (usize, &Vec<u32>)| -> Vec<u32> {
            rows.iter().map(|t| t * num_experts + e as u32).collect()
        };
        self.groups.iter().enumerate().flat_map(of_expert).collect()
    }

    pub(crate) fn graph(&self) -> Graph {
        let (b, l, heads, a, d, f) = (self.b, self.l, self.heads, self.a, self.d(), self.f);
        let linear = |i, o| Linear { act: Activation::Identity, i, o };
        let norm = || LayerNorm { d, eps: self.eps };
        let groups = || self.groups.clone();
        let experts = self.groups.len();

        let mut graph = Graph::new(self.inputs().len());
        let h = graph.push(norm(), &[0, 1, 2]);
        let qkv = graph.push(linear(d, 3 * d), &[h, 3, 4, 16]);
        let mixed = graph.push(SelfAttention { b, l, heads, a }, &[qkv]);
        let x = graph.push(linear(d, d), &[mixed, 5, 6, 0]);
        let h = graph.push(norm(), &[x, 7, 8]);
        let logits = graph.push(linear(d, experts), &[h, 9, 17, 18]);
        let probabilities = graph.push(Softmax { d: experts }, &[logits]);
        let gates = graph.push(Pick { indices: self.gate_indices() }, &[probabilities]);
        let z = graph.push(GatherLinear { groups: groups(), i: d, o: f }, &[h, 10, 11]);
        let experts_out = ScatterLinear { act: Activation::Gelu, groups: groups(), i: f, o: d };
        let x = graph.push(experts_out, &[z, 12, 13, gates, x]);
        let pooled = graph.push(MeanTokens { l, d }, &[x]);
        let logits = graph.push(linear(d, self.v), &[pooled, 14, 15, 19]);
        let targets = self.targets.clone();
        graph.push(CrossEntropy { kind: Kind::Softmax, v: self.v, targets }, &[logits]);
        graph
    }
}
