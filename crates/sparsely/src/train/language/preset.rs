//! Runs on text by name: the rows of SwitchHead's tables, and small models for one machine.

use super::LanguageRunConfig;
use crate::attention::{
    AttentionConfig, DenseAttentionConfig, MoaConfig, MoaGate, RelativePositions, SwitchHeadConfig,
};
use crate::data::text::TokenizerConfig;
use crate::model::language::{DenseMlpConfig, LanguageConfig, MlpConfig};
use crate::moe::SigmaMoeConfig;
use crate::train::schedule::Decay;
use crate::train::{Optimizer, Schedule, Span, TrainConfig};

/// Pieces of the paper's sub-word vocabularies.
const PIECES: usize = 8000;
/// Tokens of a look at the validation text that does not hold a short run up.
const QUICK_LOOK: usize = 1 << 16;
const XL: RelativePositions = RelativePositions::TransformerXl;
const ROPE: RelativePositions = RelativePositions::Rope { fraction: 0.5 };

/// Depth, width, context, and whether there is a memory as long as the context.
type Class = ([usize; 3], bool);
const SMALL: Class = ([16, 412, 256], true);
const BIG: Class = ([18, 1024, 512], true);
const ENWIK8: Class = ([12, 512, 512], true);
const ROTARY: Class = ([16, 412, 512], false);
/// A few minutes on two cores.
const MINI: Class = ([4, 128, 128], true);
const MINI_ROTARY: Class = ([4, 128, 128], false);

/// Every name: what it is called, its sizes, attention, MLP.
fn rows() -> Vec<(&'static str, Class, AttentionConfig, MlpConfig)> {
    let sigma = |num_experts, expert_width| {
        MlpConfig::SigmaMoe(SigmaMoeConfig {
            num_experts,
            expert_width,
            num_selected: 4,
            ..SigmaMoeConfig::default()
        })
    };
    vec![
        ("xl-1m", MINI, dense([4, 32], XL), mlp(512)),
        ("switchhead-1m", MINI, switch([2, 28], [4, 2], XL), mlp(516)),
        ("switchall-1m", MINI, switch([2, 28], [4, 2], XL), sigma(16, 32)),
        ("moa-1m", MINI, moa([10, 4], 28), mlp(505)),
        ("rope-1m", MINI_ROTARY, dense([4, 32], ROPE), mlp(576)),
        ("switchhead-rope-1m", MINI_ROTARY, switch([2, 32], [4, 2], ROPE), mlp(504)),
        ("xl-47m", SMALL, dense([10, 41], XL), mlp(2053)),
        ("switchhead-47m", SMALL, switch([2, 76], [5, 3], XL), mlp(2080)),
        ("switchhead-wt103-47m", SMALL, switch([2, 76], [5, 2], XL), mlp(2080)),
        ("xl-262m", BIG, dense([16, 64], XL), mlp(4110)),
        ("switchhead-262m", BIG, switch([4, 112], [4, 2], XL), mlp(4188)),
        ("switchhead-wt103-262m", BIG, switch([2, 132], [8, 4], XL), mlp(4147)),
        ("moa-wt103-262m", BIG, moa([16, 8], 144), mlp(4147)),
        ("switchall-259m", BIG, switch([4, 112], [4, 2], XL), sigma(32, 128)),
        ("xl-enwik8", ENWIK8, dense([8, 64], XL), mlp(2053)),
        ("switchhead-enwik8", ENWIK8, switch([2, 112], [4, 2], XL), mlp(2088)),
        ("rope-45m", ROTARY, dense([10, 41], ROPE), mlp(2053)),
        ("switchhead-rope-45m", ROTARY, switch([2, 64], [5, 3], ROPE), mlp(2092)),
    ]
}

/// All names.
pub fn language_presets() -> Vec<&'static str> {
    rows().into_iter().map(|(name, ..)| name).collect()
}

/// The run of that name: `xl-`, `switchhead-`, `switchall-`, `moa-` and `rope-` with sizes of SwitchHead's
/// tables (Csordás et al. 2024, arXiv 2312.07987) and its recipe, or `1m` for a model of about a million
/// parameters that reads bytes and learns in minutes. All learn from the embedded novels unless they are
/// told otherwise.
pub fn language_preset(name: &str) -> Option<LanguageRunConfig> {
    let (_, class, attention, mlp) = rows().into_iter().find(|(known, ..)| *known == name)?;
    let ([depth, width, context], has_memory) = class;
    let memory = if has_memory { context } else { 0 };
    let is_mini = depth == MINI.0[0];
    let mut run = LanguageRunConfig {
        model: LanguageConfig {
            depth,
            width,
            context,
            memory,
            attention,
            mlp,
            dropout: match depth {
                _ if is_mini => 0.0,
                18 => 0.2,
                _ => 0.1,
            },
            ..LanguageConfig::default()
        },
        train: if is_mini { quick() } else { published(&class) },
        ..LanguageRunConfig::default()
    };
    if is_mini {
        run.eval.max_validation_tokens = Some(QUICK_LOOK);
    }
    if !(is_mini || class == ENWIK8) {
        run.data.tokenizer = TokenizerConfig::Bpe { pieces: PIECES };
    }
    Some(run)
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
fn published(class: &Class) -> TrainConfig {
    let is_big = *class == BIG;
    TrainConfig {
        length: Span::Steps { n: 100_000 },
        batch_size: if *class == ENWIK8 { 32 } else { 64 },
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

fn mlp(width: usize) -> MlpConfig {
    MlpConfig::Dense(DenseMlpConfig { width })
}

fn dense([heads, head_width]: [usize; 2], positions: RelativePositions) -> AttentionConfig {
    AttentionConfig::Dense(DenseAttentionConfig { heads, head_width, positions })
}

fn switch(
    [heads, head_width]: [usize; 2],
    [num_experts, num_selected]: [usize; 2],
    positions: RelativePositions,
) -> AttentionConfig {
    AttentionConfig::SwitchHead(SwitchHeadConfig {
        heads,
        head_width,
        num_experts,
        num_selected,
        positions,
        ..SwitchHeadConfig::default()
    })
}

fn moa([num_experts, num_selected]: [usize; 2], head_width: usize) -> AttentionConfig {
    AttentionConfig::Moa(MoaConfig {
        num_experts,
        num_selected,
        head_width,
        gate: MoaGate::Softmax,
        ..MoaConfig::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::language::LanguageModel;
    use std::path::Path;

    fn params(name: &str, vocabulary: usize) -> usize {
        let mut model = language_preset(name).unwrap().model;
        model.vocabulary = vocabulary;
        let layout = LanguageModel::layout(&model).unwrap();
        layout.views().iter().map(|view| view.param.shape().len()).sum()
    }

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

    #[test]
    fn rows_of_the_tables_have_the_parameters_that_they_tell() {
        // In units of 10,000, as printed.
        let told = [
            ("xl-47m", 8000, 4726),
            ("switchhead-47m", 8000, 4725),
            ("switchhead-wt103-47m", 8000, 4725),
            ("xl-262m", 8000, 26248),
            ("switchhead-262m", 8000, 26237),
            ("switchhead-wt103-262m", 8000, 26248),
            ("switchall-259m", 8000, 25948),
            ("xl-enwik8", 205, 4123),
            ("switchhead-enwik8", 205, 4116),
        ];
        for (name, vocabulary, printed) in told {
            let count = (params(name, vocabulary) as f64 / 1e4).round() as usize;
            assert_eq!(count, printed, "{name}");
        }
    }

    #[test]
    fn small_models_have_equal_parameters() {
        let names = language_presets();
        for name in names.iter().filter(|name| name.ends_with("-1m")) {
            let count = params(name, 257) as f64;
            assert!((count / params("xl-1m", 257) as f64 - 1.0).abs() < 0.01, "{name}: {count}");
        }
    }
}
