//! Token by token is the whole text.

use super::models::{CONTEXT, VOCABULARY, all, tokens};
use proptest::prelude::*;
use sparsely::model::language::{Cache, LanguageModel, Memory, Tokens};
use sparsely::nn::{Mode, Precision};
use sparsely_tensor::{Pool, Slab, Tape};

const TOLERANCE: f32 = 1e-5;

/// Logits `[B, L, V]` of whole blocks of text, each with the memory of those before, and that memory.
pub(crate) fn whole(
    model: &LanguageModel,
    params: &Slab,
    (ids, batch): (&[u32], usize),
    mut memory: Option<Memory>,
) -> (Vec<f32>, Option<Memory>) {
    let length = ids.len() / batch;
    let mut logits = vec![Vec::new(); batch];
    let pool = Pool::new();
    for first in (0..length).step_by(CONTEXT) {
        let count = CONTEXT.min(length - first);
        let part: Vec<u32> =
            ids.chunks(length).flat_map(|own| own[first..first + count].to_vec()).collect();
        let tape = Tape::inference(params, &pool);
        let tokens = Tokens { ids: &part, batch };
        let output = model.forward(&tape, tokens, memory.as_ref(), &mut Mode::Eval).unwrap();
        let own = output.logits_tv.values().chunks(count * VOCABULARY);
        logits.iter_mut().zip(own).for_each(|(all, own)| all.extend_from_slice(own));
        memory = output.memory;
    }
    (logits.concat(), memory)
}

/// The same in steps of these lengths, the last repeated.
pub(crate) fn in_steps(
    model: &LanguageModel,
    params: &Slab,
    (ids, batch): (&[u32], usize),
    steps: &[usize],
    mut cache: Cache,
) -> Vec<f32> {
    let length = ids.len() / batch;
    let mut logits = vec![Vec::new(); batch];
    let pool = Pool::new();
    let mut steps = steps.iter().chain(std::iter::repeat(&1));
    let mut first = 0;
    while first < length {
        let count = (*steps.next().unwrap()).min(length - first);
        let part: Vec<u32> =
            ids.chunks(length).flat_map(|own| own[first..first + count].to_vec()).collect();
        let tape = Tape::inference(params, &pool);
        let own = model.step(&tape, Tokens { ids: &part, batch }, &mut cache).unwrap();
        let own = own.values().chunks(count * VOCABULARY);
        logits.iter_mut().zip(own).for_each(|(all, own)| all.extend_from_slice(own));
        first += count;
    }
    logits.concat()
}

pub(crate) fn assert_near(what: &str, ours: &[f32], whole: &[f32]) {
    assert_eq!(ours.len(), whole.len(), "{what}");
    let distance = |(a, b): (&f32, &f32)| (a - b).abs();
    let worst = ours.iter().zip(whole).map(distance).fold(0.0, f32::max);
    assert!(worst <= TOLERANCE, "{what}: {worst}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Any split of a text of several blocks, with a memory from before and without, of one sequence or more.
    #[test]
    fn any_split_of_a_text_has_the_logits_of_the_whole(
        steps in prop::collection::vec(1_usize..9, 1..6), length in 1_usize..20, batch in 1_usize..3,
        has_memory: bool, seed in 0_usize..1000,
    ) {
        for (name, config) in all() {
            let (model, params) = LanguageModel::init(&config, seed as u64).unwrap();
            let length = if config.memory == 0 { length.min(CONTEXT) } else { length };
            let ids = tokens(batch * length, seed);
            let before = tokens(batch * CONTEXT, seed + 1);
            let memory = has_memory.then(|| whole(&model, &params, (&before, batch), None).1).flatten();
            let expected = whole(&model, &params, (&ids, batch), memory.clone()).0;
            let pool = Pool::new();
            let tape = Tape::inference(&params, &pool);
            let cache = match &memory {
                Some(memory) => model.cache_after(&tape, memory),
                None => model.cache(batch),
            };
            let got = in_steps(&model, &params, (&ids, batch), &steps, cache.unwrap());
            assert_near(&format!("{name}, steps of {steps:?}"), &got, &expected);
        }
    }
}

/// Where an attention weight lies at the border of two bf16, one more key may move it to the other side: most logits
/// are those of the whole text to the last digits, all are near.
#[test]
fn a_text_in_bf16_is_read_in_bf16_from_a_cache_too() {
    let config = all().into_iter().find(|(name, _)| *name == "switch head xl").unwrap().1;
    let (model, params) = LanguageModel::init(&config, 0).unwrap();
    let model = model.with_precision(Precision::Bf16);
    let (before, ids) = (tokens(CONTEXT, 1), tokens(CONTEXT, 0));
    let (_, memory) = whole(&model, &params, (&before, 1), None);
    let (expected, _) = whole(&model, &params, (&ids, 1), memory.clone());
    let pool = Pool::new();
    let tape = Tape::inference(&params, &pool);
    let cache = model.cache_after(&tape, &memory.unwrap()).unwrap();
    let got = in_steps(&model, &params, (&ids, 1), &[1], cache);
    let apart: Vec<f32> = got.iter().zip(&expected).map(|(a, b)| (a - b).abs()).collect();
    let near = apart.iter().filter(|apart| **apart <= TOLERANCE).count();
    assert!(2 * near > apart.len(), "{near} of {} logits are those of the whole text", apart.len());
    assert!(apart.iter().all(|apart| *apart < 0.02), "{apart:?}");
}

#[test]
fn a_cache_holds_keys_and_mixed_values_alone() {
    // Two blocks, five tokens, keys and values of two heads of width 6: K experts cost nothing more.
    let config = all().into_iter().find(|(name, _)| *name == "switch head xl").unwrap().1;
    let (model, params) = LanguageModel::init(&config, 0).unwrap();
    let pool = Pool::new();
    let tape = Tape::inference(&params, &pool);
    let mut cache = model.cache(1).unwrap();
    model.step(&tape, Tokens::one(&tokens(5, 0)), &mut cache).unwrap();
    assert_eq!((cache.length(), cache.bytes()), (5, 2 * 5 * 2 * 12 * 4));
    // The block of text and its memory are all that stays, however long the text is.
    model.step(&tape, Tokens::one(&tokens(40, 0)), &mut cache).unwrap();
    assert_eq!(cache.length(), 45);
    assert!(cache.bytes() <= 2 * (2 * CONTEXT) * 2 * 12 * 4, "{}", cache.bytes());
}
