//! Training has the same bits on any number of threads.

use super::{Model, PRECISIONS, bits};
use crate::draw::{row_groups, uniform};
use sparsely_tensor::optim::{Moments, Rule, Step, global_norm};
use sparsely_tensor::{
    Activation, CrossEntropy, GroupedWeights, Pool, Precision, Result, RowGroups, Sinkhorn, Slab,
    SparseTransport, Spread, Tape, Var,
};
use std::sync::Arc;

// More than two blocks of rows, weights of several tiles and of more than one optimiser task.
const B: usize = 9;
const L: usize = 33;
const D: usize = 96;
const F: usize = 360;
const E: usize = 3;
const SLOTS: usize = 300;
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
        ("slots", [D, SLOTS].into()),
        ("scale", [1].into()),
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
    let x = &x
        .layer_norm_rounded(&p("norm_2"), None, 1e-6)?
        .linear_rounded(Activation::Identity, &p("w_in"), Some(&p("b_in")))?
        .linear(Activation::Gelu, &p("w_back"), Some(&p("b_back")), Some(x))?;
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
    let w_in = GroupedWeights { w: p("experts_in"), b: Some(p("experts_in_b")) };
    let w_out = GroupedWeights { w: p("experts_out"), b: Some(p("experts_out_b")) };
    let z = h.gather_linear(&w_in, &groups)?;
    let y = z.scatter_linear(Activation::Gelu, &w_out, &groups, &gates, Some(&x))?;
    let balance = probabilities.sum_groups(L)?.cv_squared()?;
    Ok((y.reshape([B, L, D])?, balance))
}

/// Slots as experts, and plans as weights.
fn mixed<'t>(model: &Model, x: &Var<'t>) -> Result<Var<'t>> {
    let x = x.reshape([B * L, D])?;
    let logits = x.cosine_logits(&model.named("slots"), &model.named("scale"), 1e-6)?;
    let slots = x.gather_mix(&logits.softmax_columns(L)?, L)?;
    let y = slots.scatter_mix(&logits.softmax(), L, Some(&x))?;
    let large = 3 * L;
    let sinkhorn = Sinkhorn { group_rows: large, iterations: 20, epsilon: 0.1 };
    let spread = Spread::Rows;
    let sparse = SparseTransport { group_rows: large, spread, support: 9, steps: 5, lr: 1e-2 };
    let slots = y.gather_mix(&logits.sinkhorn(&sinkhorn)?, large)?;
    slots.scatter_mix(&logits.sparse_transport(&sparse)?, large, Some(&y))?.reshape([B, L, D])
}

/// Gradients of one step.
fn gradients(model: &Model, precision: Precision, pool: &Pool, step: u64) -> Result<Slab> {
    let tape = Tape::recording(&model.params, pool);
    tape.compute_in(precision);
    let x = tape.constant([B, L - 1, D], &uniform(B * (L - 1) * D, 1000 + step))?;
    let x = x.prepend(&model.named("class"))?.add_positions(&model.named("positions"))?;
    let x = dense(model, &attend(model, &x)?)?;
    let (x, balance) = grouped(model, &attend(model, &x)?)?;
    let x = mixed(model, &x)?;
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

/// Bits of the parameters and norms of the gradients after three steps.
fn trained_on(threads: usize, precision: Precision) -> (Vec<u32>, Vec<f64>) {
    let train = || {
        let mut model = two_blocks();
        let mut moments = Moments::zeros(&model.params);
        let pool = Pool::new();
        let mut norms = Vec::new();
        for number in 1..=3 {
            let grads = gradients(&model, precision, &pool, number).unwrap();
            norms.push(global_norm(&grads));
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
    for precision in PRECISIONS {
        assert_threads_do_not_matter(precision);
    }
}

fn assert_threads_do_not_matter(precision: Precision) {
    let (params, norms) = trained_on(1, precision);
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
        let (again, again_norms) = trained_on(threads, precision);
        assert!(again == params, "{threads} threads, {precision:?}");
        assert_eq!(again_norms, norms, "{threads} threads, {precision:?}");
    }
}

/// Rounding moves each factor by at most a 256th of itself, one way or the other.
#[test]
fn gradients_in_bf16_are_close_to_those_in_f32() {
    let (model, pool) = (two_blocks(), Pool::new());
    let [exact, rounded] = PRECISIONS.map(|p| gradients(&model, p, &pool, 1).unwrap());
    let norm = |values: &mut dyn Iterator<Item = f32>| {
        values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt()
    };
    for view in model.params.layout().views() {
        let [exact, rounded] = [&exact, &rounded].map(|grads| grads.view(&view.param));
        let error = norm(&mut exact.iter().zip(rounded).map(|(a, b)| a - b));
        let share = error / norm(&mut exact.iter().copied());
        // Steps of Adam and supports of plans part ways where a logit moves a little.
        let is_of_plans = ["slots", "scale"].contains(&&*view.name);
        let bound = if is_of_plans { 0.5 } else { 0.02 };
        assert!((1e-5..bound).contains(&share), "{}: {share} of its gradient", view.name);
    }
}

#[test]
fn what_routers_compute_in_f32_is_f32_on_any_tape() {
    let (model, pool) = (two_blocks(), Pool::new());
    let router = model.named("w_router");
    let of = |precision: Precision, is_router: bool| {
        let tape = Tape::recording(&model.params, &pool);
        tape.compute_in(precision);
        let x = tape.param(&model.named("class")).reshape([1, D]).unwrap();
        let logits = match is_router {
            true => x.linear_f32(&router, None),
            false => x.linear(Activation::Identity, &router, None, None),
        };
        let logits = logits.unwrap();
        let mut grads = Slab::zeros(model.params.layout().clone());
        tape.backward(&logits.dot_constant(&[1.0, -2.0, 0.5]).unwrap(), &mut grads).unwrap();
        (bits(logits.values()), bits(grads.values()))
    };
    let [exact, router_bf16] = PRECISIONS.map(|precision| of(precision, true));
    assert!(exact == router_bf16 && exact == of(Precision::F32, false));
    let rounded = of(Precision::Bf16, false);
    assert!(rounded.0 != exact.0 && rounded.1 != exact.1);
}
