//! Each twin's backward is the slope of its own forward, in f64.

use crate::draw::{row_groups, uniform};
use crate::twins::attention::{CrossAttention, SelfAttention, Softmax};
use crate::twins::block::Block;
use crate::twins::dense::{Activation, Linear};
use crate::twins::grouped::{GatherLinear, ScatterLinear};
use crate::twins::language::{
    Append, Embedding, MaskedAttention, NegativeEntropy, Rotary, RoutedLinear, Scaled,
    TokenCrossEntropy,
};
use crate::twins::mixing::{CosineLogits, GatherMix, Mul, ScatterMix, ScatterRows, SoftmaxColumns};
use crate::twins::norm::{HeadNorm, LayerNorm};
use crate::twins::routed::{self, Weigh};
use crate::twins::scalar::{CrossEntropy, DotConstant, Pick, WeightedSum};
use crate::twins::statistics::{ChanceAmongLargest, CvSquared, MeanSquaredLogSumExp, SumGroups};
use crate::twins::tokens::{AddRepeated, MeanTokens, Prepend, Repeat, SelectToken};
use crate::twins::transport::{Sinkhorn, SparsePlan, SparseTransport};
use crate::twins::{Both, Twin};
use proptest::prelude::*;
use sparsely_tensor as engine;
use sparsely_tensor::{Activation as Act, CrossEntropy as Kind, Spread};

/// The truncation error is H² f‴/6, about 1e-10 for the functions here, and rounding adds
/// 1e-16/H: both far below what is allowed.
const H: f64 = 1e-5;
const ALLOWED: f64 = 1e-6;

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

/// Random inputs of the given lengths.
fn draw(lens: &[usize], seed: u64) -> Vec<Vec<f64>> {
    let inputs = lens.iter().zip(1..);
    inputs.map(|(len, i)| wide(&uniform(*len, seed.wrapping_mul(31) + i))).collect()
}

fn check(twin: &impl Both, inputs: &[Vec<f64>]) -> Result<(), TestCaseError> {
    let num_outputs = Twin::<f64>::forward(twin, inputs).len();
    let dy = wide(&uniform(num_outputs, 7));
    let grads = twin.backward(inputs, &dy);
    prop_assert_eq!(grads.len(), inputs.len());
    for (i, grad) in grads.iter().enumerate() {
        prop_assert_eq!(grad.len(), inputs[i].len());
        for j in 0..grad.len() {
            let loss_at = |step: f64| -> f64 {
                let mut moved = inputs.to_vec();
                moved[i][j] += step;
                twin.forward(&moved).iter().zip(&dy).map(|(y, dy)| y * dy).sum()
            };
            let difference = (loss_at(H) - loss_at(-H)) / (2.0 * H);
            let error = (grad[j] - difference).abs() / difference.abs().max(1.0);
            prop_assert!(error < ALLOWED, "input {i} at {j}: {} for {difference}", grad[j]);
        }
    }
    Ok(())
}

fn activations() -> impl Strategy<Value = Act> {
    prop_oneof![
        Just(Act::Identity),
        Just(Act::Gelu),
        Just(Act::Tanh),
        Just(Act::Sigmoid),
        Just(Act::Relu)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn activation(act in activations(), len in 1_usize..9, seed: u32) {
        check(&Activation(act), &draw(&[len], seed.into()))?;
    }

    #[test]
    fn linear(act in activations(), r in 1_usize..4, i in 1_usize..5, o in 1_usize..5, seed: u32) {
        check(&Linear { act, i, o }, &draw(&[r * i, i * o, o, r * o], seed.into()))?;
    }

    #[test]
    fn layer_norm(r in 1_usize..4, d in 1_usize..6, seed: u32) {
        // A small eps would make the function of two nearly equal elements too steep for H.
        check(&LayerNorm { d, eps: 0.1 }, &draw(&[r * d, d, d], seed.into()))?;
    }

    #[test]
    fn head_norm(r in 1_usize..3, heads in 1_usize..4, a in 1_usize..5, scales in 1_usize..4, seed: u32) {
        let twin = HeadNorm { heads, a, parts: 3, eps: 0.1 };
        let mut lens = vec![r * 3 * heads * a];
        lens.extend(vec![a; scales]);
        check(&twin, &draw(&lens, seed.into()))?;
    }

    #[test]
    fn softmax(r in 1_usize..4, d in 1_usize..6, seed: u32) {
        check(&Softmax { d }, &draw(&[r * d], seed.into()))?;
    }

    #[test]
    fn self_attention(b in 1_usize..3, l in 1_usize..5, heads in 1_usize..4, a in 1_usize..4, seed: u32) {
        check(&SelfAttention { b, l, heads, a }, &draw(&[3 * b * l * heads * a], seed.into()))?;
    }

    #[test]
    fn cross_attention(
        b in 1_usize..3, q in 1_usize..4, l in 1_usize..5, heads in 1_usize..3, a in 1_usize..4, seed: u32,
    ) {
        let lens = [b * q * heads * a, 2 * b * l * heads * a];
        check(&CrossAttention { b, q, l, heads, a }, &draw(&lens, seed.into()))?;
    }

    #[test]
    fn gather_linear(t in 1_usize..5, e in 1_usize..4, i in 1_usize..4, o in 1_usize..4, seed: u32) {
        let groups = row_groups(t, e, seed.into());
        check(&GatherLinear { groups, i, o }, &draw(&[t * i, e * i * o, e * o], seed.into()))?;
    }

    #[test]
    fn scatter_linear(
        act in activations(), t in 1_usize..5, e in 1_usize..4, i in 1_usize..4, o in 1_usize..4, seed: u32,
    ) {
        let groups = row_groups(t, e, seed.into());
        let n: usize = groups.iter().map(Vec::len).sum();
        let lens = [n * i, e * i * o, e * o, n, t * o];
        check(&ScatterLinear { act, groups, i, o }, &draw(&lens, seed.into()))?;
    }

    #[test]
    fn masked_attention(
        b in 1_usize..3, q in 1_usize..4, more in 0_usize..3, heads in 1_usize..3, shared_by in 1_usize..3,
        a in 1_usize..4, masks in 0_u8..16, seed: u32,
    ) {
        let l = q + more;
        let twin = MaskedAttention {
            b, q, l, heads, shared_by, a,
            scale: 0.7,
            offset: more,
            is_causal: masks & 1 > 0,
            removed_keys: if masks & 2 > 0 { (0..b * l).map(|i| i % 3 == 1).collect() } else { vec![] },
            removed_pairs: if masks & 4 > 0 { (0..q * q).map(|i| i % 4 == 1).collect() } else { vec![] },
            distances: (masks & 8 > 0).then_some([l, 2 * l]),
        };
        check(&twin, &draw(&twin.lens(), seed.into()))?;
    }

    #[test]
    fn rotary(l in 1_usize..4, heads in 1_usize..3, half in 0_usize..3, more in 0_usize..2, seed: u32) {
        let a = 2 * half + more + 1;
        let twin = Rotary { l, heads, a, channels: 2 * half, first: 5 };
        check(&twin, &draw(&[2 * l * heads * a], seed.into()))?;
    }

    #[test]
    fn routed_linear(i in 1_usize..4, o in 1_usize..4, seed: u32) {
        let groups = vec![vec![(0, 1), (2, 1), (2, 2)], vec![], vec![(1, 0), (1, 2)]];
        check(&RoutedLinear { groups, i, o }, &draw(&[3 * i, 3 * i * o, 5, 4 * o], seed.into()))?;
    }

    #[test]
    fn of_words(v in 1_usize..5, d in 1_usize..4, picks in prop::collection::vec(0_u32..100, 1..9), seed: u32) {
        let seed = seed.into();
        let indices: Vec<u32> = picks.iter().map(|pick| pick % v as u32).collect();
        check(&Embedding { indices: indices.clone(), d }, &draw(&[v * d], seed))?;
        check(&TokenCrossEntropy { targets: indices, v }, &draw(&[v * picks.len()], seed))?;
        check(&Scaled, &draw(&[v * d, 1], seed))?;
        check(&Append { l: v, m: d, d: 2 }, &draw(&[2 * v * 2, 2 * d * 2], seed))?;
        let sums = draw(&[v], seed).remove(0).iter().map(|x| x.abs() + 0.3).collect();
        check(&NegativeEntropy { count: 3 }, &[sums])?;
    }

    #[test]
    fn cross_entropy(sigmoid: bool, b in 1_usize..4, v in 1_usize..5, seed: u32) {
        let kind = if sigmoid { Kind::Sigmoid } else { Kind::Softmax };
        let targets = uniform(b * v, u64::from(seed) + 99).iter().map(|t| t.abs() / 1.5).collect();
        check(&CrossEntropy { kind, v, targets }, &draw(&[b * v], seed.into()))?;
    }

    #[test]
    fn pick(len in 1_usize..6, picks in prop::collection::vec(0_usize..100, 0..9), seed: u32) {
        let indices = picks.iter().map(|i| (i % len) as u32).collect();
        check(&Pick { indices }, &draw(&[len], seed.into()))?;
    }

    #[test]
    fn weighted_sum(weights in prop::collection::vec(-2.0_f32..2.0, 1..5), seed: u32) {
        let inputs = draw(&vec![1; weights.len()], seed.into());
        check(&WeightedSum { weights }, &inputs)?;
    }

    #[test]
    fn dot_constant(coefficients in prop::collection::vec(-2.0..2.0, 1..9), seed: u32) {
        let inputs = draw(&[coefficients.len()], seed.into());
        check(&DotConstant { coefficients }, &inputs)?;
    }

    #[test]
    fn sums_along_tokens(b in 1_usize..4, l in 1_usize..4, d in 1_usize..5, at in 0_usize..9, seed: u32) {
        let seed = seed.into();
        check(&Prepend { l, d }, &draw(&[b * l * d, d], seed))?;
        check(&AddRepeated, &draw(&[b * l * d, l * d], seed))?;
        check(&Repeat { times: b }, &draw(&[l * d], seed))?;
        check(&SelectToken { l, d, index: at % l }, &draw(&[b * l * d], seed))?;
        check(&MeanTokens { l, d }, &draw(&[b * l * d], seed))?;
        check(&SumGroups { group_rows: l, e: d }, &draw(&[b * l * d], seed))?;
    }

    #[test]
    fn mixtures(g in 1_usize..3, s in 1_usize..4, n in 1_usize..4, d in 1_usize..4, seed: u32) {
        let seed = seed.into();
        check(&CosineLogits { d, eps: 0.1 }, &draw(&[s * d, d * n, 1], seed))?;
        check(&SoftmaxColumns { s, n }, &draw(&[g * s * n], seed))?;
        check(&GatherMix { s, n, d }, &draw(&[g * s * d, g * s * n], seed))?;
        check(&ScatterMix { s, n, d }, &draw(&[g * n * d, g * s * n, g * s * d], seed))?;
        check(&ScatterRows { rows: vec![1, 0, 1], d }, &draw(&[3 * d, 3, 2 * d], seed))?;
        check(&Mul, &draw(&[d, d], seed))?;
    }

    #[test]
    fn sinkhorn(g in 1_usize..3, s in 1_usize..5, e in 1_usize..4, iterations in 1_usize..8, seed: u32) {
        let settings = engine::Sinkhorn { group_rows: s, iterations, epsilon: 0.5 };
        check(&Sinkhorn { settings, e }, &draw(&[g * s * e], seed.into()))?;
    }

    #[test]
    fn sparse_plan(order in Just(vec![0, 1, 2, 3, 4, 5]).prop_shuffle(), rows: bool, support in 1_usize..4) {
        // Similarities a tenth apart and prices of thirds of it: no ties, and no element at the border of
        // the support.
        let x: Vec<f64> = order.iter().map(|rank| f64::from(*rank) * 0.1).collect();
        let spread = if rows { Spread::Rows } else { Spread::Columns };
        let settings = engine::SparseTransport { group_rows: 3, spread, support, steps: 0, lr: 0.0 };
        let prices = vec![0.033, -0.017, 0.004];
        check(&SparsePlan { transport: SparseTransport { settings, e: 2 }, prices }, &[x])?;
    }

    #[test]
    fn cv_squared(g in 1_usize..4, e in 1_usize..5, seed: u32) {
        // Positive, as sums of gates are: the mean is a divisor.
        let inputs = draw(&[g * e], seed.into()).remove(0);
        check(&CvSquared { e }, &[inputs.iter().map(|x| x.abs() + 0.3).collect()])?;
    }

    #[test]
    fn mean_squared_log_sum_exp(t in 1_usize..4, e in 1_usize..5, seed: u32) {
        check(&MeanSquaredLogSumExp { e }, &draw(&[t * e], seed.into()))?;
    }

    #[test]
    fn chance_among_largest(
        t in 1_usize..4, noisy in Just(vec![-0.7, -0.2, 0.1, 0.4, 1.1]).prop_shuffle(), k in 1_usize..6, seed: u32,
    ) {
        // The noisy values are far apart: at a tie the threshold has no slope.
        let inputs = [draw(&[5 * t], seed.into()).remove(0), noisy.repeat(t)];
        check(&ChanceAmongLargest { e: 5, k, sigma: 0.5 }, &inputs)?;
    }
}

#[test]
fn a_whole_block() {
    let block = Block {
        b: 2,
        l: 3,
        heads: 2,
        a: 2,
        f: 3,
        v: 3,
        eps: 0.1,
        // Row 1 goes to both experts, row 5 to none.
        groups: vec![vec![0, 1, 4], vec![3, 2, 1]],
        targets: vec![1.0, 0.0, 0.0, 0.1, 0.2, 0.7],
    };
    let lens: Vec<usize> = block.inputs().iter().map(|(_, shape)| shape.iter().product()).collect();
    check(&block.graph(), &draw(&lens, 1)).unwrap();
}

#[test]
fn a_mixture_by_every_router() {
    let all = [
        Weigh::Softmax,
        Weigh::Sigmoid,
        Weigh::Relu,
        Weigh::Learned,
        Weigh::Sinkhorn,
        Weigh::SparseColumns,
        Weigh::SparseRows,
        Weigh::Soft,
    ];
    for weigh in all {
        for seed in 0..8 {
            check(&routed::graph(weigh), &draw(&routed::lens(), seed)).unwrap();
        }
    }
}
