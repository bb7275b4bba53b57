//! Masked attention, rotation, routed products, embeddings, token losses.

use super::*;
use crate::draw::{generator, row_groups};
use crate::twins::language::{
    Append, Embedding, MaskedAttention, NegativeEntropy, Rotary, RoutedLinear, Scaled,
    TokenCrossEntropy,
};
use rand::Rng;
use sparsely_tensor::{Attention, AttentionMask, Distances, Routes};

/// What a random mask removes.
fn removed(len: usize, share: f64, seed: u64) -> Vec<bool> {
    let mut rng = generator(seed);
    (0..len).map(|_| rng.random_bool(share)).collect()
}

/// Some attention of these sizes: `masks` is causal, keys, pairs, distances, by bit.
fn attention([b, q, l, heads, shared_by, a]: [usize; 6], masks: u8, seed: u64) -> MaskedAttention {
    let offset = l.saturating_sub(q);
    let (is_causal, has_distances) = (masks & 1 > 0, masks & 8 > 0);
    let ahead = if is_causal { 0 } else { l - 1 - offset.min(l - 1) };
    let zero = offset + q - 1 + (seed % 3) as usize;
    let pairs = q.min(l);
    MaskedAttention {
        b,
        q,
        l,
        heads,
        shared_by,
        a,
        scale: 0.4,
        offset,
        is_causal,
        removed_keys: if masks & 2 > 0 { removed(b * l, 0.3, seed) } else { Vec::new() },
        removed_pairs: if masks & 4 > 0 { removed(q * pairs, 0.3, seed + 1) } else { Vec::new() },
        distances: has_distances.then_some([zero, zero + ahead + 1 + (seed % 2) as usize]),
    }
}

fn check_attention(twin: &MaskedAttention, seed: u64) {
    let &MaskedAttention { b, q, l, heads, shared_by, a, .. } = twin;
    let shape = [b, q, heads * shared_by * a];
    let mut inputs = vec![
        Input::value(shape, seed),
        Input::value([b, l, heads * a], seed + 1),
        Input::value([b, l, heads * a], seed + 2),
    ];
    if let Some([_, rows]) = twin.distances {
        inputs.push(Input::value(shape, seed + 3));
        inputs.push(Input::value([rows, heads * a], seed + 4));
    }
    let some = |removed: &Vec<bool>| (!removed.is_empty()).then(|| Arc::new(removed.clone()));
    let mask = AttentionMask {
        is_causal: twin.is_causal,
        keys: some(&twin.removed_keys),
        pairs: some(&twin.removed_pairs),
    };
    check(twin, seed, inputs, |vars, _| {
        let distances =
            twin.distances.map(|[zero, _]| Distances { queries: &vars[3], keys: &vars[4], zero });
        let (scale, offset) = (twin.scale as f32, twin.offset);
        let settings = Attention { head_width: a, scale, offset, mask: &mask, distances };
        vars[0].masked_attention(&vars[1], &vars[2], &settings)
    });
}

/// Ascending pairs: entries of random groups, from their row to a row of their own or of another list.
fn routes(num_from: usize, num_to: usize, groups: usize, seed: u64) -> Vec<Vec<(u32, u32)>> {
    let from = row_groups(num_from, groups, seed);
    let mut rng = generator(seed + 9);
    let of_group = |mut rows: Vec<u32>| {
        rows.sort_unstable();
        let mut to: Vec<u32> = rows.iter().map(|_| rng.random_range(0..num_to as u32)).collect();
        to.sort_unstable();
        rows.into_iter().zip(to).collect()
    };
    from.into_iter().map(of_group).collect()
}

fn routed(
    [num_from, num_to, i, o]: [usize; 4],
    groups: Vec<Vec<(u32, u32)>>,
    [has_gates, has_residual]: [bool; 2],
    seed: u64,
) {
    let routes = Arc::new(Routes::new([num_from, num_to], &groups).unwrap());
    let n = routes.num_pairs();
    let mut gates = Input::value([n], seed + 2);
    if !has_gates {
        gates = Input { role: Role::Absent, shape: [n].into(), values: vec![1.0; n] };
    }
    let inputs = vec![
        Input::value([num_from, i], seed),
        Input::named([groups.len(), i, o], seed + 1),
        gates,
        Input::value([num_to, o], seed + 3).if_present(has_residual),
    ];
    check(&RoutedLinear { groups, i, o }, seed, inputs, |vars, names| {
        let (gates, residual) = (has_gates.then_some(&vars[2]), has_residual.then_some(&vars[3]));
        vars[0].routed_linear(&names[1], &routes, gates, residual)
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn masked_attention_of_any_shape(
        b in 1_usize..4, q in 1_usize..20, more in 0_usize..20, heads in 1_usize..4, shared_by in 1_usize..4,
        a in 1_usize..10, masks in 0_u8..16, seed: u32,
    ) {
        let seed = seed.into();
        check_attention(&attention([b, q, q + more, heads, shared_by, a], masks, seed), seed);
    }

    #[test]
    fn rotary_of_any_shape(
        b in 1_usize..4, l in 1_usize..9, heads in 1_usize..4, a in 1_usize..12, half in 0_usize..6,
        first in 0_usize..40, seed: u32,
    ) {
        let channels = (2 * half).min(a / 2 * 2);
        let inputs = vec![Input::value([b, l, heads * a], seed.into())];
        let rotary = sparsely_tensor::Rotary { head_width: a, channels, first, base: 1e4 };
        check(&Rotary { l, heads, a, channels, first }, seed.into(), inputs, |vars, _| {
            vars[0].rotary(&rotary)
        });
    }

    #[test]
    fn routed_linear_of_any_routes(
        from in rows(), to in rows(), groups in 1_usize..6, i in widths(), o in widths(),
        has_gates: bool, has_residual: bool, seed: u32,
    ) {
        let seed = seed.into();
        let groups = routes(from, to, groups, seed);
        routed([from, to, i, o], groups, [has_gates, has_residual], seed);
    }

    #[test]
    fn embedding(v in 1_usize..30, d in widths(), t in 1_usize..80, seed: u32) {
        let mut rng = generator(seed.into());
        let indices: Vec<u32> = (0..t).map(|_| rng.random_range(0..v as u32)).collect();
        let inputs = vec![Input::named([v, d], seed.into())];
        let twin = Embedding { indices: indices.clone(), d };
        check(&twin, seed.into(), inputs, |vars, names| vars_tape(vars).embedding(&names[0], &indices));
    }

    #[test]
    fn token_cross_entropy(t in rows(), v in widths(), seed: u32) {
        let mut rng = generator(seed.into());
        let targets: Vec<u32> = (0..t).map(|_| rng.random_range(0..v as u32)).collect();
        let inputs = vec![Input::value([t, v], seed.into())];
        let twin = TokenCrossEntropy { targets: targets.clone(), v };
        check(&twin, seed.into(), inputs, |vars, _| vars[0].token_cross_entropy(&targets));
    }

    #[test]
    fn scaled(r in rows(), d in widths(), seed: u32) {
        let inputs = vec![Input::value([r, d], seed.into()), Input::named([1], seed.into())];
        check(&Scaled, seed.into(), inputs, |vars, names| vars[0].scaled(&names[1]));
    }

    #[test]
    fn append(b in 1_usize..5, l in 1_usize..9, m in 1_usize..9, d in widths(), seed: u32) {
        let inputs = vec![Input::value([b, l, d], seed.into()), Input::value([b, m, d], 1)];
        check(&Append { l, m, d }, seed.into(), inputs, |vars, _| vars[0].append(&vars[1]));
    }

    #[test]
    fn negative_entropy(e in 1_usize..40, count in 1_usize..900, seed: u32) {
        let mut input = Input::value([1, e], seed.into());
        input.values.iter_mut().for_each(|x| *x = (x.abs() + 0.1) * count as f32);
        check(&NegativeEntropy { count }, seed.into(), vec![input], |vars, _| {
            Ok(vars[0].negative_entropy(count))
        });
    }
}

fn vars_tape<'t>(vars: &[Var<'t>]) -> &'t Tape<'t> {
    vars[0].tape()
}

#[test]
fn attention_beyond_a_block_of_queries() {
    for masks in [0, 1, 8, 9, 15] {
        // More than two blocks of queries, more sequences than partial sums.
        check_attention(&attention([1, 131, 150, 2, 2, 3], masks, 1), 1);
        check_attention(&attention([11, 3, 5, 1, 2, 4], masks, 2), 2);
        check_attention(&attention([1, 1, 257, 3, 1, 16], masks, 3), 3);
    }
}

#[test]
fn a_query_without_a_key_gets_nothing() {
    let twin = MaskedAttention {
        removed_keys: vec![true, true, false, true, true, true],
        ..attention([2, 3, 3, 1, 1, 2], 1, 5)
    };
    check_attention(&twin, 5);
}

#[test]
fn queries_that_are_those_of_the_distances_gather_both_gradients() {
    // d(q·k + q·p)/dq = k + p: as if the two were apart, and summed.
    let twin = attention([2, 9, 12, 2, 1, 4], 9, 7);
    let lens = twin.lens();
    let mut layout = Layout::default();
    let param = layout.add("q", [2, 9, 8], 0.0);
    let mut params = Slab::zeros(Arc::new(layout));
    params.view_mut(&param).copy_from_slice(&uniform(lens[0], 1));
    let (k, v, keys) = (uniform(lens[1], 2), uniform(lens[2], 3), uniform(lens[4], 4));
    let pool = Pool::new();
    let mask = AttentionMask { is_causal: true, ..AttentionMask::default() };
    let dy = uniform(lens[0], 5);
    let gradient = |is_one: bool| {
        let tape = Tape::recording(&params, &pool);
        let q = tape.param(&param);
        let own = if is_one { q.clone() } else { q.add_constant(&vec![0.0; lens[0]]).unwrap() };
        let [k, v] = [&k, &v].map(|x| tape.constant([2, 12, 8], x).unwrap());
        let keys = tape.constant([lens[4] / 8, 8], &keys).unwrap();
        let zero = twin.distances.unwrap()[0];
        let distances = Some(Distances { queries: &own, keys: &keys, zero });
        let settings = Attention { head_width: 4, scale: 0.4, offset: 3, mask: &mask, distances };
        let y = q.masked_attention(&k, &v, &settings).unwrap();
        let mut grads = Slab::zeros(params.layout().clone());
        tape.backward(&y.dot_constant(&wide(&dy)).unwrap(), &mut grads).unwrap();
        grads.view(&param).to_vec()
    };
    let wide_gradient = wide(&gradient(false));
    assert_close(&gradient(true), &wide_gradient, 1.0, "one or two");
}

#[test]
fn routes_beyond_every_block() {
    // 1200 tokens, two heads of three experts, two chosen: into heads and back.
    let mut there = vec![Vec::new(); 6];
    for row in 0..2400_u32 {
        for expert in [row % 3, (row + 1) % 3] {
            there[(row % 2 * 3 + expert) as usize].push((row / 2, row));
        }
    }
    let back: Vec<Vec<(u32, u32)>> =
        there.iter().map(|own| own.iter().map(|(a, b)| (*b, *a)).collect()).collect();
    routed([1200, 2400, 300, 20], there, [true, false], 1);
    routed([2400, 1200, 20, 300], back, [true, true], 2);
    routed([4, 4, 3, 2], vec![vec![], vec![]], [true, false], 3);
}
