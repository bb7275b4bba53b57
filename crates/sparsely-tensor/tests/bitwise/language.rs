//! Attention with masks and distances, routed products and what comes before and after them.

use super::rows::assert_rows_do_not_depend_on_others;
use super::{Model, PRECISIONS, bits};
use crate::draw::uniform;
use sparsely_tensor::{
    Attention, AttentionMask, Distances, Pool, Precision, Result, Rotary, Routes, Slab, Tape, Var,
};
use std::ops::Range;
use std::sync::Arc;

const HEADS: usize = 2;
const A: usize = 12;
const D: usize = HEADS * A;

fn causal() -> AttentionMask {
    AttentionMask { is_causal: true, ..AttentionMask::default() }
}

/// Causal self-attention over `memory` keys more, with distances.
fn attend<'t>(x: &Var<'t>, before: &Var<'t>, distances: &Var<'t>) -> Result<Var<'t>> {
    let [_, memory, _] = before.dims("test")?;
    let source = before.append(x)?;
    let rotary = Rotary { head_width: A, channels: 6, first: memory, base: 1e4 };
    let zero = distances.shape().rows() - 1;
    let settings = Attention {
        head_width: A,
        scale: 0.3,
        offset: memory,
        mask: &causal(),
        distances: Some(Distances { queries: x, keys: distances, zero }),
    };
    x.rotary(&rotary)?.masked_attention(&source, &source, &settings)
}

#[test]
fn a_sequence_has_the_bits_it_has_among_others() {
    let model = Model::drawn(&[]);
    for (l, memory) in [(1, 30), (5, 3), (70, 65)] {
        let rows = 200;
        let before = uniform(rows * memory * D, 5);
        let distances = uniform((l + memory) * D, 6);
        let what = format!("masked_attention {l} after {memory}");
        assert_rows_do_not_depend_on_others(&what, &model, &[l, D], |x, own| {
            let before = &before[own.start * memory * D..own.end * memory * D];
            let before = x.tape().constant([own.len(), memory, D], before)?;
            attend(x, &before, &x.tape().constant([l + memory, D], &distances)?)
        });
    }
}

/// Two experts of three for each of two heads, by the token's number.
fn chosen(tokens: Range<usize>) -> Vec<Vec<(u32, u32)>> {
    let mut groups = vec![Vec::new(); 6];
    for (row, token) in tokens.enumerate() {
        for head in 0..HEADS {
            let mut experts = [(token + head) % 3, (token * 2 + head + 1) % 3];
            if experts[0] == experts[1] {
                experts[1] = (experts[0] + 1) % 3;
            }
            for expert in experts {
                groups[head * 3 + expert].push((row as u32, (row * HEADS + head) as u32));
            }
        }
    }
    groups
}

/// Through the experts of heads and back.
fn through_heads<'t>(model: &Model, x: &Var<'t>, tokens: Range<usize>) -> Result<Var<'t>> {
    let (t, there) = (tokens.len(), chosen(tokens));
    let swap = |own: &Vec<(u32, u32)>| own.iter().map(|(a, b)| (*b, *a)).collect();
    let back: Vec<Vec<(u32, u32)>> = there.iter().map(swap).collect();
    let there = Arc::new(Routes::new([t, t * HEADS], &there)?);
    let back = Arc::new(Routes::new([t * HEADS, t], &back)?);
    let gates = vec![0.7; there.num_pairs()];
    let gates = x.tape().constant([there.num_pairs()], &gates)?;
    let heads = x.routed_linear(&model.named("into"), &there, Some(&gates), None)?;
    heads.routed_linear(&model.named("out"), &back, Some(&gates), Some(x))
}

fn model() -> Model {
    Model::drawn(&[
        ("table", [40, 160].into()),
        ("into", [6, 160, A].into()),
        ("out", [6, A, 160].into()),
        ("queries", [160, D].into()),
        ("back", [D, 160].into()),
        ("distances", [131, D].into()),
        ("scale", [1].into()),
    ])
}

#[test]
fn a_token_has_the_bits_it_has_among_others() {
    let model = model();
    assert_rows_do_not_depend_on_others("routed_linear", &model, &[160], |x, rows| {
        through_heads(&model, x, rows)
    });
}

fn gradients(model: &Model, precision: Precision) -> Result<Vec<u32>> {
    let pool = Pool::new();
    let tape = Tape::recording(&model.params, &pool);
    tape.compute_in(precision);
    let (b, l) = (11, 131);
    let ids: Vec<u32> = (0..b * l).map(|i| (i * i % 37) as u32).collect();
    let x = tape.embedding(&model.named("table"), &ids)?;
    let x = through_heads(model, &x, 0..b * l)?;
    let q = x.linear(sparsely_tensor::Activation::Identity, &model.named("queries"), None, None)?;
    let q = q.scaled(&model.named("scale"))?.reshape([b, l, D])?;
    let before = tape.constant([b, 1, D], &uniform(b * D, 3))?;
    let distances = tape.param(&model.named("distances"));
    // A distance more than the table has would be that of the first key.
    let distances = distances.reshape([1, 131, D])?;
    let first = tape.constant([1, 1, D], &uniform(D, 4))?;
    let distances = first.append(&distances)?.reshape([132, D])?;
    let y = attend(&q, &before, &distances)?.reshape([b * l, D])?;
    let y = y.linear(sparsely_tensor::Activation::Identity, &model.named("back"), None, None)?;
    let loss = y.token_cross_entropy(&ids)?;
    let m = y.softmax().sum_groups(b * l)?.negative_entropy(b * l);
    let loss = tape.weighted_sum(&[(loss, 1.0), (m, 0.1)])?;
    let mut grads = Slab::zeros(model.params.layout().clone());
    tape.backward(&loss, &mut grads)?;
    Ok(bits(grads.values()))
}

#[test]
fn gradients_have_the_same_bits_on_any_number_of_threads() {
    let model = model();
    for precision in PRECISIONS {
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| gradients(&model, precision)).unwrap()
        };
        let one = on(1);
        let moved = one.iter().filter(|bits| f32::from_bits(**bits).abs() > 1e-9).count();
        assert!(moved > one.len() / 2, "{moved} of {} have a gradient", one.len());
        for threads in [2, 3, 3] {
            assert!(on(threads) == one, "{threads} threads, {precision:?}");
        }
    }
}
