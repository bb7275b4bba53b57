//! What SwitchHead's routers may have beside their kernels: biases that balance, a loss on their usage, a context.

use super::cached::{assert_near, in_steps, whole};
use super::models::{CONTEXT, all, tokens};
use sparsely::attention::{AttentionConfig, GateContext, SwitchHeadConfig};
use sparsely::data::text::Block;
use sparsely::model::language::{
    LanguageConfig, LanguageModel, LanguageOutput, Memory, RoutedPart, Side, Tokens,
};
use sparsely::moe::RouterStats;
use sparsely::nn::Mode;
use sparsely::train::TrainConfig;
use sparsely::train::language::LanguageTrainer;
use sparsely_tensor::{Pool, Slab, Tape};

/// Two heads of three experts, of which a token takes two, in two blocks or as many as are named.
fn config(depth: usize, change: impl FnOnce(&mut SwitchHeadConfig)) -> LanguageConfig {
    let base = all().into_iter().find(|(name, _)| *name == "switch head xl").unwrap().1;
    let AttentionConfig::SwitchHead(mut attention) = base.attention else { unreachable!() };
    change(&mut attention);
    LanguageConfig { depth, attention: AttentionConfig::SwitchHead(attention), ..base }
}

fn view<'a>(params: &'a Slab, name: &str) -> &'a [f32] {
    params.view(&params.layout().find(name).unwrap_or_else(|| panic!("{name}")).param)
}

fn with_output<R>(
    (model, params): (&LanguageModel, &Slab),
    ids: &[u32],
    read: impl FnOnce(&LanguageOutput<'_>) -> R,
) -> R {
    let pool = Pool::new();
    let tape = Tape::inference(params, &pool);
    read(
        &model
            .forward(&tape, Tokens { ids, batch: ids.len() / CONTEXT }, None, &mut Mode::Eval)
            .unwrap(),
    )
}

#[test]
fn biases_of_each_head_and_side_move_towards_its_mean_load() {
    let (model, mut params) =
        LanguageModel::init(&config(2, |config| config.bias_rate = 0.5), 0).unwrap();
    let told = |side, asked_e: [u64; 6]| RoutedPart {
        block: 1,
        side,
        stats: RouterStats { asked_e: asked_e.to_vec(), ..RouterStats::default() },
        choices: None,
    };
    // Means of 2 in both heads.
    let parts =
        [told(Side::Source, [4, 2, 0, 1, 2, 3]), told(Side::Destination, [2, 2, 2, 0, 1, 5])];
    model.adapt(&mut params, &parts);
    let of = |name: &str| view(&params, name).to_vec();
    assert_eq!(of("blocks/1/attention/source_balance"), [-0.5, 0.0, 0.5, 0.5, 0.0, -0.5]);
    assert_eq!(of("blocks/1/attention/destination_balance"), [0.0, 0.0, 0.0, 0.5, 0.5, -0.5]);
    assert_eq!(of("blocks/0/attention/source_balance"), [0.0; 6]);
}

#[test]
fn biases_balance_heads_and_tokens_are_still_decoded_as_read() {
    let (model, mut params) =
        LanguageModel::init(&config(2, |config| config.bias_rate = 0.01), 4).unwrap();
    // A router that prefers its first expert.
    let kernel = params.layout().find("blocks/1/attention/destination_router").unwrap().param;
    params.view_mut(&kernel).chunks_mut(6).for_each(|row| row[0] += 0.3);
    let ids = tokens(8 * CONTEXT, 1);
    let mut rounds = |count: usize| {
        let mut sums = vec![RouterStats::default(); 4];
        for _ in 0..count {
            let told = with_output((&model, &params), &ids, |output| output.stats.clone());
            model.adapt(&mut params, &told);
            sums.iter_mut().zip(&told).for_each(|(sum, part)| sum.merge(&part.stats));
        }
        sums.iter().map(RouterStats::imbalance).fold(0.0, f64::max)
    };
    // Tokens that are alike move together, and biases go on to move: loads are balanced over rounds.
    let (first, _, last) = (rounds(1), rounds(100), rounds(100));
    assert!(first > 1.3 && last < 1.15, "{first} {last}");
    let expected = whole(&model, &params, (&ids[..15], 1), None).0;
    let got = in_steps(&model, &params, (&ids[..15], 1), &[4, 1], model.cache(1).unwrap());
    assert_near("balanced heads", &got, &expected);
}

#[test]
fn a_training_step_moves_the_biases() {
    let config = config(2, |config| config.bias_rate = 0.25);
    let train = TrainConfig { batch_size: 4, ..TrainConfig::default() };
    let model = LanguageModel::init(&config, 0).unwrap();
    let mut trainer = LanguageTrainer::new(model, train, 0, 10);
    let ids = tokens(4 * CONTEXT, 1);
    let block = Block { inputs: ids.clone(), targets: ids, is_first: true };
    let report = trainer.step(0, &block).unwrap();
    assert_eq!(report.stats.len(), 4);
    let biases = view(&trainer.learner.params, "blocks/0/attention/source_balance");
    // Each token chooses two of three experts.
    let expected = report.stats[0].1.asked_e.iter().map(|asked| match asked.cmp(&16) {
        std::cmp::Ordering::Less => 0.25,
        std::cmp::Ordering::Equal => 0.0,
        std::cmp::Ordering::Greater => -0.25,
    });
    assert_eq!(biases, expected.collect::<Vec<f32>>());
    assert!(biases.iter().any(|bias| *bias != 0.0));
}

#[test]
fn the_entropy_of_usage_is_a_loss_of_each_side_of_each_block() {
    let (model, params) =
        LanguageModel::init(&config(2, |config| config.entropy_weight = 0.1), 0).unwrap();
    let ids = tokens(4 * CONTEXT, 1);
    with_output((&model, &params), &ids, |output| {
        assert_eq!(output.losses.len(), 4);
        for (loss, weight) in &output.losses {
            // Two heads of three experts, used almost alike at the start: close to −2 ln 3.
            let (loss, least) = (loss.values()[0], -2.0 * 3.0_f32.ln());
            assert!(*weight == 0.1 && loss > least - 1e-5 && loss < 0.8 * least, "{loss}");
        }
    });
}

fn values(len: usize, seed: u64) -> Vec<f32> {
    use rand::{Rng, SeedableRng};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// What is remembered of a block of text of two sequences.
fn memory(model: &LanguageModel, params: &Slab) -> Memory {
    whole(model, params, (&tokens(2 * CONTEXT, 5), 2), None).1.unwrap()
}

/// ⟨c, logits⟩ in f64 of a block of text after a memory, and its gradient.
fn loss(model: &LanguageModel, params: &Slab, before: &Memory) -> (f64, Slab) {
    let ids = tokens(2 * CONTEXT, 7);
    let pool = Pool::new();
    let tape = Tape::recording(params, &pool);
    let tokens = Tokens { ids: &ids, batch: 2 };
    let output = model.forward(&tape, tokens, Some(before), &mut Mode::Eval).unwrap();
    let factors = values(output.logits_tv.shape().len(), 2);
    let factors: Vec<f64> = factors.iter().map(|v| f64::from(*v)).collect();
    let logits = output.logits_tv.values();
    let exact = logits.iter().zip(&factors).map(|(y, c)| f64::from(*y) * c).sum();
    let mut grads = Slab::zeros(params.layout().clone());
    let loss = output.logits_tv.dot_constant(&factors).unwrap();
    tape.backward(&loss, &mut grads).unwrap();
    (exact, grads)
}

/// The part of a gradient whose names contain `part`, less another one, as a direction of length 1.
fn direction(params: &Slab, part: &str, grads: &Slab, less: Option<&Slab>) -> Vec<f32> {
    let mut direction = vec![0.0; params.values().len()];
    for view in params.layout().views().iter().filter(|view| view.name.contains(part)) {
        for i in view.param.range() {
            direction[i] = grads.values()[i] - less.map_or(0.0, |less| less.values()[i]);
        }
    }
    let length = direction.iter().map(|v| v * v).sum::<f32>().sqrt();
    direction.iter_mut().for_each(|v| *v /= length);
    direction
}

/// The wiring through blocks, in single precision; the formula in double precision is a test beside it.
#[test]
fn the_gradient_of_a_context_is_the_slope_of_the_logits() {
    // Steps of 1e-2 cross corners of ReLU.
    const H: f32 = 1e-3;
    for (stop_gradient, width) in [(false, None), (false, Some(5)), (true, Some(5))] {
        let of = |stop_gradient| {
            let context = Some(GateContext { stop_gradient, width });
            // All experts are chosen, since a choice that changes within the difference has no slope.
            let change = |config: &mut SwitchHeadConfig| {
                (config.context, config.num_selected) = (context, config.num_experts);
            };
            LanguageModel::init(&config(2, change), 3).unwrap()
        };
        let (model, params) = of(stop_gradient);
        let before = memory(&model, &params);
        let grads = loss(&model, &params, &before).1;
        let stopped = loss(&of(true).0, &params, &before).1;
        let mut directions = vec![
            direction(&params, "source_context_router", &grads, None),
            direction(&params, "destination_context_router", &grads, None),
            direction(&params, "context_norm", &grads, None),
        ];
        if width.is_some() {
            directions.push(direction(&params, "context_compression", &grads, None));
        }
        if !stop_gradient {
            // What the block before learns by the context alone.
            directions.push(direction(&params, "blocks/0/attention", &grads, Some(&stopped)));
        }
        for (i, direction) in directions.iter().enumerate() {
            let products = grads.values().iter().zip(direction);
            let by_gradient: f64 = products.map(|(g, v)| f64::from(*g) * f64::from(*v)).sum();
            let at = |step: f32| {
                let mut moved = params.clone();
                moved.values_mut().iter_mut().zip(direction).for_each(|(p, v)| *p += step * v);
                loss(&model, &moved, &before).0
            };
            let by_difference = (at(H) - at(-H)) / f64::from(2.0 * H);
            // 276 logits around 1 with an error of some 1e-7 each, over 2H: about 1e-3.
            let error = (by_gradient - by_difference).abs() / by_difference.abs().max(0.1);
            let told = format!("{stop_gradient} {width:?} {i}: {by_gradient} for {by_difference}");
            assert!(error < 1e-2 && by_gradient != 0.0, "{told}");
        }
    }
}

#[test]
fn a_stopped_gradient_changes_what_is_learned_and_nothing_else() {
    let of = |stop_gradient| {
        let context = Some(GateContext { stop_gradient, width: None });
        let (model, params) =
            LanguageModel::init(&config(2, |config| config.context = context), 3).unwrap();
        let (value, grads) = loss(&model, &params, &memory(&model, &params));
        let own = view(&grads, "blocks/1/attention/source_context_router").to_vec();
        (value, own, view(&grads, "blocks/0/attention/outputs").to_vec())
    };
    let (flows, stops) = (of(false), of(true));
    assert_eq!((flows.0, &flows.1), (stops.0, &stops.1));
    assert_ne!(flows.2, stops.2);
}

#[test]
fn a_context_changes_the_choice_from_the_second_block_on() {
    let ids = tokens(4 * CONTEXT, 1);
    let choices = |context| {
        let (model, params) =
            LanguageModel::init(&config(2, |config| config.context = context), 3).unwrap();
        with_output((&model, &params), &ids, |output| {
            output
                .stats
                .iter()
                .map(|part| part.choices.clone().unwrap().experts_thk)
                .collect::<Vec<_>>()
        })
    };
    let (without, with) = (choices(None), choices(Some(GateContext::default())));
    assert_eq!(without[..2], with[..2]);
    assert!(without[2] != with[2] && without[3] != with[3]);
}
