//! Softmax and attention.

use super::*;
use crate::twins::attention::{CrossAttention, SelfAttention, Softmax};

fn self_attention([b, l, heads, a]: [usize; 4], seed: u64) {
    let inputs = vec![Input::value([b, l, 3 * heads * a], seed)];
    check(&SelfAttention { b, l, heads, a }, seed, inputs, |vars, _| vars[0].self_attention(heads));
}

fn cross_attention([b, q, l, heads, a]: [usize; 5], seed: u64) {
    let inputs =
        vec![Input::value([b, q, heads * a], seed), Input::value([b, l, 2 * heads * a], seed + 1)];
    check(&CrossAttention { b, q, l, heads, a }, seed, inputs, |vars, _| {
        vars[0].cross_attention(&vars[1], heads)
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn softmax(r in rows(), d in widths(), seed: u32) {
        let inputs = vec![Input::value([r, d], seed.into())];
        check(&Softmax { d }, seed.into(), inputs, |vars, _| Ok(vars[0].softmax()));
    }

    #[test]
    fn self_attention_of_any_shape(
        b in 1_usize..4, l in 1_usize..30, heads in 1_usize..6, a in 1_usize..20, seed: u32,
    ) {
        self_attention([b, l, heads, a], seed.into());
    }

    #[test]
    fn cross_attention_of_any_shape(
        b in 1_usize..4, q in 1_usize..20, l in 1_usize..20, heads in 1_usize..6, a in 1_usize..20, seed: u32,
    ) {
        cross_attention([b, q, l, heads, a], seed.into());
    }
}

#[test]
fn attention_of_long_sequences() {
    self_attention([1, 131, 2, 33], 1);
    cross_attention([1, 1, 257, 3, 16], 2);
    cross_attention([1, 130, 3, 1, 64], 3);
    cross_attention([5, 1, 1, 1, 1], 4);
}
