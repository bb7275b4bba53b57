//! Bitwise: the future does not matter, nor do neighbours in the batch, nor the number of threads.

use super::models::{CONTEXT, VOCABULARY, all, tokens};
use sparsely::model::language::{LanguageConfig, LanguageModel, Memory, Tokens};
use sparsely::nn::Mode;
use sparsely_tensor::{Pool, Slab, Tape};

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Logits of one block of text for each sequence, and the memory after it.
fn run(
    model: &LanguageModel,
    params: &Slab,
    (ids, batch): (&[u32], usize),
    memory: Option<&Memory>,
) -> (Vec<u32>, Option<Memory>) {
    let pool = Pool::new();
    let tape = Tape::inference(params, &pool);
    let output = model.forward(&tape, Tokens { ids, batch }, memory, &mut Mode::Eval).unwrap();
    (bits(output.logits_tv.values()), output.memory)
}

fn each(mut check: impl FnMut(&str, &LanguageModel, &Slab)) {
    for (name, config) in all() {
        let (model, params) = LanguageModel::init(&config, 3).unwrap();
        check(name, &model, &params);
    }
}

#[test]
fn a_later_token_moves_no_earlier_output() {
    each(|name, model, params| {
        let memory = run(model, params, (&tokens(CONTEXT, 1), 1), None).1;
        for memory in [None, memory.as_ref()] {
            let ids = tokens(CONTEXT, 2);
            let (before, _) = run(model, params, (&ids, 1), memory);
            for changed in 0..CONTEXT {
                let mut other = ids.clone();
                other[changed] = (other[changed] + 1) % VOCABULARY as u32;
                let (after, _) = run(model, params, (&other, 1), memory);
                let cut = changed * VOCABULARY;
                assert!(after[..cut] == before[..cut], "{name}: token {changed}");
                assert!(after[cut..] != before[cut..], "{name}: token {changed} is not read");
            }
        }
    });
}

#[test]
fn a_sequence_has_the_bits_it_has_among_others() {
    each(|name, model, params| {
        let batch = 5;
        let ids = tokens(batch * CONTEXT, 4);
        let (all, memory) = run(model, params, (&ids, batch), None);
        let (next, _) = run(model, params, (&ids, batch), memory.as_ref());
        for (b, own) in ids.chunks(CONTEXT).enumerate() {
            let place = b * CONTEXT * VOCABULARY..(b + 1) * CONTEXT * VOCABULARY;
            let (alone, memory) = run(model, params, (own, 1), None);
            assert!(alone == all[place.clone()], "{name}: sequence {b}");
            let (alone, _) = run(model, params, (own, 1), memory.as_ref());
            assert!(alone == next[place], "{name}: sequence {b} after a memory");
        }
    });
}

/// Gradients of a step of a model with dropout everywhere.
fn gradients(config: &LanguageConfig) -> Vec<u32> {
    let (model, params) = LanguageModel::init(config, 3).unwrap();
    let pool = Pool::new();
    let tape = Tape::recording(&params, &pool);
    let mut draw = sparsely::rng::stream(1, sparsely::rng::Purpose::Model, 2);
    let (ids, batch) = (tokens(7 * CONTEXT, 5), 7);
    let before = run(&model, &params, (&ids, batch), None).1;
    let output = model
        .forward(&tape, Tokens { ids: &ids, batch }, before.as_ref(), &mut Mode::Train(&mut draw))
        .unwrap();
    let mut terms = output.losses;
    terms.push((output.logits_tv.token_cross_entropy(&ids).unwrap(), 1.0));
    let mut grads = Slab::zeros(params.layout().clone());
    tape.backward(&tape.weighted_sum(&terms).unwrap(), &mut grads).unwrap();
    bits(grads.values())
}

#[test]
fn a_step_has_the_same_bits_on_any_number_of_threads() {
    for (name, config) in all() {
        let config = LanguageConfig { dropout: 0.1, ..config };
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| gradients(&config))
        };
        let one = on(1);
        assert!(one.iter().any(|bits| f32::from_bits(*bits) != 0.0), "{name}");
        assert!(one == on(2) && one == on(3), "{name}");
    }
}
