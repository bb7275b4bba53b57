//! What is kept for the way back: values that products round are kept rounded.

use super::{Model, bits};
use sparsely_tensor::{Activation, GroupedWeights, Pool, Precision, RowGroups, Slab, Tape, Var};
use std::sync::Arc;

const WIDTH: usize = 24;

fn model(rows: usize) -> Model {
    Model::drawn(&[
        ("x", [2, rows / 2, WIDTH].into()),
        ("scale", [WIDTH].into()),
        ("w", [WIDTH, 40].into()),
        ("b", [40].into()),
        ("back", [40, WIDTH].into()),
        ("experts", [2, WIDTH, 40].into()),
        ("wide", [WIDTH, 2100].into()),
        ("wide_b", [2100].into()),
    ])
}

/// Gradients in bf16 of all parameters through one operation on x; another may keep x in f32, and give no gradient.
fn gradients(
    model: &Model,
    keeps_f32: bool,
    op: impl for<'t> Fn(&Var<'t>) -> sparsely_tensor::Result<Var<'t>>,
) -> Vec<u32> {
    let pool = Pool::new();
    let tape = Tape::recording(&model.params, &pool);
    tape.compute_in(Precision::Bf16);
    let x = tape.param(&model.named("x"));
    let _other = keeps_f32.then(|| x.activation(Activation::Tanh));
    let y = op(&x).unwrap();
    let weights: Vec<f64> = (0..y.shape().len()).map(|i| (i as f64).sin()).collect();
    let mut grads = Slab::zeros(model.params.layout().clone());
    tape.backward(&y.dot_constant(&weights).unwrap(), &mut grads).unwrap();
    bits(grads.values())
}

/// Two experts of which one has few rows.
fn routed<'t>(
    model: &Model,
    tape: &'t Tape<'t>,
    rows: usize,
) -> (GroupedWeights, Arc<RowGroups>, Var<'t>) {
    let all: Vec<u32> = (0..rows as u32).collect();
    let few = 7.min(rows / 2);
    let groups = RowGroups::new(rows, &[all[..few].to_vec(), all[few..].to_vec()]).unwrap();
    let gates: Vec<f32> = (0..rows).map(|i| (i as f32).cos()).collect();
    let gates = tape.constant([rows], &gates).unwrap();
    (GroupedWeights { w: model.named("experts"), b: None }, Arc::new(groups), gates)
}

/// Where it may be shared with another step it gives the same bits; elsewhere it is not. Few rows and many, alone and in
/// pieces.
#[test]
fn gradients_do_not_depend_on_what_others_keep() {
    for rows in [6, 300, 2100] {
        let model = model(rows);
        let (w, b) = (model.named("w"), model.named("b"));
        for act in [Activation::Identity, Activation::Gelu] {
            let linear = |keeps| gradients(&model, keeps, |x| x.linear(act, &w, Some(&b), None));
            assert!(linear(true) == linear(false), "linear of {act:?}, {rows} rows");
            let experts = |keeps| {
                gradients(&model, keeps, |x| {
                    let (weights, groups, gates) = routed(&model, x.tape(), rows);
                    x.reshape([rows, WIDTH])?.scatter_linear(act, &weights, &groups, &gates, None)
                })
            };
            assert!(experts(true) == experts(false), "experts of {act:?}, {rows} rows");
        }
        let attention = |keeps| gradients(&model, keeps, |x| x.self_attention(2));
        assert!(attention(true) == attention(false), "attention, {rows} rows");
    }
}

/// Bytes that are in use when nobody holds an input or an output of `op` any more.
fn kept_bytes(
    precision: Precision,
    tape: &Tape<'_>,
    pool: &Pool,
    op: impl for<'t> Fn(&Var<'t>),
) -> usize {
    tape.compute_in(precision);
    let before = pool.used_bytes();
    op(&tape.constant([600, WIDTH], &[0.5; 600 * WIDTH]).unwrap());
    pool.used_bytes() - before
}

#[test]
fn what_products_round_is_kept_once_in_half_the_bytes() {
    let (model, pool) = (model(600), Pool::new());
    let (w, all) = (model.named("w"), 600 * WIDTH);
    let gelu = |x: &Var<'_>| drop(x.linear(Activation::Gelu, &w, None, None).unwrap());
    let twice = |x: &Var<'_>| {
        drop(x.linear(Activation::Identity, &w, None, None).unwrap());
        drop(x.linear(Activation::Gelu, &w, None, None).unwrap());
    };
    let routed = |x: &Var<'_>| {
        drop(x.linear_f32(&w, None).unwrap());
        drop(x.linear(Activation::Identity, &w, None, None).unwrap());
    };
    let tape = Tape::recording(&model.params, &pool);
    for op in [&gelu as &dyn for<'t> Fn(&Var<'t>), &twice] {
        assert_eq!(kept_bytes(Precision::F32, &tape, &pool, op), 4 * all);
        assert_eq!(kept_bytes(Precision::Bf16, &tape, &pool, op), 2 * all);
    }
    // What a router keeps in f32 serves the product too.
    assert_eq!(kept_bytes(Precision::Bf16, &tape, &pool, routed), 4 * all);
    let tape = Tape::inference(&model.params, &pool);
    assert_eq!(kept_bytes(Precision::Bf16, &tape, &pool, twice), 0);
}

#[test]
fn what_experts_read_last_is_kept_in_half_the_bytes() {
    let (model, pool) = (model(600), Pool::new());
    let tape = Tape::recording(&model.params, &pool);
    let scatter = |z: &Var<'_>| {
        let (weights, groups, gates) = routed(&model, z.tape(), 600);
        drop(z.scatter_linear(Activation::Gelu, &weights, &groups, &gates, None).unwrap());
    };
    let gates = 4 * 600;
    assert_eq!(kept_bytes(Precision::F32, &tape, &pool, scatter), 4 * 600 * WIDTH + gates);
    assert_eq!(kept_bytes(Precision::Bf16, &tape, &pool, scatter), 2 * 600 * WIDTH + gates);
}

/// What only products read is the rounded value of what others read, and takes half the bytes; whoever else reads it finds
/// it in f32, once.
#[test]
fn what_only_products_read_is_stored_rounded() {
    let (model, pool) = (model(600), Pool::new());
    let (w, b, scale) = (model.named("w"), model.named("b"), model.named("scale"));
    let values: Vec<f32> = (0..600 * WIDTH).map(|i| (i as f32).sin()).collect();
    for (precision, bytes) in [(Precision::F32, 4), (Precision::Bf16, 2)] {
        let tape = Tape::inference(&model.params, &pool);
        tape.compute_in(precision);
        let x = tape.constant([600, WIDTH], &values).unwrap();
        let before = pool.used_bytes();
        let rounded = [
            x.linear_rounded(Activation::Identity, &w, Some(&b)).unwrap(),
            x.layer_norm_rounded(&scale, None, 1e-6).unwrap(),
        ];
        // Beside the mean and deviation of each row, which nobody keeps.
        assert_eq!(pool.used_bytes() - before, bytes * 600 * (40 + WIDTH));
        let plain = [
            x.linear(Activation::Identity, &w, Some(&b), None).unwrap(),
            x.layer_norm(&scale, None, 1e-6).unwrap(),
        ];
        for (rounded, plain) in rounded.iter().zip(&plain) {
            let want = match precision {
                Precision::F32 => bits(plain.values()),
                Precision::Bf16 => bits(plain.round_bf16().values()),
            };
            assert!(bits(rounded.values()) == want, "{precision:?}");
            let before = pool.used_bytes();
            let again = rounded.reshape([2, 300, want.len() / 600]).unwrap();
            assert!(bits(again.values()) == want, "{precision:?}, reshaped");
            assert_eq!(pool.used_bytes(), before, "one copy in f32");
        }
        // Columns of a wide output are rounded piece by piece.
        let wide = [model.named("wide"), model.named("wide_b")];
        let own = x.linear_rounded(Activation::Identity, &wide[0], Some(&wide[1])).unwrap();
        let want = x.linear(Activation::Identity, &wide[0], Some(&wide[1]), None).unwrap();
        let want = if precision == Precision::Bf16 { want.round_bf16() } else { want };
        assert!(bits(own.values()) == bits(want.values()), "wide, {precision:?}");
        // A product in f32 and an activation read the same values.
        let [z, _] = &rounded;
        let copy = tape.constant(z.shape(), z.values()).unwrap();
        let v = model.named("back");
        let [own, want] = [z, &copy].map(|z| bits(z.linear_f32(&v, None).unwrap().values()));
        assert!(own == want, "a product in f32, {precision:?}");
        let [own, want] = [z, &copy].map(|z| bits(z.activation(Activation::Gelu).values()));
        assert!(own == want, "an activation, {precision:?}");
    }
}

/// A product gives such a value its gradient rounded, as the step before it reads it; what others give is added in f32,
/// whoever comes first.
#[test]
fn gradients_of_rounded_values_add_up() {
    let floats = |bits: Vec<u32>| bits.into_iter().map(f32::from_bits).map(f64::from);
    for rows in [6, 300, 2100] {
        let model = model(rows);
        let (w, v) = (model.named("w"), model.named("back"));
        let sum_of_two = |rounds: bool, turns: bool| {
            gradients(&model, false, |x| {
                let z = match rounds {
                    true => x.linear_rounded(Activation::Identity, &w, None)?,
                    false => x.linear(Activation::Identity, &w, None, None)?.round_bf16(),
                };
                let product = || z.linear(Activation::Gelu, &v, None, None);
                let other =
                    || z.activation(Activation::Tanh).linear(Activation::Identity, &v, None, None);
                // The last reader's gradient comes first.
                let (first, last) =
                    if turns { (other()?, product()?) } else { (product()?, other()?) };
                first.add(&last)
            })
        };
        for turns in [false, true] {
            let [own, want] = [true, false].map(|rounds| floats(sum_of_two(rounds, turns)));
            let (mut error, mut size) = (0.0, 0.0);
            for (own, want) in own.zip(want) {
                error += (own - want).powi(2);
                size += want.powi(2);
            }
            assert!(size > 0.0 && error.sqrt() < size.sqrt() / 256.0, "{rows} rows, {turns}");
        }
    }
}

/// The way back has factors and slopes at the rounded values either way, so it has the same bits.
#[test]
fn gradients_do_not_depend_on_who_rounds() {
    for rows in [6, 300, 2100] {
        let model = model(rows);
        let (w, v, scale) = (model.named("w"), model.named("back"), model.named("scale"));
        let by_the_reader = gradients(&model, false, |x| {
            let h = x.layer_norm(&scale, None, 1e-6)?;
            let z = h.linear(Activation::Identity, &w, None, None)?;
            z.linear(Activation::Gelu, &v, None, None)
        });
        let by_the_writer = gradients(&model, false, |x| {
            let h = x.layer_norm_rounded(&scale, None, 1e-6)?;
            let z = h.linear_rounded(Activation::Identity, &w, None)?;
            z.linear(Activation::Gelu, &v, None, None)
        });
        assert!(by_the_writer == by_the_reader, "{rows} rows");
        // Rounding keeps the sign, and so ReLU's slope.
        let activated = |rounds: bool| {
            gradients(&model, false, |x| {
                let z = match rounds {
                    true => x.linear_rounded(Activation::Identity, &w, None)?,
                    false => x.linear(Activation::Identity, &w, None, None)?,
                };
                Ok(z.activation(Activation::Relu))
            })
        };
        assert!(activated(true) == activated(false), "an activation, {rows} rows");
    }
}
