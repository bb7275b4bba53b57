//! Routing of whole images: one decision for all tokens and layers.

use proptest::prelude::*;
use sparsely::model::{Classifier, ModelConfig, Vit};
use sparsely::moe::router::RandomConfig;
use sparsely::moe::{
    Capacity, Dial, Granularity, Group, ImageInput, ImageRouter, LossWeights, Mixing, MoeConfig,
    Placement, RouterConfig, TokenChoiceConfig,
};
use sparsely::nn::{Initializer, Mode};
use sparsely::rng::{Purpose, stream};
use sparsely_tensor::{Pool, Slab, Tape};

fn token_choice(k: usize) -> RouterConfig {
    RouterConfig::TokenChoice(TokenChoiceConfig {
        num_selected: k,
        noise_std: 0.0,
        capacity: Capacity::Unlimited,
        loss: LossWeights::NONE,
        ..TokenChoiceConfig::default()
    })
}

fn by_image(input: ImageInput, num_experts: usize, router: RouterConfig) -> MoeConfig {
    MoeConfig {
        num_experts,
        granularity: Granularity::Image { input },
        placement: Placement::LastBlocks { n: 2 },
        group: Group::Images { n: 1 },
        router,
        ..MoeConfig::default()
    }
}

/// 4×4 grey images in 2×2 patches, two of three blocks with experts; ends in features.
fn model(moe: MoeConfig) -> ModelConfig {
    ModelConfig {
        image_size: 4,
        channels: 1,
        patch_size: 2,
        depth: 3,
        width: 12,
        heads: 2,
        mlp_width: 7,
        num_classes: None,
        classifier: Classifier::Token,
        moe: Some(moe),
        ..ModelConfig::default()
    }
}

fn values(len: usize, seed: u64) -> Vec<f32> {
    use rand::{Rng, SeedableRng};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}

#[test]
fn all_tokens_of_an_image_go_to_the_expert_of_their_mean() {
    let config = by_image(ImageInput::Mean, 2, token_choice(1));
    let mut init = Initializer::default();
    let router = ImageRouter::init(&mut init, &config, ImageInput::Mean, 2);
    let mut params = init.finish(0);
    let kernel = params.layout().find("image/router/kernel").unwrap().param;
    params.view_mut(&kernel).copy_from_slice(&[1.0, 0.0, 0.0, 1.0]);
    let pool = Pool::new();
    let tape = Tape::inference(&params, &pool);
    // Means (1, 0) and (0, 2), which are the logits: gates 1/(1 + e⁻¹) and 1/(1 + e⁻²).
    let x_bld = tape.constant([2, 2, 2], &[2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 4.0]).unwrap();
    let routing = router.route(&x_bld, &Dial::default(), &mut Mode::Eval).unwrap();
    let rows = |expert| &routing.rows.rows()[routing.rows.group(expert)];
    assert_eq!((rows(0), rows(1)), (&[0, 1][..], &[2, 3][..]));
    let Mixing::Tokens(gates_n) = &routing.mixing else { panic!("tokens") };
    for (gate, want) in
        gates_n.values().iter().zip([0.731_058_6, 0.731_058_6, 0.880_797, 0.880_797])
    {
        assert!((gate - want).abs() < 1e-6, "{gate} for {want}");
    }
    assert_eq!(routing.logits.unwrap().values(), [1.0, 0.0, 0.0, 2.0]);
    let stats = routing.stats;
    assert_eq!((stats.asked_e, stats.tokens, stats.experts_b), (vec![2, 2], 4, vec![1, 1]));
}

#[test]
fn a_pooled_input_starts_as_the_mean() {
    let of = |input| {
        let config = model(by_image(input, 3, token_choice(1)));
        let (vit, params) = Vit::init(&config, 4).unwrap();
        let pool = Pool::new();
        let tape = Tape::inference(&params, &pool);
        let images = values(2 * 16, 5);
        let output = vit.forward(&tape, &images, &Dial::default(), &mut Mode::Eval).unwrap();
        output.image_logits_be.unwrap().values().to_vec()
    };
    for (pooled, mean) in of(ImageInput::Pooled).iter().zip(of(ImageInput::Mean)) {
        assert!((pooled - mean).abs() < 1e-5, "{pooled} for {mean}");
    }
}

/// Features of images, and the experts' loads of the last layer.
fn features(config: &ModelConfig, params: &Slab, images: &[f32]) -> (Vec<f32>, Vec<u64>) {
    let (vit, _) = Vit::new(config).unwrap();
    let pool = Pool::new();
    let tape = Tape::inference(params, &pool);
    let output = vit.forward(&tape, images, &Dial::default(), &mut Mode::Eval).unwrap();
    let (_, stats) = output.stats.last().unwrap();
    (output.features_bd.values().to_vec(), stats.seated_e.clone())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn an_image_alone_is_the_same_bits_as_among_others(
        b in 1_usize..9, e in 1_usize..6, k in 1_usize..4, is_random: bool, seed: u32,
    ) {
        let k = k.min(e);
        let router = match is_random {
            true => RouterConfig::Random(RandomConfig { num_selected: k }),
            false => token_choice(k),
        };
        for input in [ImageInput::Mean, ImageInput::Cls, ImageInput::Pooled] {
            let config = model(by_image(input, e, router));
            let (_, params) = Vit::init(&config, seed.into()).unwrap();
            let images = values(b * 16, u64::from(seed) + 1);
            let (together, loads) = features(&config, &params, &images);
            let one = |image: &[f32]| features(&config, &params, image).0;
            let alone: Vec<f32> = images.chunks(16).flat_map(one).collect();
            prop_assert_eq!(&together, &alone);
            // Five tokens each, all of an image or none.
            prop_assert_eq!(loads.iter().sum::<u64>() as usize, b * k * 5);
            prop_assert!(loads.iter().all(|load| load % 5 == 0));
        }
    }
}

#[test]
fn one_image_reads_its_expert_alone() {
    let config = model(by_image(ImageInput::Mean, 4, token_choice(1)));
    let (_, mut params) = Vit::init(&config, 2).unwrap();
    let image = values(16, 9);
    let (before, loads) = features(&config, &params, &image);
    let chosen = loads.iter().position(|load| *load > 0).unwrap();
    let layout = params.layout().clone();
    for view in layout.views().iter().filter(|view| view.name.contains("experts")) {
        let values = params.view_mut(&view.param);
        let expert = values.len() / 4;
        for (e, values) in values.chunks_mut(expert).enumerate().filter(|(e, _)| *e != chosen) {
            assert!(e < 4);
            values.fill(f32::NAN);
        }
    }
    assert_eq!(features(&config, &params, &image).0, before);
}

#[test]
fn random_experts_are_drawn_anew_in_training_and_by_the_image_in_evaluation() {
    let router = RouterConfig::Random(RandomConfig { num_selected: 2 });
    let config = by_image(ImageInput::Mean, 5, router);
    let mut init = Initializer::default();
    let router = ImageRouter::init(&mut init, &config, ImageInput::Mean, 3);
    let params = init.finish(0);
    assert_eq!(params.values().len(), 0);
    let route = |mode: &mut Mode<'_>| {
        let pool = Pool::new();
        let tape = Tape::inference(&params, &pool);
        let x_bld = tape.constant([200, 1, 3], &values(600, 1)).unwrap();
        let routing = router.route(&x_bld, &Dial::default(), mode).unwrap();
        let Mixing::Tokens(gates_n) = &routing.mixing else { panic!("tokens") };
        assert!(gates_n.values().iter().all(|gate| *gate == 0.5));
        assert_eq!(routing.stats.experts_b, vec![2; 200]);
        // 400 choices among 5: 80 each, with a deviation of √(200 · .4 · .6) = 7.
        assert!(routing.stats.asked_e.iter().all(|asked| (50..110).contains(asked)));
        routing.rows.rows().to_vec()
    };
    assert_eq!(route(&mut Mode::Eval), route(&mut Mode::Eval));
    let step = |step| route(&mut Mode::Train(&mut stream(0, Purpose::Model, step)));
    assert_eq!(step(3), step(3));
    assert_ne!(step(3), step(4));
    let none = Dial { num_selected: Some(6), ..Dial::default() };
    let pool = Pool::new();
    let tape = Tape::inference(&params, &pool);
    let x_bld = tape.constant([1, 1, 3], &[0.0; 3]).unwrap();
    assert_eq!(
        router.route(&x_bld, &none, &mut Mode::Eval).err().unwrap().to_string(),
        "random routing: expected 1 to 5 selected experts per token, got 6"
    );
}

/// As in `slopes.rs`: the loss of a small model changes along a direction as its gradient says.
#[test]
fn gradients_are_slopes_through_the_image_router_and_both_layers() {
    const H: f32 = 5e-4;
    for (input, parts) in [
        (ImageInput::Mean, &["image/router/kernel", "experts", "blocks/0"][..]),
        (ImageInput::Cls, &["image/router/kernel", "experts", "blocks/0"]),
        (ImageInput::Pooled, &["image/router/kernel", "image/score", "experts", "blocks/0"]),
    ] {
        let config = model(by_image(input, 3, token_choice(2)));
        let (vit, mut params) = Vit::init(&config, 11).unwrap();
        let len = params.values().len();
        params.values_mut().iter_mut().zip(values(len, 6)).for_each(|(p, v)| *p += 0.2 * v);
        let images = values(3 * 16, 7);
        let loss = |params: &Slab, grads: Option<&mut Slab>| -> f64 {
            let pool = Pool::new();
            let tape = Tape::recording(params, &pool);
            let output = vit.forward(&tape, &images, &Dial::default(), &mut Mode::Eval).unwrap();
            let factors: Vec<f64> = values(3 * 12, 8).iter().map(|v| f64::from(*v)).collect();
            let features = output.features_bd.values().iter();
            let exact = features.zip(&factors).map(|(y, c)| f64::from(*y) * c).sum();
            if let Some(grads) = grads {
                let loss = output.features_bd.dot_constant(&factors).unwrap();
                tape.backward(&loss, grads).unwrap();
            }
            exact
        };
        let mut grads = Slab::zeros(params.layout().clone());
        loss(&params, Some(&mut grads));
        for part in parts {
            let mut direction = vec![0.0; len];
            for view in params.layout().views().iter().filter(|view| view.name.contains(part)) {
                let range = view.param.range();
                direction[range.clone()].copy_from_slice(&values(range.len(), range.start as u64));
            }
            let at = |step: f32| {
                let mut moved = params.clone();
                moved.values_mut().iter_mut().zip(&direction).for_each(|(p, v)| *p += step * v);
                loss(&moved, None)
            };
            let by_difference = (at(H) - at(-H)) / f64::from(2.0 * H);
            let products = grads.values().iter().zip(&direction);
            let by_gradient: f64 = products.map(|(g, v)| f64::from(*g) * f64::from(*v)).sum();
            let error = (by_gradient - by_difference).abs() / by_difference.abs().max(0.1);
            assert!(error < 2e-2, "{input:?}, {part}: {by_gradient} for {by_difference}");
            assert!(by_gradient != 0.0, "{input:?}: no gradient of {part}");
        }
    }
}

#[test]
fn what_whole_images_cannot_be_routed_by_is_told_at_once() {
    let soft = RouterConfig::Soft(Default::default());
    let mut moe = by_image(ImageInput::Cls, 1, soft);
    moe.group = Group::Tokens { n: 5 };
    let config = ModelConfig { classifier: Classifier::Gap, ..model(moe) };
    assert_eq!(
        config.validate().unwrap_err().to_string(),
        "invalid configuration: model.moe.router: whole images choose for themselves, by token_choice, loss_free, \
         relu or random; model.moe.granularity.input `cls` needs a class token: set model.classifier=token; \
         whole images are routed in groups of images, not of tokens"
    );
    let balanced = RouterConfig::TokenChoice(TokenChoiceConfig {
        capacity: Capacity::Unlimited,
        ..TokenChoiceConfig::default()
    });
    let mut moe = by_image(ImageInput::Mean, 3, balanced);
    assert_eq!(
        model(moe.clone()).validate().unwrap_err().to_string(),
        "invalid configuration: model.moe.router.loss balances the images of a group, and model.moe.group.n=1 \
         leaves one: set it to train.batch_size, or the weights to 0"
    );
    moe.group = Group::Images { n: 8 };
    model(moe).validate().unwrap();
}
