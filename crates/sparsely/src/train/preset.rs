//! Runs by name.

use super::language::language_presets;
use super::schedule::Decay;
use super::{Optimizer, RunConfig, Schedule, Span, TrainConfig};
use crate::cost::paper::LARGEST_CLASSES;
use crate::data::AugmentConfig;
use crate::model::{Classifier, ModelConfig, Variant};
use crate::moe::router::{Slots, SoftConfig};
use crate::moe::{
    Capacity, Granularity, Group, ImageInput, LossWeights, MoeConfig, Placement, RouterConfig,
    TokenChoiceConfig,
};
use crate::{Error, Result};

/// How alike a name must be for another to be meant by it, from 0 to 1.
const LIKENESS: f64 = 0.85;
/// Of Soft MoE's models.
const SOFT_EXPERTS: usize = 128;
/// Of Mobile V-MoE's models, on images of 1000 classes.
const MOBILE_EXPERTS: usize = 10;
const MOBILE_CLASSES: usize = 1000;

/// The run of that name: `digits`, or `vit-`, `vmoe-`, `soft-` or `mobile-` and a [`Variant`] such as `ti4` or `s32`.
///
/// `vmoe-` has 8 experts in the last two odd blocks, K = 2, routed over 8 images. `vmoe-15b` is the
/// paper's largest, which has its name from 32 experts in every second block and a head for the
/// classes of JFT-300M (Riquelme et al. 2021, arXiv 2106.05974).
///
/// `mobile-` routes whole images, once, to one of 10 experts in the last two blocks (Mobile V-MoE, arXiv
/// 2309.04354, section 3): end to end, or by the super-classes that the run is given.
///
/// `soft-` is Soft MoE: 128 experts of one slot in the last half of the blocks, normalised queries and
/// keys, the mean of the tokens classified.
///
/// # Errors
/// If there is none, with the names that there are and those that are nearest.
pub fn preset(name: &str) -> Result<RunConfig> {
    let sized = |variant: &str| variant.parse::<Variant>().ok();
    let (prefix, variant) = name.split_once('-').unwrap_or((name, ""));
    let size_is_15b = variant.to_ascii_lowercase().starts_with("15b");
    match (prefix, sized(variant)) {
        ("digits", None) if variant.is_empty() => Ok(digits()),
        ("vit", Some(variant)) => Ok(transformer(variant, None)),
        ("vmoe", Some(variant)) if size_is_15b => Ok(largest(variant)),
        ("vmoe", Some(variant)) => Ok(transformer(variant, Some(last_two()))),
        ("soft", Some(variant)) => Ok(soft(variant)),
        ("mobile", Some(variant)) => Ok(mobile(variant)),
        _ => Err(Error::Argument {
            op: "preset",
            expected:
                "`digits`, or `vit-`, `vmoe-`, `soft-` or `mobile-` with a size ti, s, b, l, h or 15b and a \
                       patch, such as `vmoe-ti4`, or blocks and width, such as `mobile-6x96` or `vit-6x96/4`, \
                       or a language model such as `switchhead-1m`"
                    .into(),
            got: format!("`{name}`{}", nearest(name)),
        }),
    }
}

/// `; did you mean …?` with the usual names that are most like `name`, if any is.
fn nearest(name: &str) -> String {
    let usual = ["ti4", "ti16", "s16", "s32", "b16", "b32", "l16", "l32", "h14", "15b"];
    let mobile = ["12x192", "9x192", "6x192", "12x96", "9x96", "6x96"];
    let sized = usual
        .iter()
        .flat_map(|size| [format!("vit-{size}"), format!("vmoe-{size}"), format!("soft-{size}")]);
    let mut alike: Vec<(f64, String)> = sized
        .chain(
            mobile.iter().flat_map(|size| [format!("mobile-{size}"), format!("mobile-{size}/4")]),
        )
        .chain(["digits".to_string()])
        .chain(language_presets().iter().map(ToString::to_string))
        .map(|known| (strsim::jaro_winkler(&name.to_ascii_lowercase(), &known), known))
        .filter(|(likeness, _)| *likeness >= LIKENESS)
        .collect();
    alike.sort_by(|a, b| b.0.total_cmp(&a.0));
    let names: Vec<_> = alike.iter().take(2).map(|(_, known)| format!("`{known}`")).collect();
    if names.is_empty() { String::new() } else { format!("; did you mean {}?", names.join(" or ")) }
}

/// The embedded digits in under two minutes on two cores.
fn digits() -> RunConfig {
    let mut run = RunConfig::default();
    run.data.augment =
        AugmentConfig { mixup_alpha: Some(0.2), label_smoothing: 0.1, ..AugmentConfig::default() };
    run.train = TrainConfig {
        length: Span::Epochs { n: 120 },
        batch_size: 32,
        validate_every: Span::Epochs { n: 5 },
        schedule: Schedule {
            lr_peak: 3e-3,
            warmup_steps: 60,
            decay: Decay::Cosine { lr_end: 0.0 },
        },
        ..TrainConfig::default()
    };
    run
}

fn last_two() -> MoeConfig {
    MoeConfig {
        group: Group::Images { n: 8 },
        placement: Placement::LastN { n: 2 },
        ..Default::default()
    }
}

/// Soft MoE's models (Puigcerver et al., arXiv 2308.00951, section 3.1).
fn soft(variant: Variant) -> RunConfig {
    let moe = MoeConfig {
        num_experts: SOFT_EXPERTS,
        group: Group::Images { n: 1 },
        placement: Placement::LastBlocks { n: variant.depth / 2 },
        router: RouterConfig::Soft(SoftConfig {
            slots: Slots::Exact { n: 1 },
            ..SoftConfig::default()
        }),
        ..MoeConfig::default()
    };
    let mut run = transformer(variant, Some(moe));
    run.model.classifier = Classifier::Gap;
    run.model.qk_norm = true;
    run
}

/// Mobile V-MoE's models (Daxberger et al., arXiv 2309.04354, section 3).
fn mobile(variant: Variant) -> RunConfig {
    let moe = MoeConfig {
        num_experts: MOBILE_EXPERTS,
        granularity: Granularity::Image { input: ImageInput::Mean },
        placement: Placement::LastBlocks { n: 2.min(variant.depth) },
        group: Group::Images { n: 1 },
        router: RouterConfig::TokenChoice(TokenChoiceConfig {
            num_selected: 1,
            noise_std: 0.0,
            capacity: Capacity::Unlimited,
            loss: LossWeights::NONE,
            ..TokenChoiceConfig::default()
        }),
        ..MoeConfig::default()
    };
    let mut run = transformer(variant, Some(moe));
    run.model.num_classes = Some(MOBILE_CLASSES);
    run
}

fn largest(variant: Variant) -> RunConfig {
    let placement = Placement::Every { n: 2 };
    let mut run =
        transformer(variant, Some(MoeConfig { num_experts: 32, placement, ..last_two() }));
    run.model.num_classes = Some(LARGEST_CLASSES);
    run
}

/// Steps of AdamW that suit images of a few ten thousand; V-MoE's own recipe is for 300 million.
fn transformer(variant: Variant, moe: Option<MoeConfig>) -> RunConfig {
    let small = variant.patch_size <= 8;
    let mut model = ModelConfig {
        image_size: if small { 32 } else { 224 },
        channels: 3,
        classifier: if small { Classifier::Gap } else { Classifier::Token },
        moe,
        ..ModelConfig::default()
    };
    variant.apply(&mut model);
    let mut run = RunConfig { model, ..RunConfig::default() };
    run.data.image_size = (!small).then_some(224);
    run.data.augment = AugmentConfig {
        crop_padding: if small { 4 } else { 16 },
        flip: true,
        label_smoothing: 0.1,
        ..Default::default()
    };
    run.train = TrainConfig {
        length: Span::Epochs { n: 30 },
        schedule: Schedule {
            lr_peak: 1e-3,
            warmup_steps: 500,
            decay: Decay::Cosine { lr_end: 0.0 },
        },
        optimizer: Optimizer::Adamw { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.05 },
        ..TrainConfig::default()
    };
    run
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::SuperClassLoss;

    #[test]
    fn every_named_run_is_valid() {
        for name in [
            "digits",
            "vit-ti4",
            "vmoe-ti4",
            "vmoe-s32",
            "vit-b16",
            "vmoe-l16",
            "vmoe-h14",
            "vmoe-15b14",
            "soft-ti4",
            "soft-s16",
            "soft-b16",
            "vmoe-15b",
            "mobile-12x192",
            "mobile-6x96",
            "mobile-6x96/4",
            "vit-9x192/4",
        ] {
            preset(name).unwrap().validate().unwrap();
        }
    }

    #[test]
    fn a_configuration_reads_back_as_it_was_written() {
        let mut unclipped = preset("digits").unwrap();
        unclipped.train.clip_norm = None;
        unclipped.model.num_classes = None;
        let mut taught = preset("mobile-6x96/4").unwrap();
        let groups = vec![vec!["cat".to_string(), "dog".to_string()], vec!["car".to_string()]];
        taught.train.super_classes = Some(SuperClassLoss { groups, ..Default::default() });
        for run in [
            preset("digits"),
            preset("vit-ti4"),
            preset("vmoe-s32"),
            preset("soft-s16"),
            preset("mobile-6x96"),
            Ok(taught),
            Ok(unclipped),
        ] {
            let run = run.unwrap();
            let text = run.to_toml().unwrap();
            assert_eq!(RunConfig::from_toml(&text, std::path::Path::new("x")).unwrap(), run);
            assert_eq!(crate::config::overlay::apply_set(&run, &[]).unwrap(), run);
        }
    }

    #[test]
    fn an_unknown_run_is_refused_with_the_names() {
        assert_eq!(
            preset("vmoe-x4").unwrap_err().to_string(),
            "preset: expected `digits`, or `vit-`, `vmoe-`, `soft-` or `mobile-` with a size ti, s, b, l, h \
             or 15b and a patch, such as `vmoe-ti4`, or blocks and width, such as `mobile-6x96` or \
             `vit-6x96/4`, or a language model such as `switchhead-1m`, got `vmoe-x4`; did you mean `vmoe-ti4` or `vmoe-h14`?"
        );
    }
}
