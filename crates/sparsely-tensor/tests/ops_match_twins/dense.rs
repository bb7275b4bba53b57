//! Linear layers, activations and normalisations.

use super::*;
use crate::twins::dense;
use crate::twins::norm::{HeadNorm, LayerNorm};

fn linear(act: Activation, [r, i, o]: [usize; 3], has_bias: bool, has_residual: bool, seed: u64) {
    let inputs = vec![
        Input::value([r, i], seed),
        Input::named([i, o], seed + 1),
        Input::named([o], seed + 2).if_present(has_bias),
        Input::value([r, o], seed + 3).if_present(has_residual),
    ];
    check(&dense::Linear { act, i, o }, seed, inputs, |vars, names| {
        vars[0].linear(
            act,
            &names[1],
            has_bias.then_some(&names[2]),
            has_residual.then_some(&vars[3]),
        )
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn linear_of_any_shape(
        act in activations(), r in rows(), i in widths(), o in widths(),
        has_bias: bool, has_residual: bool, seed: u32,
    ) {
        linear(act, [r, i, o], has_bias, has_residual, seed.into());
    }

    #[test]
    fn activation(act in activations(), r in rows(), d in widths(), seed: u32) {
        let inputs = vec![Input::value([r, d], seed.into())];
        check(&dense::Activation(act), seed.into(), inputs, |vars, _| Ok(vars[0].activation(act)));
    }

    #[test]
    fn layer_norm(r in rows(), d in widths(), has_bias: bool, seed: u32) {
        let (eps, scale) = eps_and_scale(d);
        let twin = LayerNorm { d, eps: eps.into() };
        let seed = seed.into();
        let inputs = vec![
            Input::value([r, d], seed),
            Input::named([d], seed + 1),
            Input::named([d], seed + 2).if_present(has_bias),
        ];
        Case { twin: &twin, inputs, seed, scale }.check(|vars, names| {
            vars[0].layer_norm(&names[1], has_bias.then_some(&names[2]), eps)
        });
    }

    #[test]
    fn head_norm(r in rows(), heads in 1_usize..5, a in 1_usize..20, scales in 1_usize..4, seed: u32) {
        let (eps, scale) = eps_and_scale(a);
        let twin = HeadNorm { heads, a, parts: 3, eps: eps.into() };
        let seed = seed.into();
        let mut inputs = vec![Input::value([r, 3 * heads * a], seed)];
        inputs.extend((0..scales as u64).map(|i| Input::named([a], seed + 1 + i)));
        Case { twin: &twin, inputs, seed, scale }.check(|vars, names| {
            let scales: Vec<&Param> = names[1..].iter().collect();
            vars[0].head_norm(heads, &scales, eps)
        });
    }
}

/// Few elements may be nearly equal; then 1/σ is large, at most 1/√eps, and multiplies terms that
/// cancel (of a single element, all of them). Many never are, and eps hardly matters.
fn eps_and_scale(d: usize) -> (f32, f64) {
    if d < 8 { (1e-2, 10.0) } else { (1e-6, 1.0) }
}

#[test]
fn one_scale_for_queries_and_keys_gets_both_gradients() {
    // A parameter that is named twice: its gradient is the sum of those of two that are equal.
    let (heads, a) = (2, 8);
    let twin = HeadNorm { heads, a, parts: 3, eps: 1e-6 };
    let x = Input::value([5, 3 * heads * a], 1);
    let scale = uniform(a, 2);
    let inputs = [wide(&x.values), wide(&scale), wide(&scale)];
    let dy = uniform(x.values.len(), 3);
    let grads = crate::twins::Twin::<f64>::backward(&twin, &inputs, &wide(&dy));
    let want: Vec<f64> = grads[1].iter().zip(&grads[2]).map(|(q, k)| q + k).collect();

    let mut layout = Layout::default();
    let name = layout.add("scale", [a], 0.0);
    let mut params = Slab::zeros(Arc::new(layout));
    params.view_mut(&name).copy_from_slice(&scale);
    let pool = Pool::new();
    let tape = Tape::recording(&params, &pool);
    let y =
        tape.constant(x.shape, &x.values).unwrap().head_norm(heads, &[&name, &name], 1e-6).unwrap();
    let mut slab = Slab::zeros(params.layout().clone());
    tape.backward(&y.dot_constant(&wide(&dy)).unwrap(), &mut slab).unwrap();
    for (got, want) in slab.view(&name).iter().zip(want) {
        assert!((f64::from(*got) - want).abs() < ALLOWED * 10.0);
    }
}

#[test]
fn linear_beyond_every_block() {
    for act in [Activation::Identity, Activation::Gelu] {
        // More rows than a chunk, weights of more than one tile or panel, odd everything.
        linear(act, [1031, 103, 211], true, true, 5);
        linear(act, [131, 311, 97], false, false, 6);
    }
}

#[test]
fn linear_of_one_row() {
    for (i, o) in [(1, 1), (1, 300), (300, 1), (257, 259)] {
        for act in [Activation::Identity, Activation::Gelu, Activation::Tanh] {
            linear(act, [1, i, o], true, true, 7);
        }
    }
}

#[test]
fn linear_of_no_rows() {
    linear(Activation::Identity, [0, 5, 3], true, true, 8);
    linear(Activation::Gelu, [0, 5, 3], true, false, 9);
}

#[test]
fn gelu_and_tanh_far_from_zero_are_straight() {
    // Slopes of GELU are 0 and 1 there; x·(1 − t²) must not bring the rounding of t back.
    let mut layout = Layout::default();
    let name = layout.add("x", [6], 0.0);
    let mut params = Slab::zeros(Arc::new(layout));
    params.view_mut(&name).copy_from_slice(&[-3e4, -100.0, -12.0, 12.0, 100.0, 3e4]);
    for (act, want) in
        [(Activation::Gelu, [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]), (Activation::Tanh, [0.0; 6])]
    {
        let pool = Pool::new();
        let tape = Tape::recording(&params, &pool);
        let loss = tape.param(&name).activation(act).dot_constant(&[1.0; 6]).unwrap();
        let mut grads = Slab::zeros(params.layout().clone());
        tape.backward(&loss, &mut grads).unwrap();
        for (got, want) in grads.view(&name).iter().zip(want) {
            assert!((got - want).abs() < 1e-4, "{act:?}: {:?}", grads.view(&name));
        }
    }
}
