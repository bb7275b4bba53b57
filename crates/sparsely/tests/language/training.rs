//! Slopes, learning, and what training alone does.

use super::models::{CONTEXT, all, tokens};
use sparsely::attention::{AttentionConfig, SwitchHeadConfig};
use sparsely::model::language::{LanguageConfig, LanguageModel, Side, Tokens};
use sparsely::nn::Mode;
use sparsely::rng::{Purpose, stream};
use sparsely_tensor::optim::{Moments, Rule, Step};
use sparsely_tensor::{Pool, Slab, Tape};

fn step(model: &LanguageModel, params: &Slab, ids: &[u32], batch: usize) -> (f32, Slab) {
    let pool = Pool::new();
    let tape = Tape::recording(params, &pool);
    let tokens = Tokens { ids, batch };
    let output = model.forward(&tape, tokens, None, &mut Mode::Eval).unwrap();
    // The token after each; of the last the first.
    let length = ids.len() / batch;
    let targets: Vec<u32> = ids
        .chunks(length)
        .flat_map(|own| (1..=length).map(|i| own[i % length]).collect::<Vec<_>>())
        .collect();
    let mut terms = output.losses;
    terms.push((output.logits_tv.token_cross_entropy(&targets).unwrap(), 1.0));
    let loss = tape.weighted_sum(&terms).unwrap();
    let mut grads = Slab::zeros(params.layout().clone());
    tape.backward(&loss, &mut grads).unwrap();
    (loss.values()[0], grads)
}

#[test]
fn every_kind_of_model_learns_a_text_by_heart() {
    for (name, config) in all() {
        let (model, mut params) = LanguageModel::init(&config, 1).unwrap();
        let ids = tokens(2 * CONTEXT, 1);
        let mut moments = Moments::zeros(&params);
        let first = step(&model, &params, &ids, 2).0;
        for number in 1..=60 {
            let grads = step(&model, &params, &ids, 2).1;
            let rule = Rule::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 };
            let step = Step { rule, lr: 1e-2, decay: 0.0, number, grad_scale: 1.0 };
            step.apply(&mut params, &grads, &mut moments);
        }
        let last = step(&model, &params, &ids, 2).0;
        assert!(last < 0.4 * first, "{name}: from {first} to {last}");
    }
}

#[test]
fn every_parameter_of_a_model_has_a_gradient_but_those_that_rules_move() {
    for (name, config) in all() {
        let (model, params) = LanguageModel::init(&config, 1).unwrap();
        let grads = step(&model, &params, &tokens(4 * CONTEXT, 1), 4).1;
        for view in params.layout().views().iter().filter(|view| !view.frozen) {
            let grad = grads.view(&view.param);
            assert!(grad.iter().any(|g| *g != 0.0), "{name}: {}", view.name);
        }
    }
}

#[test]
fn expert_dropout_changes_the_choice_in_training_alone() {
    let attention = AttentionConfig::SwitchHead(SwitchHeadConfig {
        heads: 2,
        head_width: 6,
        expert_dropout: 0.5,
        ..SwitchHeadConfig::default()
    });
    let config = LanguageConfig { attention, context: 64, ..all().remove(0).1 };
    let (model, params) = LanguageModel::init(&config, 1).unwrap();
    let pool = Pool::new();
    let tape = Tape::inference(&params, &pool);
    let ids = tokens(64, 1);
    let asked = |mode: &mut Mode<'_>| {
        let output = model.forward(&tape, Tokens::one(&ids), None, mode).unwrap();
        let source = output.stats.into_iter().find(|part| part.side == Side::Source).unwrap();
        // Two experts of each of two heads for each token.
        assert_eq!(source.stats.asked_e.iter().sum::<u64>(), 2 * 2 * 64);
        source.stats.asked_e
    };
    let draw = |counter| asked(&mut Mode::Train(&mut stream(0, Purpose::Model, counter)));
    let (one, again, two) = (draw(1), draw(1), draw(2));
    assert_eq!(one, again);
    assert_ne!(one, two);
    assert_eq!(asked(&mut Mode::Eval), asked(&mut Mode::Eval));
}
