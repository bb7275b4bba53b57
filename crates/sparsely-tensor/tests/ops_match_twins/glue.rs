//! Operations along tokens, sums, picks and task losses.

use super::*;
use crate::twins::scalar::{CrossEntropy, DotConstant, Pick, WeightedSum};
use crate::twins::tokens::{AddRepeated, MeanTokens, Prepend, Repeat, SelectToken};
use sparsely_tensor::CrossEntropy as Kind;

/// Batches: also beyond a block of the sums over rows.
fn batches() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 1_usize..6, 1 => 257_usize..300]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn prepend(b in batches(), l in 1_usize..9, d in widths(), seed: u32) {
        let inputs = vec![Input::value([b, l, d], seed.into()), Input::named([d], 1)];
        check(&Prepend { l, d }, seed.into(), inputs, |vars, names| vars[0].prepend(&names[1]));
    }

    #[test]
    fn add_positions(b in batches(), l in 1_usize..9, d in widths(), seed: u32) {
        let inputs = vec![Input::value([b, l, d], seed.into()), Input::named([l, d], 1)];
        check(&AddRepeated, seed.into(), inputs, |vars, names| vars[0].add_positions(&names[1]));
    }

    #[test]
    fn add_constant(b in batches(), l in 1_usize..9, d in widths(), seed: u32) {
        let constant = uniform(l * d, 2);
        let mut inputs = vec![Input::value([b, l, d], seed.into())];
        inputs.push(Input { role: Role::Absent, shape: [l, d].into(), values: constant.clone() });
        check(&AddRepeated, seed.into(), inputs, |vars, _| vars[0].add_constant(&constant));
    }

    #[test]
    fn add(r in rows(), d in widths(), seed: u32) {
        let inputs = vec![Input::value([r, d], seed.into()), Input::value([r, d], 1)];
        check(&AddRepeated, seed.into(), inputs, |vars, _| vars[0].add(&vars[1]));
    }

    #[test]
    fn repeat(b in batches(), l in 1_usize..9, d in widths(), seed: u32) {
        let inputs = vec![Input::value([l, d], seed.into())];
        check(&Repeat { times: b }, seed.into(), inputs, |vars, _| vars[0].repeat(b));
    }

    #[test]
    fn select_token(b in batches(), l in 1_usize..9, d in widths(), index in 0_usize..9, seed: u32) {
        let index = index % l;
        let inputs = vec![Input::value([b, l, d], seed.into())];
        check(&SelectToken { l, d, index }, seed.into(), inputs, |vars, _| vars[0].select_token(index));
    }

    #[test]
    fn mean_tokens(b in batches(), l in 1_usize..70, d in widths(), seed: u32) {
        let inputs = vec![Input::value([b, l, d], seed.into())];
        check(&MeanTokens { l, d }, seed.into(), inputs, |vars, _| vars[0].mean_tokens());
    }

    #[test]
    fn pick(len in 1_usize..60, picks in prop::collection::vec(0_usize..100, 0..90), seed: u32) {
        let indices: Vec<u32> = picks.iter().map(|i| (i % len) as u32).collect();
        let shared = Arc::new(indices.clone());
        let inputs = vec![Input::value([len], seed.into())];
        check(&Pick { indices }, seed.into(), inputs, |vars, _| vars[0].pick(&shared));
    }

    #[test]
    fn weighted_sum(weights in prop::collection::vec(-2.0_f32..2.0, 1..9), seed: u32) {
        let inputs = (0..weights.len() as u64).map(|i| Input::value([1], i * 9 + u64::from(seed)));
        let inputs = inputs.collect();
        check(&WeightedSum { weights: weights.clone() }, seed.into(), inputs, |vars, _| {
            let terms: Vec<_> = vars.iter().cloned().zip(weights.iter().copied()).collect();
            vars[0].tape().weighted_sum(&terms)
        });
    }

    #[test]
    fn dot_constant(r in rows(), d in widths(), seed: u32) {
        let coefficients = wide(&uniform(r * d, 3));
        let inputs = vec![Input::value([r, d], seed.into())];
        check(&DotConstant { coefficients: coefficients.clone() }, seed.into(), inputs, |vars, _| {
            vars[0].dot_constant(&coefficients)
        });
    }

    #[test]
    fn cross_entropy(sigmoid: bool, b in rows(), v in widths(), seed: u32) {
        let kind = if sigmoid { Kind::Sigmoid } else { Kind::Softmax };
        // Probabilities that need not sum to 1, as smoothed and mixed labels do not.
        let targets: Vec<f32> = uniform(b * v, 4).iter().map(|t| t.abs() / 1.5).collect();
        let inputs = vec![Input::value([b, v], seed.into())];
        let twin = CrossEntropy { kind, v, targets: targets.clone() };
        check(&twin, seed.into(), inputs, |vars, _| vars[0].cross_entropy(kind, &targets));
    }
}

#[test]
fn a_value_added_to_itself_gets_both_gradients() {
    let mut layout = Layout::default();
    let x = layout.add("x", [2], 0.0);
    let params = Slab::zeros(Arc::new(layout));
    let pool = Pool::new();
    let tape = Tape::recording(&params, &pool);
    let var = tape.param(&x);
    let loss = var.add(&var).unwrap().dot_constant(&[1.0, 3.0]).unwrap();
    let mut grads = Slab::zeros(params.layout().clone());
    tape.backward(&loss, &mut grads).unwrap();
    assert_eq!(grads.view(&x), &[2.0, 6.0]);
}

#[test]
fn large_logits_have_finite_losses() {
    // Softmax: log(1 + e⁻²⁰⁰⁰) = 0 for the right class, 2000 for the wrong one.
    let params = Slab::zeros(Arc::new(Layout::default()));
    let pool = Pool::new();
    let tape = Tape::inference(&params, &pool);
    let logits = tape.constant([1, 2], &[1000.0, -1000.0]).unwrap();
    let loss = |kind, targets: &[f32]| logits.cross_entropy(kind, targets).unwrap().values()[0];
    assert_eq!(loss(Kind::Softmax, &[1.0, 0.0]), 0.0);
    assert_eq!(loss(Kind::Softmax, &[0.0, 1.0]), 2000.0);
    assert_eq!(loss(Kind::Sigmoid, &[1.0, 0.0]), 0.0);
    assert_eq!(loss(Kind::Sigmoid, &[0.0, 1.0]), 2000.0);
    assert_eq!(logits.softmax().values(), &[1.0, 0.0]);
}
