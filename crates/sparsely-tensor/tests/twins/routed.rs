//! A tiny mixture of experts with each way of weighing them, composed from twins: T tokens, two experts. Who is
//! chosen is given, as it is off the ties: a small step does not change it.

use super::attention::Softmax;
use super::dense::{Activation, Linear};
use super::graph::Graph;
use super::grouped::{GatherLinear, ScatterLinear};
use super::mixing::{CosineLogits, GatherMix, Mul, ScatterMix, SoftmaxColumns};
use super::scalar::Pick;
use super::transport::{Sinkhorn, SparsePlan, SparseTransport};
use sparsely_tensor as engine;
use sparsely_tensor::{Activation as Act, Spread};

pub(crate) const T: usize = 4;
pub(crate) const D: usize = 3;
pub(crate) const F: usize = 2;
pub(crate) const E: usize = 2;

/// Where the weights of the experts' outputs come from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Weigh {
    Softmax,
    Sigmoid,
    Relu,
    /// Softmax gates times 1 + tanh of a score of the token.
    Learned,
    Sinkhorn,
    SparseColumns,
    SparseRows,
    Soft,
}

/// Lengths of the inputs: x, router (D·E), experts in and out with biases, scale, score, and zeros that stand for
/// what is absent: bias and residual of the router, bias and residual of the score.
pub(crate) fn lens() -> Vec<usize> {
    vec![T * D, D * E, E * D * F, E * F, E * F * D, E * D, 1, D, E, T * E, 1, T]
}

/// The mixture y = x + Σ g e(x).
pub(crate) fn graph(weigh: Weigh) -> Graph {
    let mut graph = Graph::new(lens().len());
    if let Weigh::Soft = weigh {
        return soft(graph);
    }
    // Token 2 has both experts, token 3 none.
    let groups = vec![vec![0, 2], vec![2, 1]];
    let indices = vec![0, 4, 5, 3];
    let logits = graph.push(Linear { act: Act::Identity, i: D, o: E }, &[0, 1, 8, 9]);
    let weights = match weigh {
        Weigh::Softmax | Weigh::Learned => graph.push(Softmax { d: E }, &[logits]),
        Weigh::Sigmoid => graph.push(Activation(Act::Sigmoid), &[logits]),
        Weigh::Relu => graph.push(Activation(Act::Relu), &[logits]),
        Weigh::Sinkhorn => {
            let settings = engine::Sinkhorn { group_rows: T, iterations: 20, epsilon: 1.0 };
            graph.push(Sinkhorn { settings, e: E }, &[logits])
        }
        Weigh::SparseColumns | Weigh::SparseRows => {
            let gates = graph.push(Softmax { d: E }, &[logits]);
            graph.push(sparse(weigh), &[gates])
        }
        Weigh::Soft => unreachable!("returned above"),
    };
    let mut picked = graph.push(Pick { indices }, &[weights]);
    if let Weigh::Learned = weigh {
        let score = graph.push(Linear { act: Act::Identity, i: D, o: 1 }, &[0, 7, 10, 11]);
        let factor = graph.push(Activation(Act::Tanh), &[score]);
        let factor = graph.push(Pick { indices: vec![0, 2, 2, 1] }, &[factor]);
        picked = graph.push(Mul, &[picked, factor]);
    }
    let z = graph.push(GatherLinear { groups: groups.clone(), i: D, o: F }, &[0, 2, 3]);
    let out = ScatterLinear { act: Act::Gelu, groups, i: F, o: D };
    graph.push(out, &[z, 4, 5, picked, 0]);
    graph
}

fn sparse(weigh: Weigh) -> SparsePlan {
    let (spread, prices) = match weigh {
        Weigh::SparseRows => (Spread::Rows, vec![0.05, -0.02]),
        _ => (Spread::Columns, vec![0.05, -0.02, 0.03, 0.01]),
    };
    let settings = engine::SparseTransport { group_rows: T, spread, support: 2, steps: 0, lr: 0.0 };
    SparsePlan { transport: SparseTransport { settings, e: E }, prices }
}

/// Two groups of two tokens, a slot for each expert.
fn soft(mut graph: Graph) -> Graph {
    let (s, n, d) = (T / 2, E, D);
    let groups = vec![vec![0, 2], vec![1, 3]];
    let logits = graph.push(CosineLogits { d, eps: 0.1 }, &[0, 1, 6]);
    let dispatch = graph.push(SoftmaxColumns { s, n }, &[logits]);
    let combine = graph.push(Softmax { d: E }, &[logits]);
    let slots = graph.push(GatherMix { s, n, d }, &[0, dispatch]);
    let z = graph.push(GatherLinear { groups: groups.clone(), i: D, o: F }, &[slots, 2, 3]);
    // The scale stands in for a weight that all slots have.
    let ones = graph.push(Pick { indices: vec![0; 4] }, &[6]);
    let out = ScatterLinear { act: Act::Gelu, groups, i: F, o: D };
    let zeros = graph.push(Pick { indices: vec![0; T * D] }, &[10]);
    let y = graph.push(out, &[z, 4, 5, ones, zeros]);
    graph.push(ScatterMix { s, n, d }, &[y, combine, 0]);
    graph
}
