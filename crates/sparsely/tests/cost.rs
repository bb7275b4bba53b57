//! The cost model against what runs: parameters of the real layout, and the multiply-accumulates
//! that the kernels count. The counter is the process's, so what counts here has this binary to
//! itself, one model at a time.

use sparsely::attention::ExpertProjections;
use sparsely::cost::{Call, ModelCost, Routed, forward_macs};
use sparsely::model::{Classifier, ExpertAttention, ModelConfig, Output, Positions, Vit};
use sparsely::moe::router::{ExpertChoiceConfig, RandomConfig, Slots, SoftConfig};
use sparsely::moe::{
    Capacity, Dial, Granularity, Group, ImageInput, MoeConfig, Placement, RouterConfig, Subset,
    TokenChoiceConfig,
};
use sparsely::nn::Mode;
use sparsely::rng::{Purpose, stream};
use sparsely::train::preset;
use sparsely_tensor::{CrossEntropy, Pool, Slab, Tape, macs};
use std::sync::Mutex;

/// Held while a model runs: the counter does not know who multiplied.
static COUNTING: Mutex<()> = Mutex::new(());

const BATCH: usize = 4;

/// 8×8 images of 3 channels in 2×2 patches: 16 tokens of width 24, three blocks.
fn dense() -> ModelConfig {
    ModelConfig {
        image_size: 8,
        channels: 3,
        patch_size: 2,
        depth: 3,
        width: 24,
        heads: 3,
        mlp_width: 40,
        num_classes: Some(7),
        moe: None,
        ..ModelConfig::default()
    }
}

fn sparse(k: usize, capacity: Capacity, group: Group) -> ModelConfig {
    let router = RouterConfig::TokenChoice(TokenChoiceConfig {
        num_selected: k,
        capacity,
        ..TokenChoiceConfig::default()
    });
    let placement = Placement::Blocks { blocks: vec![1, 2] };
    let moe = MoeConfig { num_experts: 4, router, placement, group, ..MoeConfig::default() };
    ModelConfig { moe: Some(moe), ..dense() }
}

/// The same with whole images routed.
fn by_image(input: ImageInput, k: usize) -> ModelConfig {
    let mut config = sparse(k, Capacity::Unlimited, Group::Images { n: 2 });
    config.moe.as_mut().unwrap().granularity = Granularity::Image { input };
    config
}

fn random(config: ModelConfig) -> ModelConfig {
    let mut config = config;
    let router = RouterConfig::Random(RandomConfig { num_selected: 2 });
    config.moe.as_mut().unwrap().router = router;
    config
}

/// The same with experts inside the heads of its attention.
fn switch_head(config: ModelConfig, attention: ExpertAttention) -> ModelConfig {
    ModelConfig { attention: Some(attention), ..config }
}

/// Experts on some projections or all, one expert, one router for both sides.
fn switch_head_models() -> Vec<(&'static str, ModelConfig)> {
    let base = ExpertAttention { heads: 2, head_width: 5, ..ExpertAttention::default() };
    let on = |values, keys, queries, outputs| ExpertProjections { values, keys, queries, outputs };
    let (image, all) = (Group::Images { n: 1 }, on(true, true, true, true));
    let shared_router = true;
    vec![
        ("switch head", switch_head(dense(), base)),
        ("both kinds of experts", switch_head(sparse(2, Capacity::Unlimited, image), base)),
        ("experts everywhere", switch_head(dense(), ExpertAttention { experts: all, ..base })),
        ("one router", switch_head(dense(), ExpertAttention { shared_router, ..base })),
        (
            "experts of keys",
            switch_head(
                dense(),
                ExpertAttention { experts: on(false, true, false, false), ..base },
            ),
        ),
        (
            "one expert",
            switch_head(dense(), ExpertAttention { num_experts: 1, num_selected: 1, ..base }),
        ),
    ]
}

/// Names and models: heads, norms, dropout; K 1 to 3; seats for all, for some, for as many as ask.
fn models() -> Vec<(&'static str, ModelConfig)> {
    let (token, map) = (Classifier::Token, Classifier::Map);
    let (image, batch) = (Group::Images { n: 1 }, Group::Images { n: 4 });
    let dropping = Capacity::factor(0.6);
    let mut dropout = sparse(2, Capacity::factor(1.05), batch);
    dropout.dropout = 0.1;
    dropout.moe.as_mut().unwrap().expert_dropout = 0.1;
    vec![
        ("dense gap", dense()),
        ("dense token", ModelConfig { classifier: token, ..dense() }),
        ("dense map", ModelConfig { classifier: map, positions: Positions::None, ..dense() }),
        ("dense map qk-norm", ModelConfig { classifier: map, qk_norm: true, ..dense() }),
        ("dense qk-norm", ModelConfig { qk_norm: true, ..dense() }),
        ("pre-logits", ModelConfig { pre_logits: Some(11), ..dense() }),
        ("sincos", ModelConfig { positions: Positions::Sincos2d, ..dense() }),
        ("features", ModelConfig { num_classes: None, ..dense() }),
        ("odd pixels", ModelConfig { image_size: 9, ..dense() }),
        ("one token", ModelConfig { patch_size: 8, ..dense() }),
        ("k 1 unlimited", sparse(1, Capacity::Unlimited, image)),
        ("k 2 unlimited", sparse(2, Capacity::Unlimited, batch)),
        ("k 3 unlimited", sparse(3, Capacity::Unlimited, image)),
        ("k 1 dropping", sparse(1, dropping, image)),
        ("k 2 dropping", sparse(2, dropping, batch)),
        ("k 3 one seat", sparse(3, Capacity::Exact { seats: 1 }, Group::Tokens { n: 8 })),
        ("token head", ModelConfig { classifier: token, ..sparse(2, dropping, batch) }),
        (
            "map head pre-logits",
            ModelConfig { classifier: map, pre_logits: Some(24), ..sparse(1, dropping, batch) },
        ),
        ("dropout", dropout),
        ("images by their mean", by_image(ImageInput::Mean, 1)),
        (
            "images by class token",
            ModelConfig { classifier: token, ..by_image(ImageInput::Cls, 2) },
        ),
        ("images pooled", by_image(ImageInput::Pooled, 1)),
        ("random tokens", random(sparse(2, Capacity::Unlimited, image))),
        ("random images", random(by_image(ImageInput::Mean, 1))),
    ]
}

/// Runs `compute` on a batch of the model: MACs counted, and what it returns.
fn counting<R>(config: &ModelConfig, compute: impl FnOnce(&Vit, &Slab, &[f32]) -> R) -> (u64, R) {
    let (vit, params) = Vit::init(config, 1).unwrap();
    let pixels = BATCH * config.image_pixels();
    let images: Vec<f32> = (0..pixels).map(|i| (i * 7919 % 256) as f32 / 127.5 - 1.0).collect();
    let _guard = COUNTING.lock().unwrap();
    let before = macs();
    let result = compute(&vit, &params, &images);
    (macs() - before, result)
}

fn measured(config: &ModelConfig, stats: &[(usize, sparsely::moe::RouterStats)]) -> ModelCost {
    let call = Call { routed: Routed::Measured(stats), ..Call::balanced(BATCH) };
    ModelCost::of(config, &call).unwrap()
}

/// Every kind of router, and what changes its parameters or products.
fn router_models() -> Vec<(&'static str, ModelConfig)> {
    let settings = [
        ("sigmoid", r#"{"kind": "token_choice", "gate": "sigmoid"}"#),
        ("learned priority", r#"{"kind": "token_choice", "priority": "learned"}"#),
        ("sinkhorn token", r#"{"kind": "sinkhorn_token_choice"}"#),
        ("sparse token", r#"{"kind": "sparse_token_choice"}"#),
        ("expert", r#"{"kind": "expert_choice"}"#),
        ("sinkhorn expert", r#"{"kind": "sinkhorn_expert_choice"}"#),
        ("sparse expert", r#"{"kind": "sparse_expert_choice"}"#),
        ("loss-free", r#"{"kind": "loss_free"}"#),
        ("loss-free learned priority", r#"{"kind": "loss_free", "priority": "learned"}"#),
        ("relu", r#"{"kind": "relu"}"#),
    ];
    let of = |(name, json): (&'static str, &str)| {
        let mut config = sparse(1, Capacity::Unlimited, Group::Images { n: 2 });
        config.moe.as_mut().unwrap().router = serde_json::from_str(json).unwrap();
        (name, config)
    };
    let mut models: Vec<_> = settings.into_iter().map(of).collect();
    let mut shared = sparse(2, Capacity::factor(1.05), Group::Images { n: 2 });
    shared.moe.as_mut().unwrap().num_shared = 2;
    models.push(("shared experts", shared));
    models
}

/// Soft MoE, with a slot for each token and with three for each expert.
fn soft_models() -> Vec<(&'static str, ModelConfig)> {
    let soft = |slots| {
        let mut config = sparse(2, Capacity::Unlimited, Group::Images { n: 1 });
        let router = SoftConfig { slots, ..SoftConfig::default() };
        config.moe.as_mut().unwrap().router = RouterConfig::Soft(router);
        config
    };
    vec![("soft", soft(Slots::default())), ("soft 3", soft(Slots::Exact { n: 3 }))]
}

fn all_models() -> impl Iterator<Item = (&'static str, ModelConfig)> {
    let routed = soft_models().into_iter().chain(router_models());
    models().into_iter().chain(routed).chain(switch_head_models())
}

#[test]
fn forward_macs_are_those_that_the_kernels_count() {
    let mut dropping = 0;
    for (name, config) in all_models() {
        let (counted, stats) = counting(&config, |vit, params, images| {
            let pool = Pool::new();
            let tape = Tape::inference(params, &pool);
            vit.forward(&tape, images, &Dial::default(), &mut Mode::Eval).unwrap().stats
        });
        assert_eq!(measured(&config, &stats).macs(), counted, "{name}");
        dropping += usize::from(stats.iter().any(|(_, stats)| stats.dropped_share() > 0.0));
    }
    assert!(dropping >= 6, "only {dropping} models dropped anything");
}

#[test]
fn backward_macs_are_those_that_the_kernels_count() {
    let models = all_models();
    for (name, config) in models.filter(|(_, config)| config.num_classes.is_some()) {
        let (counted, stats) = counting(&config, |vit, params, images| {
            let pool = Pool::new();
            let tape = Tape::recording(params, &pool);
            let mut rng = stream(1, Purpose::Model, 0);
            let mode = &mut Mode::Train(&mut rng);
            let output = vit.forward(&tape, images, &Dial::default(), mode).unwrap();
            let Output { logits_bv, mut losses, stats, .. } = output;
            let targets = vec![0.5; logits_bv.values().len()];
            losses.push((logits_bv.cross_entropy(CrossEntropy::Sigmoid, &targets).unwrap(), 1.0));
            let loss = tape.weighted_sum(&losses).unwrap();
            tape.backward(&loss, &mut Slab::zeros(params.layout().clone())).unwrap();
            stats
        });
        let cost = measured(&config, &stats);
        assert_eq!(cost.macs() + cost.backward_macs(), counted, "{name}");
    }
}

/// With the class token 50 tokens: 6 blocks of 12 · 96² · 50 + 2 · 50² · 96, patches of 3072 · 96 · 49, a head
/// of 96 · 1000; per image 960 for the router and 2 · 50 · 96 for the gated sums.
#[test]
fn the_smallest_mobile_model_is_the_papers_54_mflop_one() {
    let dense = forward_macs(&preset("mobile-6x96").unwrap().model, &Dial::default()).unwrap();
    let blocks = 6 * (12 * 96 * 96 * 50 + 2 * 50 * 50 * 96);
    let expected = blocks + 3072 * 96 * 49 + 96 * 1000 + 960 + 2 * 50 * 96;
    assert_eq!((dense, expected), (expected as f64, 50_614_848));
}

/// Bytes of activations that a pool held after the forward pass on a recording tape, and at most.
fn training_bytes(config: &ModelConfig) -> ([usize; 2], ModelCost) {
    let (_, (bytes, stats)) = counting(config, |vit, params, images| {
        let pool = Pool::new();
        let tape = Tape::recording(params, &pool);
        let mut rng = stream(1, Purpose::Model, 0);
        let mode = &mut Mode::Train(&mut rng);
        let Output { logits_bv, mut losses, stats, .. } =
            vit.forward(&tape, images, &Dial::default(), mode).unwrap();
        let targets = vec![0.5; logits_bv.values().len()];
        losses.push((logits_bv.cross_entropy(CrossEntropy::Sigmoid, &targets).unwrap(), 1.0));
        let loss = tape.weighted_sum(&losses).unwrap();
        let kept = pool.used_bytes();
        tape.backward(&loss, &mut Slab::zeros(params.layout().clone())).unwrap();
        ([kept, pool.peak_bytes()], stats)
    });
    (bytes, measured(config, &stats))
}

fn inference_bytes(config: &ModelConfig) -> (usize, ModelCost) {
    let (_, (bytes, stats)) = counting(config, |vit, params, images| {
        let pool = Pool::new();
        let tape = Tape::inference(params, &pool);
        let stats = vit.forward(&tape, images, &Dial::default(), &mut Mode::Eval).unwrap().stats;
        (pool.peak_bytes(), stats)
    });
    (bytes, measured(config, &stats))
}

/// What the formulas leave out is a few scalars, softmax's copies at the router and the copies of
/// dropout's backward pass: 3 % in models as small as these.
#[test]
fn activations_are_those_that_the_pool_holds() {
    let agrees = |values: u64, bytes: usize, what: &str| {
        let ratio = (4 * values) as f64 / bytes as f64;
        assert!((ratio - 1.0).abs() < 0.03, "{what}: {} of {bytes} bytes", 4 * values);
    };
    for (name, config) in models() {
        let ([kept, peak], cost) = training_bytes(&config);
        agrees(cost.parts.iter().map(|part| part.kept).sum(), kept, &format!("{name}, kept"));
        agrees(cost.training_activations(), peak, &format!("{name}, training"));
        let (peak, cost) = inference_bytes(&config);
        agrees(cost.inference_activations(), peak, &format!("{name}, inference"));
    }
}

/// Where nothing is dropped the expected number of pairs is the measured one: no routing at all is
/// needed to tell the cost. Under a dial too.
#[test]
fn expected_macs_of_dropless_routing_are_exact() {
    for k in 1..=4 {
        let dial = Dial {
            num_selected: Some(k),
            capacity: Some(Capacity::Unlimited),
            group: Some(Group::Images { n: 2 }),
            ..Dial::default()
        };
        let config = sparse(2, Capacity::factor(0.5), Group::Images { n: 4 });
        let (counted, ()) = counting(&config, |vit, params, images| {
            let pool = Pool::new();
            let tape = Tape::inference(params, &pool);
            vit.forward(&tape, images, &dial, &mut Mode::Eval).unwrap();
        });
        assert_eq!(forward_macs(&config, &dial).unwrap() * BATCH as f64, counted as f64, "K {k}");
    }
}

fn subset(indices: &[usize]) -> Option<Subset> {
    Some(Subset::new(indices.to_vec()).unwrap())
}

/// Experts and layers that are left out cost what the kernels say: by what the routers did, and
/// where that is known beforehand, without running anything.
#[test]
fn macs_of_dialled_models_are_those_that_the_kernels_count() {
    let image = Group::Images { n: 1 };
    let choice = ExpertChoiceConfig { capacity: Capacity::factor(0.7), ..Default::default() };
    let mut choosing = sparse(2, Capacity::Unlimited, image);
    choosing.moe.as_mut().unwrap().router = RouterConfig::ExpertChoice(choice);
    let soft = soft_models().remove(1).1;
    let routers = [
        ("dropless", sparse(2, Capacity::Unlimited, image), true),
        ("dropping", sparse(2, Capacity::factor(0.5), image), false),
        ("soft", soft, true),
        ("expert choice", choosing, true),
    ];
    let dials = [
        Dial { experts: subset(&[0, 1, 3]), ..Dial::default() },
        Dial { skip_moe: subset(&[2]), ..Dial::default() },
        Dial { skip_moe: subset(&[1, 2]), ..Dial::default() },
        Dial { experts: subset(&[1, 2]), skip_moe: subset(&[1]), ..Dial::default() },
    ];
    for (name, config, is_known) in routers {
        let whole = forward_macs(&config, &Dial::default()).unwrap();
        for dial in &dials {
            let (counted, stats) = counting(&config, |vit, params, images| {
                let pool = Pool::new();
                let tape = Tape::inference(params, &pool);
                vit.forward(&tape, images, dial, &mut Mode::Eval).unwrap().stats
            });
            let call = Call { batch: BATCH, dial: dial.clone(), routed: Routed::Measured(&stats) };
            let cost = ModelCost::of(&config, &call).unwrap();
            assert_eq!(cost.macs(), counted, "{name}, {dial:?}");
            assert_eq!(cost.params(), Vit::layout(&config).unwrap().num_params() as u64);
            let expected = forward_macs(&config, dial).unwrap();
            if is_known {
                assert_eq!(expected * BATCH as f64, counted as f64, "{name}, {dial:?}");
            }
            assert!(dial.skip_moe.is_none() || expected < whole, "{name}, {dial:?}");
        }
    }
}

/// Three blocks of 16 tokens, D 24, F 40, E 4, K 2: the layer of a block has 16·24·4 MACs in the
/// router, 32 rows · (2·24·40 + 24) in experts and combine: 1,536 + 62,208.
#[test]
fn a_skipped_layer_saves_its_router_and_its_experts() {
    let config = sparse(2, Capacity::Unlimited, Group::Images { n: 1 });
    let macs = |dial: &Dial| forward_macs(&config, dial).unwrap();
    let skipped = Dial { skip_moe: subset(&[2]), ..Dial::default() };
    assert_eq!(macs(&Dial::default()) - macs(&skipped), 63_744.0);
}

/// Every size at every patch, with and without experts, and the heads that presets do not have.
#[test]
fn parameters_are_those_of_the_layout() {
    let mobile = ["mobile-6x96", "mobile-12x192/4"].map(String::from);
    let sizes = ["ti4", "ti16", "s16", "s32", "b16", "b32", "l16", "l32", "h14", "15b14"];
    let named =
        sizes.iter().flat_map(|size| ["vit", "vmoe", "soft"].map(|kind| format!("{kind}-{size}")));
    let presets = named
        .chain(mobile)
        .chain(["digits".into()])
        .map(|name| (preset(&name).unwrap().model, name));
    let models = all_models();
    let models = models.map(|(name, config)| (config, name.to_string()));
    for (config, name) in presets.chain(models) {
        let cost = ModelCost::of(&config, &Call::balanced(8)).unwrap();
        let layout = Vit::layout(&config).unwrap();
        assert_eq!(cost.params(), layout.num_params() as u64, "{name}");
    }
}
