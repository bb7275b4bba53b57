//! The same bits from any number of threads, and for a row alone as among others.

use crate::draw::{row_groups, uniform};
use sparsely_tensor::optim::{Moments, Rule, Step};
use sparsely_tensor::{
    Activation, CrossEntropy, GroupedWeights, Layout, Param, Pool, Result, RowGroups, Shape, Slab,
    Tape, Var,
};
use std::sync::Arc;

/// Parameters by name, drawn.
struct Model {
    params: Slab,
}

impl Model {
    fn drawn(shapes: &[(&str, Shape)]) -> Model {
        let mut layout = Layout::default();
        for (name, shape) in shapes {
            layout.add(*name, *shape, 1.0);
        }
        let mut params = Slab::zeros(Arc::new(layout));
        for view in params.layout().clone().views() {
            let values = uniform(view.param.range().len(), view.param.index() as u64);
            let own = params.view_mut(&view.param);
            own.iter_mut().zip(values).for_each(|(p, v)| *p = 0.1 * v);
        }
        Model { params }
    }

    fn named(&self, name: &str) -> Param {
        self.params.layout().find(name).unwrap().param
    }
}

// More than two blocks of rows, weights of several tiles and of more than one optimiser task.
const B: usize = 9;
const L: usize = 33;
const D: usize = 96;
const F: usize = 360;
const E: usize = 3;
const V: usize = 10;

fn two_blocks() -> Model {
    Model::drawn(&[
        ("norm_1", [D].into()),
        ("w_qkv", [D, 3 * D].into()),
        ("b_qkv", [3 * D].into()),
        ("norm_q", [24].into()),
        ("norm_k", [24].into()),
        ("w_out", [D, D].into()),
        ("norm_2", [D].into()),
        ("w_in", [D, F].into()),
        ("b_in", [F].into()),
        ("w_back", [F, D].into()),
        ("b_back", [D].into()),
        ("w_router", [D, E].into()),
        ("experts_in", [E, D, F].into()),
        ("experts_in_b", [E, F].into()),
        ("experts_out", [E, F, D].into()),
        ("experts_out_b", [E, D].into()),
        ("class", [D].into()),
        ("positions", [L, D].into()),
        ("w_head", [D, V].into()),
        ("b_head", [V].into()),
    ])
}

fn attend<'t>(model: &Model, x: &Var<'t>) -> Result<Var<'t>> {
    let p = |name| model.named(name);
    x.layer_norm(&p("norm_1"), None, 1e-6)?
        .linear(Activation::Identity, &p("w_qkv"), Some(&p("b_qkv")), None)?
        .head_norm(4, &[&p("norm_q"), &p("norm_k")], 1e-6)?
        .self_attention(4)?
        .linear(Activation::Identity, &p("w_out"), None, Some(x))
}

fn dense<'t>(model: &Model, x: &Var<'t>) -> Result<Var<'t>> {
    let p = |name| model.named(name);
    x.layer_norm(&p("norm_2"), None, 1e-6)?
        .linear(Activation::Identity, &p("w_in"), Some(&p("b_in")), None)?
        .dropout(0.1, 3)?
        .linear(Activation::Gelu, &p("w_back"), Some(&p("b_back")), Some(x))
}

fn grouped<'t>(model: &Model, x: &Var<'t>) -> Result<(Var<'t>, Var<'t>)> {
    let p = |name| model.named(name);
    let x = x.reshape([B * L, D])?;
    let h = x.layer_norm(&p("norm_2"), None, 1e-6)?;
    let probabilities = h.linear(Activation::Identity, &p("w_router"), None, None)?.softmax();
    let lists = row_groups(B * L, E, 5);
    let groups = Arc::new(RowGroups::new(B * L, &lists)?);
    let indices = (0..E).flat_map(|e| lists[e].iter().map(move |t| t * E as u32 + e as u32));
    let gates = probabilities.pick(&Arc::new(indices.collect()))?;
    let w_in = GroupedWeights { w: p("experts_in"), b: p("experts_in_b") };
    let w_out = GroupedWeights { w: p("experts_out"), b: p("experts_out_b") };
    let z = h.gather_linear(&w_in, &groups)?;
    let y = z.scatter_linear(Activation::Gelu, &w_out, &groups, &gates, Some(&x))?;
    let balance = probabilities.sum_groups(L)?.cv_squared()?;
    Ok((y.reshape([B, L, D])?, balance))
}

/// Gradients of one step.
fn gradients(model: &Model, pool: &Pool, step: u64) -> Result<Slab> {
    let tape = Tape::recording(&model.params, pool);
    let x = tape.constant([B, L - 1, D], &uniform(B * (L - 1) * D, 1000 + step))?;
    let x = x.prepend(&model.named("class"))?.add_positions(&model.named("positions"))?;
    let x = dense(model, &attend(model, &x)?)?;
    let (x, balance) = grouped(model, &attend(model, &x)?)?;
    let logits = x.select_token(0)?.add(&x.mean_tokens()?)?.linear(
        Activation::Tanh,
        &model.named("w_head"),
        Some(&model.named("b_head")),
        None,
    )?;
    let targets: Vec<f32> = (0..B * V).map(|i| f32::from(u8::from(i % V == i / V))).collect();
    let loss = logits.cross_entropy(CrossEntropy::Softmax, &targets)?;
    let loss = tape.weighted_sum(&[(loss, 1.0), (balance, 0.01)])?;
    let mut grads = Slab::zeros(model.params.layout().clone());
    tape.backward(&loss, &mut grads)?;
    Ok(grads)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Bits of the parameters and norms of the gradients after three steps.
fn trained_on(threads: usize) -> (Vec<u32>, Vec<f64>) {
    let train = || {
        let mut model = two_blocks();
        let mut moments = Moments::zeros(&model.params);
        let pool = Pool::new();
        let mut norms = Vec::new();
        for number in 1..=3 {
            let grads = gradients(&model, &pool, number).unwrap();
            norms.push(sparsely_tensor::optim::global_norm(&grads));
            let rule = Rule::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 };
            let step = Step { rule, lr: 1e-2, decay: 0.1, number, grad_scale: 0.5 };
            step.apply(&mut model.params, &grads, &mut moments);
        }
        (bits(model.params.values()), norms)
    };
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(train)
}

#[test]
fn three_steps_have_the_same_bits_on_any_number_of_threads() {
    let (params, norms) = trained_on(1);
    assert!(norms.iter().all(|norm| *norm > 1e-3 && norm.is_finite()), "{norms:?}");
    let moved = two_blocks()
        .params
        .values()
        .iter()
        .zip(&params)
        .filter(|(a, b)| a.to_bits() != **b)
        .count();
    assert!(moved > two_blocks().params.layout().num_params() / 2, "{moved} parameters moved");
    for threads in [2, 3, 3] {
        let (again, again_norms) = trained_on(threads);
        assert!(again == params, "{threads} threads");
        assert_eq!(again_norms, norms, "{threads} threads");
    }
}

const MANY: usize = 200;
/// Where the few rows lie among the many.
const FIRST: usize = 7;

/// Compares `op` on 1..=64 rows of random `x` with the same rows of `op` on all of them. The
/// closure gets the range of rows that its input is.
fn assert_rows_do_not_depend_on_others<F>(what: &str, model: &Model, row: &[usize], op: F)
where
    F: for<'t> Fn(&Var<'t>, std::ops::Range<usize>) -> Result<Var<'t>>,
{
    let row_len: usize = row.iter().product();
    let x = uniform(MANY * row_len, 77);
    let pool = Pool::new();
    let tape = Tape::inference(&model.params, &pool);
    let run = |rows: std::ops::Range<usize>| -> Vec<u32> {
        let values = &x[rows.start * row_len..rows.end * row_len];
        let shape: Shape = match *row {
            [d] => [rows.len(), d].into(),
            [l, d] => [rows.len(), l, d].into(),
            _ => unreachable!("a row has one or two axes"),
        };
        bits(op(&tape.constant(shape, values).unwrap(), rows).unwrap().values())
    };
    let all = run(0..MANY);
    let width = all.len() / MANY;
    for few in (1..=64).chain([127, 128, 129]) {
        let got = run(FIRST..FIRST + few);
        assert!(got == all[FIRST * width..(FIRST + few) * width], "{what}: {few} rows");
    }
}

#[test]
fn a_row_of_a_linear_layer_has_the_bits_it_has_among_others() {
    for i in [1, 16, 17, 96, 192, 768] {
        for o in [1, 2, 3, 4, 5, 10, 16, 33, 96, 130, 300] {
            let model = Model::drawn(&[("w", [i, o].into()), ("b", [o].into())]);
            let (w, b) = (model.named("w"), model.named("b"));
            for act in [Activation::Identity, Activation::Gelu] {
                let what = format!("linear {act:?} {i} → {o}");
                assert_rows_do_not_depend_on_others(&what, &model, &[i], |x, _| {
                    x.linear(act, &w, Some(&b), None)
                });
            }
            let residual = uniform(MANY * o, 3);
            let what = format!("linear with a residual {i} → {o}");
            assert_rows_do_not_depend_on_others(&what, &model, &[i], |x, rows| {
                let own = &residual[rows.start * o..rows.end * o];
                let residual = x.tape().constant([rows.len(), o], own)?;
                x.linear(Activation::Identity, &w, None, Some(&residual))
            });
        }
    }
}

#[test]
fn a_normalised_row_has_the_bits_it_has_among_others() {
    for d in [1, 15, 48, 97] {
        let shapes = [("scale", [d].into()), ("bias", [d].into()), ("head", [8].into())];
        let model = Model::drawn(&shapes);
        assert_rows_do_not_depend_on_others("layer_norm", &model, &[d], |x, _| {
            x.layer_norm(&model.named("scale"), Some(&model.named("bias")), 1e-6)
        });
        assert_rows_do_not_depend_on_others("softmax", &model, &[d], |x, _| Ok(x.softmax()));
        assert_rows_do_not_depend_on_others("gelu", &model, &[d], |x, _| {
            Ok(x.activation(Activation::Gelu))
        });
        assert_rows_do_not_depend_on_others("head_norm", &model, &[48], |x, _| {
            x.head_norm(2, &[&model.named("head"), &model.named("head")], 1e-6)
        });
        assert_rows_do_not_depend_on_others("chance_among_largest", &model, &[d], |x, _| {
            x.chance_among_largest(x, 1, 0.5)
        });
    }
}

#[test]
fn an_image_has_the_bits_it_has_among_others() {
    let model = Model::drawn(&[("class", [24].into()), ("positions", [5, 24].into())]);
    for l in [1, 5, 17] {
        assert_rows_do_not_depend_on_others("self_attention", &model, &[l, 72], |x, _| {
            x.self_attention(3)
        });
        let kv = uniform(MANY * l * 48, 5);
        assert_rows_do_not_depend_on_others("cross_attention", &model, &[4, 24], |x, rows| {
            let own = &kv[rows.start * l * 48..rows.end * l * 48];
            x.cross_attention(&x.tape().constant([rows.len(), l, 48], own)?, 3)
        });
    }
    assert_rows_do_not_depend_on_others("tokens", &model, &[4, 24], |x, _| {
        let x = x.prepend(&model.named("class"))?.add_positions(&model.named("positions"))?;
        x.select_token(0)?.add(&x.mean_tokens()?)
    });
}

#[test]
fn the_classes_of_an_image_have_the_bits_they_have_among_others() {
    for v in [1, 2, 3, 4, 10, 1000] {
        let shapes = [("scale", [192].into()), ("w", [192, v].into()), ("b", [v].into())];
        let model = Model::drawn(&shapes);
        assert_rows_do_not_depend_on_others(&format!("head of {v}"), &model, &[3, 192], |x, _| {
            x.layer_norm(&model.named("scale"), None, 1e-6)?.select_token(0)?.linear(
                Activation::Identity,
                &model.named("w"),
                Some(&model.named("b")),
                None,
            )
        });
    }
}

/// Group 1 of three holds the rows at hand; its neighbours grow and shrink with the number of rows.
fn among_neighbours(rows: usize) -> Vec<Vec<u32>> {
    let own = (0..rows as u32).collect();
    vec![(0..rows as u32 / 3).rev().collect(), own, (0..rows as u32 / 2).collect()]
}

#[test]
fn a_row_of_a_group_has_the_bits_it_has_with_other_neighbours() {
    for (i, o) in [(1, 1), (48, 1), (48, 2), (48, 3), (48, 10), (96, 130), (192, 768), (768, 192)] {
        let model = Model::drawn(&[("w", [3, i, o].into()), ("b", [3, o].into())]);
        let weights = GroupedWeights { w: model.named("w"), b: model.named("b") };
        let what = format!("gather_linear {i} → {o}");
        assert_rows_do_not_depend_on_others(&what, &model, &[i], |x, rows| {
            let lists = among_neighbours(rows.len());
            let groups = Arc::new(RowGroups::new(rows.len(), &lists)?);
            let z = x.gather_linear(&weights, &groups)?;
            let own = groups.group(1);
            z.tape().constant([own.len(), o], &z.values()[own.start * o..own.end * o])
        });
        let what = format!("scatter_linear {i} → {o}");
        let gates = uniform(MANY, 8);
        assert_rows_do_not_depend_on_others(&what, &model, &[i], |z, rows| {
            // The entries of the neighbours go to a row of their own, after the last.
            let n = rows.len();
            let others = |len: usize| vec![n as u32; len];
            let lists = [others(n / 3), (0..n as u32).collect(), others(n / 2)];
            let groups = Arc::new(RowGroups::new(n + 1, &lists)?);
            let filler = |len: usize| uniform(len, n as u64);
            let all_z = [filler(n / 3 * i), z.values().to_vec(), filler(n / 2 * i)].concat();
            let all_gates = [filler(n / 3), gates[rows].to_vec(), filler(n / 2)].concat();
            let entries = groups.num_entries();
            let all_z = z.tape().constant([entries, i], &all_z)?;
            let all_gates = z.tape().constant([entries], &all_gates)?;
            let y = all_z.scatter_linear(Activation::Gelu, &weights, &groups, &all_gates, None)?;
            z.tape().constant([n, o], &y.values()[..n * o])
        });
    }
}
