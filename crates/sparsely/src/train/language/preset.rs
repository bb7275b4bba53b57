//! Runs on text by name: a model's preset with its text and its recipe.

use super::LanguageRunConfig;
use crate::data::text::TokenizerConfig;
use crate::model::language::{LanguageConfig, language_preset as model_preset};
use crate::train::schedule::Decay;
use crate::train::{Optimizer, Schedule, Span, TrainConfig};

/// Tokens of a look at the validation text that does not hold a short run up.
const QUICK_LOOK: usize = 1 << 16;
/// Width of the largest model that learns in minutes or hours on a few cores.
const SMALL_WIDTH: usize = 256;
/// Width from which the paper warms up and clips later.
const BIG_WIDTH: usize = 1000;
/// The largest vocabulary of a preset that reads bytes.
const BYTES: usize = 256;

/// The run of a model's name ([`crate::model::language::LANGUAGE_PRESETS`]): the models of SwitchHead's tables
/// (Csordás et al. 2024, arXiv 2312.07987) with its recipe, small ones with one for minutes. Byte models
/// read bytes, the others pieces that are learned from the text; all learn from the embedded novels unless
/// they are told otherwise.
pub fn language_preset(name: &str) -> Option<LanguageRunConfig> {
    let model = model_preset(name)?;
    let is_small = model.width <= SMALL_WIDTH;
    let train = if is_small { quick() } else { published(&model) };
    let mut run = LanguageRunConfig { train, ..LanguageRunConfig::default() };
    if is_small {
        run.eval.max_validation_tokens = Some(QUICK_LOOK);
    }
    if model.vocabulary > BYTES {
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
fn published(model: &LanguageConfig) -> TrainConfig {
    let is_big = model.width >= BIG_WIDTH;
    TrainConfig {
        length: Span::Steps { n: 100_000 },
        batch_size: if model.vocabulary <= BYTES { 32 } else { 64 },
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
    use crate::model::language::LANGUAGE_PRESETS;
    use std::path::Path;

    #[test]
    fn every_named_run_is_valid_and_reads_back() {
        for name in LANGUAGE_PRESETS {
            let run = language_preset(name).unwrap();
            run.validate().unwrap();
            let text = run.to_toml().unwrap();
            assert_eq!(LanguageRunConfig::from_toml(&text, Path::new("x")).unwrap(), run);
            assert_eq!(crate::config::overlay::apply_set(&run, &[]).unwrap(), run);
        }
        assert!(language_preset("digits").is_none());
    }
}
