//! Some of the experts: what is left is a model whose router lost the columns of the others.

use super::properties::sparse_routers;
use sparsely::moe::router::{LossFreeConfig, Slots, SoftConfig, SoftMixing};
use sparsely::moe::{
    Capacity, Dial, Group, MoeConfig, MoeLayer, RouterConfig, RouterStats, Subset,
};
use sparsely::nn::{Initializer, Mode};
use sparsely_tensor::{Pool, Slab, Tape};

const D: usize = 12;
const L: usize = 9;
const E: usize = 5;
/// Slots of an expert: more than one column of the router.
const P: usize = 3;

fn routers() -> Vec<RouterConfig> {
    let soft = |mixing| {
        let slots = Slots::Exact { n: P };
        RouterConfig::Soft(SoftConfig { slots, mixing, noise_std: 0.0 })
    };
    let mut routers = sparse_routers(2);
    // Few seats: who is dropped depends on how many experts share them.
    let capacity = Capacity::factor(0.6);
    routers.push(RouterConfig::LossFree(LossFreeConfig { capacity, ..Default::default() }));
    routers.extend([
        soft(SoftMixing::Soft),
        soft(SoftMixing::UniformDispatch),
        soft(SoftMixing::UniformCombine),
        soft(SoftMixing::Uniform),
    ]);
    routers
}

fn values(len: usize, seed: u64) -> Vec<f32> {
    use rand::{Rng, SeedableRng};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// A layer of `e` experts with one shared one, and the initial parameters of seed 3.
fn layer(router: RouterConfig, e: usize) -> (MoeLayer, Slab) {
    let group = Group::Images { n: 1 };
    let config = MoeConfig { num_experts: e, group, router, num_shared: 1, ..MoeConfig::default() };
    let mut init = Initializer::default();
    let layer = MoeLayer::init(&mut init, &config, [D, 7, L]);
    let mut params = init.finish(3);
    // Biases are 0 at first, and would not be missed.
    let frozen = params.layout().find("moe/router/balance").map(|view| view.param);
    if let Some(bias) = frozen {
        params.view_mut(&bias).copy_from_slice(&values(e, 9));
    }
    (layer, params)
}

/// Output and statistics on two images.
fn run(layer: &MoeLayer, params: &Slab, dial: &Dial) -> (Vec<f32>, RouterStats) {
    let pool = Pool::new();
    let tape = Tape::inference(params, &pool);
    let x = tape.constant([2, L, D], &values(2 * L * D, 1)).unwrap();
    let residual = tape.constant([2, L, D], &values(2 * L * D, 2)).unwrap();
    let output = layer.forward(&x, &residual, dial, &mut Mode::Eval).unwrap();
    (output.y_bld.values().to_vec(), output.stats)
}

fn only(experts: &[usize]) -> Dial {
    Dial { experts: Some(Subset::new(experts.to_vec()).unwrap()), ..Dial::default() }
}

/// The parameters of the experts `kept`, laid out for a layer of as many: columns of the router,
/// blocks of the stacked experts.
fn pruned(params: &Slab, target: &Slab, kept: &[usize]) -> Slab {
    let mut target = target.clone();
    let views: Vec<_> = target.layout().views().to_vec();
    for view in views {
        let source = params.layout().find(&view.name).unwrap().param;
        let from = params.view(&source);
        let to = target.view_mut(&view.param);
        if from.len() == to.len() {
            to.copy_from_slice(from);
        } else if view.name.contains("router") {
            // [D, E], [E] or [D, E, P].
            let p = if view.name.ends_with("mu") { P } else { 1 };
            let (from_rows, to_rows) = (from.chunks(E * p), to.chunks_mut(kept.len() * p));
            for (from, to) in from_rows.zip(to_rows) {
                for (to, e) in to.chunks_mut(p).zip(kept) {
                    to.copy_from_slice(&from[e * p..(e + 1) * p]);
                }
            }
        } else {
            let block = from.len() / E;
            for (to, e) in to.chunks_mut(block).zip(kept) {
                to.copy_from_slice(&from[e * block..(e + 1) * block]);
            }
        }
    }
    target
}

#[test]
fn all_experts_are_bitwise_the_whole_layer() {
    for router in routers() {
        let (layer, params) = layer(router, E);
        let (whole, stats) = run(&layer, &params, &Dial::default());
        let (subset, of_subset) = run(&layer, &params, &only(&[0, 1, 2, 3, 4]));
        assert_eq!((whole, stats), (subset, of_subset), "{router:?}");
    }
}

#[test]
fn some_experts_are_a_layer_whose_router_lost_the_columns_of_the_others() {
    for router in routers() {
        let (whole, params) = layer(router, E);
        for kept in [&[0, 1, 2][..], &[1, 4], &[2, 3]] {
            let (small, fresh) = layer(router, kept.len());
            let own = pruned(&params, &fresh, kept);
            let (expected, small_stats) = run(&small, &own, &Dial::default());
            let (got, stats) = run(&whole, &params, &only(kept));
            let error = got.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            // The same operations on the same numbers, but for the order of sums inside products of
            // another width.
            assert!(error < 1e-6, "{router:?}, experts {kept:?}: {error}");
            for (e, (asked, seated)) in stats.asked_e.iter().zip(&stats.seated_e).enumerate() {
                let of_small = kept.iter().position(|own| *own == e);
                let expected =
                    of_small.map_or((0, 0), |i| (small_stats.asked_e[i], small_stats.seated_e[i]));
                assert_eq!((*asked, *seated), expected, "{router:?}, expert {e} of {kept:?}");
            }
            assert_eq!(stats.left_out, E - kept.len());
            assert_eq!(stats.seats, small_stats.seats);
            let near = |a: f64, b: f64| (a - b).abs() < 1e-6;
            assert!(near(stats.imbalance(), small_stats.imbalance()), "{router:?}");
            assert!(near(stats.load_variation(), small_stats.load_variation()), "{router:?}");
            assert!(near(stats.entropy(), small_stats.entropy()), "{router:?}");
        }
    }
}

#[test]
fn experts_that_are_left_out_change_nothing() {
    for router in routers() {
        let (layer, params) = layer(router, E);
        let kept = only(&[0, 3]);
        let (before, _) = run(&layer, &params, &kept);
        let mut changed = params.clone();
        let views: Vec<_> = changed.layout().views().to_vec();
        for view in views.iter().filter(|view| view.name.contains("experts")) {
            let values = changed.view_mut(&view.param);
            let block = values.len() / E;
            for left_out in [1, 2, 4] {
                values[left_out * block..(left_out + 1) * block].fill(f32::NAN);
            }
        }
        assert_eq!(before, run(&layer, &changed, &kept).0, "{router:?}");
    }
}

#[test]
fn a_gradient_reaches_only_the_columns_that_take_part() {
    let (layer, params) = layer(RouterConfig::default(), E);
    let pool = Pool::new();
    let tape = Tape::recording(&params, &pool);
    let x = tape.constant([2, L, D], &values(2 * L * D, 1)).unwrap();
    let residual = tape.constant([2, L, D], &vec![0.0; 2 * L * D]).unwrap();
    let output = layer.forward(&x, &residual, &only(&[1, 3]), &mut Mode::Eval).unwrap();
    let loss = output.y_bld.dot_constant(&vec![1.0; 2 * L * D]).unwrap();
    let mut grads = Slab::zeros(params.layout().clone());
    tape.backward(&loss, &mut grads).unwrap();
    let kernel = params.layout().find("moe/router/kernel").unwrap().param;
    for (i, slope) in grads.view(&kernel).iter().enumerate() {
        assert_eq!(*slope != 0.0, [1, 3].contains(&(i % E)), "row {}, column {}", i / E, i % E);
    }
}

#[test]
fn what_cannot_be_had_of_the_experts_is_refused() {
    let refused = |router, dial: &Dial| {
        let (layer, params) = layer(router, E);
        let pool = Pool::new();
        let tape = Tape::inference(&params, &pool);
        let x = tape.constant([1, L, D], &[0.0; L * D]).unwrap();
        layer.forward(&x, &x, dial, &mut Mode::Eval).err().unwrap().to_string()
    };
    assert_eq!(
        refused(RouterConfig::default(), &only(&[0, 5])),
        "invalid configuration: there is no expert 5: they are 0 to 4"
    );
    assert_eq!(
        refused(RouterConfig::default(), &only(&[2])),
        "token choice: expected 1 to 1 selected experts per token, as many as take part, got 2"
    );
    let identity =
        SoftConfig { slots: Slots::Exact { n: 1 }, mixing: SoftMixing::Identity, noise_std: 0.0 };
    assert_eq!(
        refused(RouterConfig::Soft(identity), &only(&[2])),
        "invalid configuration: Soft MoE with identity mixing needs all experts: slot i is token i"
    );
}
