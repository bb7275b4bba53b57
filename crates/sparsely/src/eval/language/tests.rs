//! One text, read in three ways: evaluated, scored, and decoded from a cache.

use super::*;
use crate::data::text::{Corpus, TextConfig, TokensFile};
use crate::model::language::{LanguageConfig, LanguageModel, Tokens};
use sparsely_tensor::{Pool, Slab, Tape};

/// A fresh model of bytes with a context of 8 and a memory of `memory`.
fn model(memory: usize) -> (LanguageModel, Slab) {
    let mut config = LanguageConfig {
        vocabulary: 257,
        width: 16,
        depth: 2,
        context: 8,
        memory,
        ..LanguageConfig::default()
    };
    if memory == 0 {
        let positions = crate::attention::RelativePositions::Rope { fraction: 0.5 };
        config.attention =
            crate::attention::AttentionConfig::Dense(crate::attention::DenseAttentionConfig {
                heads: 2,
                head_width: 8,
                positions,
            });
    }
    LanguageModel::init(&config, 0).unwrap()
}

fn with_text<R>(text: &str, read: impl FnOnce(&TokensFile) -> R) -> R {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.txt");
    std::fs::write(&path, text).unwrap();
    let source = path.to_str().unwrap().into();
    let config = TextConfig {
        source,
        validation_fraction: 0.0,
        test_fraction: 0.0,
        ..TextConfig::default()
    };
    read(&Corpus::prepare(&config, None, &folder.path().join("run")).unwrap().train)
}

const TEXT: &str = "It is a truth universally acknowledged, that a single man";

#[test]
fn a_text_with_memory_is_as_likely_evaluated_as_scored_and_decoded() {
    let (model, params) = model(8);
    let pool = Pool::new();
    with_text(TEXT, |file| {
        let mut tokens = Vec::new();
        file.append(0, file.len(), &mut tokens);
        let config = LanguageEvalConfig::default();
        let evaluation = evaluate_text((&model, &params), file, None, &config).unwrap();
        assert_eq!(evaluation.tokens as usize, TEXT.len() + 1);
        let evaluated = -evaluation.loss * evaluation.tokens as f64;

        let text = ScoredText { tokens: tokens.clone(), from: 1 };
        let scored = log_probabilities((&model, &params), &text, &pool).unwrap();
        assert!((scored.iter().sum::<f64>() - evaluated).abs() < 1e-9 * evaluated.abs());
        let last = ScoredText { tokens: tokens.clone(), from: tokens.len() - 3 };
        let tail = log_probabilities((&model, &params), &last, &pool).unwrap();
        assert_eq!(tail, scored[scored.len() - 3..]);

        let mut cache = model.cache(1).unwrap();
        let mut decoded = 0.0;
        for pair in tokens.windows(2) {
            let tape = Tape::inference(&params, &pool);
            let logits = model.step(&tape, Tokens::one(&pair[..1]), &mut cache).unwrap();
            decoded -= logits.token_losses(&pair[1..]).unwrap()[0];
        }
        assert!((decoded - evaluated).abs() < 1e-4 * evaluated.abs(), "{decoded} {evaluated}");

        // Rows that begin without a memory see less.
        let rows = LanguageEvalConfig { batch_size: 3, ..config };
        let in_rows = evaluate_text((&model, &params), file, None, &rows).unwrap();
        assert_eq!(in_rows.tokens, evaluation.tokens);
        assert!(in_rows.loss != evaluation.loss && (in_rows.loss - evaluation.loss).abs() < 0.1);
    });
}

#[test]
fn without_memory_what_is_scored_sees_as_much_as_the_context_holds() {
    let (model, params) = model(0);
    let pool = Pool::new();
    let tokens: Vec<u32> = TEXT.bytes().map(u32::from).collect();
    let of = |tokens: &[u32], from| {
        let text = ScoredText { tokens: tokens.to_vec(), from };
        log_probabilities((&model, &params), &text, &pool)
    };
    let end = tokens.len();
    // Nine tokens: the last eight are predicted, by at most eight before them.
    assert_eq!(of(&tokens, end - 2).unwrap(), of(&tokens[end - 9..], 7).unwrap());
    assert_eq!(of(&tokens, end - 8).unwrap().len(), 8);
    assert_eq!(
        of(&tokens, end - 9).unwrap_err().to_string(),
        "score: expected a text within the context of 8 tokens, got one of 9"
    );
}

#[test]
fn a_part_of_a_text_has_no_bytes() {
    let (model, params) = model(8);
    with_text(TEXT, |file| {
        let config = LanguageEvalConfig::default();
        let part = evaluate_text((&model, &params), file, Some(20), &config).unwrap();
        assert_eq!((part.tokens, part.bytes, part.bits_per_byte), (20, None, None));
    });
}

#[test]
fn losses_of_blocks_cover_the_text_once_in_order() {
    let (model, params) = model(8);
    with_text(TEXT, |file| {
        for batch_size in [1, 3] {
            let config = LanguageEvalConfig { batch_size, ..LanguageEvalConfig::default() };
            let (whole, blocks) = evaluate_blocks((&model, &params), file, None, &config).unwrap();
            let mut next = 0;
            for block in &blocks {
                assert_eq!(block.first, next);
                next += block.tokens;
            }
            assert_eq!(next, file.len() - 1);
            let nats: f64 = blocks.iter().map(|block| block.nats).sum();
            assert!((nats - whole.loss * next as f64).abs() < 1e-9 * nats);
        }
    });
}
