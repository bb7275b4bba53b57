//! What is refused, in whole sentences.

use super::models::{CONTEXT, all, tokens};
use sparsely::model::language::{LanguageConfig, LanguageModel, Memory, Tokens};
use sparsely::nn::Mode;
use sparsely_tensor::{Pool, Tape};

fn config(name: &str) -> LanguageConfig {
    all().into_iter().find(|(own, _)| *own == name).unwrap().1
}

fn says<T>(result: sparsely::Result<T>, message: &str) {
    assert_eq!(result.err().unwrap().to_string(), message);
}

#[test]
fn tokens_and_memories_that_do_not_fit() {
    let (model, params) = LanguageModel::init(&config("switch head xl"), 0).unwrap();
    let pool = Pool::new();
    let tape = Tape::inference(&params, &pool);
    let forward = |ids: &[u32], batch, memory: Option<&Memory>| {
        model.forward(&tape, Tokens { ids, batch }, memory, &mut Mode::Eval)
    };
    says(
        forward(&tokens(CONTEXT + 1, 0), 1, None),
        "language model: expected at most 6 tokens, the context of the model, got 7",
    );
    says(
        forward(&[1, 23], 1, None),
        "language model: expected tokens below 23, the vocabulary of the model, got 23",
    );
    says(
        forward(&[1, 2, 3], 2, None),
        "language model: expected sequences of one length, at least one token each, got 3 tokens for 2 sequences",
    );
    let memory = forward(&[1, 2], 1, None).unwrap().memory;
    says(
        forward(&[1, 2], 2, memory.as_ref()),
        "memory of a language model: expected the memory of 2 sequences in 2 blocks of width 20, at most 6 \
         tokens, got 1 sequences, 2 blocks, 2 tokens",
    );
    says(model.cache(0), "cache: expected at least one sequence, got 0");
    let mut cache = model.cache(2).unwrap();
    says(
        model.step(&tape, Tokens::one(&[1]), &mut cache),
        "decoding: expected 2 sequences, those of the cache, got 1",
    );
}

#[test]
fn a_memory_without_the_contexts_that_routers_read() {
    let (model, params) = LanguageModel::init(&config("gates with a context"), 0).unwrap();
    let pool = Pool::new();
    let tape = Tape::inference(&params, &pool);
    let forward = |memory: Option<&Memory>| {
        model.forward(&tape, Tokens::one(&[1, 2]), memory, &mut Mode::Eval)
    };
    let mut memory = forward(None).unwrap().memory.unwrap();
    // The first block reads none.
    let lengths: Vec<usize> = memory.contexts.iter().map(Vec::len).collect();
    assert_eq!(lengths, [0, 2 * 20, 2 * 20]);
    assert!(forward(Some(&memory)).is_ok());
    memory.contexts[1].clear();
    says(
        forward(Some(&memory)),
        "memory of a language model: expected the memory of 1 sequences in 3 blocks of width 20, with the \
         contexts of 2, at most 6 tokens, got 1 sequences, 3 blocks, 2 tokens",
    );
}

#[test]
fn a_model_without_memory_ends_with_its_context() {
    let (model, params) = LanguageModel::init(&config("rope without memory"), 0).unwrap();
    let pool = Pool::new();
    let tape = Tape::inference(&params, &pool);
    let mut cache = model.cache(1).unwrap();
    model.step(&tape, Tokens::one(&tokens(5, 0)), &mut cache).unwrap();
    says(
        model.step(&tape, Tokens::one(&[1, 2]), &mut cache),
        "decoding: expected at most 6 tokens in all, the context of the model, got 7",
    );
    // What was refused was not read.
    assert_eq!(cache.length(), 5);
    model.step(&tape, Tokens::one(&[1]), &mut cache).unwrap();
}
