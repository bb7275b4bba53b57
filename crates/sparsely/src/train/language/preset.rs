//! Runs on text by name: a model and how it learns.

use super::LanguageRunConfig;
use crate::data::text::TokenizerConfig;
use crate::model::language::{self, LANGUAGE_PRESETS, LanguageConfig};
use crate::train::schedule::Decay;
use crate::train::{Optimizer, Schedule, Span, TrainConfig};

/// Wider models are the paper's big ones.
const BIG_WIDTH: usize = 1000;
/// Tokens of a look at the validation text that does not hold a short run up.
const QUICK_LOOK: usize = 1 << 16;

/// All names: those of the models.
pub fn language_presets() -> &'static [&'static str] {
    &LANGUAGE_PRESETS
}

/// The run that trains the model of that name ([`language::language_preset`]): those of SwitchHead's tables
/// (Csordás et al. 2024, arXiv 2312.07987) by its recipe, those of one and five million parameters in
/// minutes. All learn from the embedded novels unless they are told otherwise.
pub fn language_preset(name: &str) -> Option<LanguageRunConfig> {
    let model = language::language_preset(name)?;
    let is_small = name.ends_with("-1m") || name.ends_with("-5m");
    let reads_bytes = name.ends_with("-1m") || name.contains("enwik8");
    let mut run = LanguageRunConfig {
        train: if is_small { quick() } else { published(&model, reads_bytes) },
        ..LanguageRunConfig::default()
    };
    if is_small {
        run.eval.max_validation_tokens = Some(QUICK_LOOK);
    }
    if !reads_bytes {
        run.data.tokenizer = TokenizerConfig::Bpe { pieces: model.vocabulary };
    }
    Some(LanguageRunConfig { model, ..run })
}

fn quick() -> TrainConfig {
    TrainConfig {
        length: Span::Epochs { n: 4 },
        batch_size: 16,
        optimizer: adam(),
        schedule: Schedule {
            lr_peak: 2e-3,
            warmup_steps: 100,
            decay: Decay::Cosine { lr_end: 0.0 },
        },
        clip_norm: Some(0.25),
        ..TrainConfig::default()
    }
}

/// The paper's recipe (its appendix): the big models warm up and are clipped later.
fn published(model: &LanguageConfig, reads_bytes: bool) -> TrainConfig {
    let is_big = model.width >= BIG_WIDTH;
    TrainConfig {
        length: Span::Steps { n: 100_000 },
        batch_size: if reads_bytes { 32 } else { 64 },
        optimizer: adam(),
        schedule: Schedule {
            lr_peak: 2.5e-4,
            warmup_steps: if is_big { 4000 } else { 0 },
            decay: Decay::Cosine { lr_end: 0.0 },
        },
        clip_norm: Some(if is_big { 0.25 } else { 0.1 }),
        validate_every: Span::Steps { n: 2500 },
        ..TrainConfig::default()
    }
}

fn adam() -> Optimizer {
    Optimizer::Adamw { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_named_run_is_valid_and_reads_back() {
        for name in language_presets() {
            let run = language_preset(name).unwrap();
            run.validate().unwrap();
            let text = run.to_toml().unwrap();
            assert_eq!(LanguageRunConfig::from_toml(&text, Path::new("x")).unwrap(), run);
            assert_eq!(crate::config::overlay::apply_set(&run, &[]).unwrap(), run);
        }
        assert!(language_preset("digits").is_none());
    }
}
