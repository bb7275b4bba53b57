//! The gradient of a whole layer is the slope of its output, for every router.
//!
//! The operations' twins are held against central differences in double precision; here the wiring is, in single
//! precision: along a random direction the loss of a small layer changes as its gradient says.

use super::properties::sparse_routers;
use sparsely::moe::router::{Slots, SoftConfig, SoftMixing};
use sparsely::moe::{Dial, Group, MoeConfig, MoeLayer, RouterConfig};
use sparsely::nn::{Initializer, Mode};
use sparsely_tensor::{Pool, Slab, Tape};

const D: usize = 12;
const L: usize = 9;

fn layer(router: RouterConfig, num_shared: usize) -> (MoeLayer, Slab) {
    let group = Group::Images { n: 1 };
    let config = MoeConfig { num_experts: 3, group, router, num_shared, ..MoeConfig::default() };
    let mut init = Initializer::default();
    let layer = MoeLayer::init(&mut init, &config, [D, 7, L]);
    (layer, init.finish(3))
}

fn values(len: usize, seed: u64) -> Vec<f32> {
    use rand::{Rng, SeedableRng};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// ⟨c, output⟩ of the layer, and its gradient if asked for.
fn loss(layer: &MoeLayer, params: &Slab, grads: Option<&mut Slab>) -> f64 {
    let pool = Pool::new();
    let tape = Tape::recording(params, &pool);
    let x = tape.constant([2, L, D], &values(2 * L * D, 1)).unwrap();
    let residual = tape.constant([2, L, D], &vec![0.0; 2 * L * D]).unwrap();
    let output = layer.forward(&x, &residual, &Dial::default(), &mut Mode::Eval).unwrap();
    let factors: Vec<f64> = values(2 * L * D, 2).iter().map(|v| f64::from(*v)).collect();
    let exact = output.y_bld.values().iter().zip(&factors).map(|(y, c)| f64::from(*y) * c).sum();
    if let Some(grads) = grads {
        let loss = output.y_bld.dot_constant(&factors).unwrap();
        tape.backward(&loss, grads).unwrap();
    }
    exact
}

/// The slope along `direction` by the gradient, and by differences.
fn slopes(layer: &MoeLayer, params: &Slab, direction: &[f32]) -> [f64; 2] {
    const H: f32 = 5e-4;
    let mut grads = Slab::zeros(params.layout().clone());
    loss(layer, params, Some(&mut grads));
    let products = grads.values().iter().zip(direction);
    let by_gradient = products.map(|(g, v)| f64::from(*g) * f64::from(*v)).sum();
    let at = |step: f32| {
        let mut moved = params.clone();
        moved.values_mut().iter_mut().zip(direction).for_each(|(p, v)| *p += step * v);
        loss(layer, &moved, None)
    };
    [by_gradient, (at(H) - at(-H)) / f64::from(2.0 * H)]
}

/// A direction within the parameters whose names contain `part`.
fn within(params: &Slab, part: &str) -> Vec<f32> {
    let mut direction = vec![0.0; params.values().len()];
    for view in params.layout().views().iter().filter(|view| view.name.contains(part)) {
        let range = view.param.range();
        let seed = range.start as u64;
        direction[range.clone()].copy_from_slice(&values(range.len(), seed));
    }
    direction
}

fn assert_slopes(router: RouterConfig, parts: &[&str]) {
    let (layer, params) = layer(router, 1);
    for part in parts {
        let [by_gradient, by_difference] = slopes(&layer, &params, &within(&params, part));
        // Outputs of 200 elements around 0.5 with an error of 1e-7 each, over 2H: about 2e-3.
        let error = (by_gradient - by_difference).abs() / by_difference.abs().max(0.1);
        assert!(error < 2e-2, "{router:?}, {part}: {by_gradient} for {by_difference}");
        assert!(by_gradient != 0.0, "{router:?}: no gradient of {part}");
    }
}

#[test]
fn of_sparse_routers() {
    for mut router in sparse_routers(2) {
        // Prices are constants to the gradient, and jump where a step of Adam changes its sign: none are taken.
        match &mut router {
            RouterConfig::SparseTokenChoice(router) => router.plan.steps = 0,
            RouterConfig::SparseExpertChoice(router) => router.plan.steps = 0,
            _ => {}
        }
        assert_slopes(router, &["router/kernel", "experts", "shared"]);
    }
}

#[test]
fn of_soft_moe() {
    for (mixing, parts) in [
        (SoftMixing::Soft, &["router/mu", "router/scale", "experts"][..]),
        (SoftMixing::UniformDispatch, &["router/mu", "router/scale", "experts"]),
        (SoftMixing::UniformCombine, &["router/mu", "router/scale", "experts"]),
        (SoftMixing::Uniform, &["experts"]),
        (SoftMixing::Identity, &["experts", "shared"]),
    ] {
        let slots = Slots::Exact { n: 3 };
        assert_slopes(RouterConfig::Soft(SoftConfig { slots, mixing, noise_std: 0.0 }), parts);
    }
}
