//! Does one expert an image pay, and who should choose it? (Mobile V-MoE, arXiv 2309.04354, section 3)
//!
//! All models of a study have equal FLOPs an image (K = 1) and the same parts but for the last blocks' experts
//! and their router. The paper found, on ImageNet-1k and over a dense model, +1.87 points of accuracy end to end,
//! +2.72 by super-classes and +3.15 with an expert for each token: these are the predictions.

mod grid;

use super::{Arm, Comparison, Curve, Least, Model, Panel, Point, Predicted, Study, SuperClasses};
use crate::data::{AugmentConfig, DataConfig};
use crate::eval::{EvalConfig, TimingConfig};
use crate::model::{Classifier, ModelConfig};
use crate::moe::router::RandomConfig;
use crate::moe::{
    Capacity, Dial, Granularity, Group, ImageInput, LossWeights, MoeConfig, Placement,
    RouterConfig, TokenChoiceConfig,
};
use crate::nn::Precision;
use crate::superclass::Method;
use crate::train::schedule::Decay;
use crate::train::{Schedule, Span, TrainConfig};

const BATCH: usize = 128;
const DENSE: &str = "dense";
const SUPER: &str = "super-class";
/// The paper's points over the dense model: end to end, by super-classes, an expert a token.
const PAPER: [f64; 3] = [1.87, 2.72, 3.15];
/// The balance loss's weight, as V-MoE's importance loss.
const BALANCE: f32 = 0.005;

/// Images and what their models look like.
struct Setting {
    name: &'static str,
    data: DataConfig,
    data_note: &'static str,
    num_classes: usize,
    /// Blocks and width.
    size: [usize; 2],
    image: [usize; 2],
    patch_size: usize,
    num_experts: usize,
    epochs: u64,
    /// Another label of each image.
    labels: Option<&'static str>,
}

/// CIFAR-100 and Fashion-MNIST in two sizes; then, of one seed, numbers of experts and layers, and shares of the
/// training images.
pub fn mobile() -> Vec<Study> {
    let large = |setting: Setting, name, epochs| Setting { name, size: [4, 96], epochs, ..setting };
    let mut studies = vec![
        arms(&cifar("mobile", 10)),
        arms(&large(cifar("", 0), "mobile-large", 4)),
        arms(&fashion("mobile-fashion", 5)),
        arms(&large(fashion("", 0), "mobile-fashion-large", 2)),
        grid::experts(),
        grid::layers(),
    ];
    studies.extend(grid::shares());
    studies
}

fn cifar(name: &'static str, epochs: u64) -> Setting {
    Setting {
        name,
        data: DataConfig {
            source: "cifar100".into(),
            label_column: "fine_label".into(),
            augment: AugmentConfig { crop_padding: 4, flip: true, ..AugmentConfig::default() },
            ..DataConfig::default()
        },
        data_note: "CIFAR-100 as the Hub's Parquet files (uoft-cs/cifar100) in a folder: --data FOLDER",
        num_classes: 100,
        size: [4, 64],
        image: [32, 3],
        patch_size: 8,
        // As many as there are coarse labels, so that all sources of super-classes have the same parameters.
        num_experts: 20,
        epochs,
        labels: Some("coarse_label"),
    }
}

fn fashion(name: &'static str, epochs: u64) -> Setting {
    Setting {
        name,
        data: DataConfig {
            source: "/usr/share/datasets/fashion-mnist".into(),
            augment: AugmentConfig { crop_padding: 2, flip: true, ..AugmentConfig::default() },
            ..DataConfig::default()
        },
        data_note: "Fashion-MNIST as IDX files (on Debian: apt-get install dataset-fashion-mnist)",
        num_classes: 10,
        image: [28, 1],
        patch_size: 7,
        num_experts: 5,
        labels: None,
        ..cifar(name, epochs)
    }
}

/// Who chooses: a model for each, three seeds.
fn arms(setting: &Setting) -> Study {
    let image = |router| Some(sparse(setting, router, Group::Images { n: 1 }));
    let balanced = |group| {
        let loss = LossWeights { importance: BALANCE, ..LossWeights::NONE };
        Some(sparse(setting, token_choice(1, loss), group))
    };
    let end_to_end = || image(token_choice(1, LossWeights::NONE));
    let token = end_to_end().map(|moe| MoeConfig { granularity: Granularity::Token, ..moe });
    let random = image(RouterConfig::Random(RandomConfig { num_selected: 1 }));
    let mut models = vec![
        model(setting, DENSE, None, None),
        model(setting, "end-to-end", end_to_end(), None),
        model(setting, "end-to-end-balanced", balanced(Group::Images { n: BATCH }), None),
        model(setting, "random-expert", random, None),
        model(setting, SUPER, end_to_end(), Some(confusions())),
        model(
            setting,
            "random-group",
            end_to_end(),
            Some(SuperClasses::Random { like: SUPER.into() }),
        ),
    ];
    if let Some(column) = setting.labels {
        let labels = SuperClasses::Labels { column: column.into() };
        models.push(model(setting, "coarse-label", end_to_end(), Some(labels)));
    }
    models.push(model(setting, "token", token, None));
    let mut study = described(setting, models, vec![0, 1, 2]);
    study.comparisons = comparisons(setting.labels.is_some());
    study
}

fn comparisons(has_labels: bool) -> Vec<Comparison> {
    let more = |points| Predicted::Difference { points };
    let [end_to_end, super_class, token] = PAPER;
    let mut predicted = vec![
        ("end to end − dense", "end-to-end", DENSE, more(end_to_end)),
        ("super-classes − dense", SUPER, DENSE, more(super_class)),
        ("an expert a token − dense", "token", DENSE, more(token)),
        ("super-classes − end to end", SUPER, "end-to-end", more(super_class - end_to_end)),
        ("an expert a token − super-classes", "token", SUPER, more(token - super_class)),
        ("super-classes − random groups", SUPER, "random-group", more(1.0)),
        ("end to end: balanced − without", "end-to-end-balanced", "end-to-end", more(0.5)),
        ("random expert − dense", "random-expert", DENSE, Predicted::Negligible { below: 1.0 }),
        ("end to end − random expert", "end-to-end", "random-expert", more(end_to_end)),
    ];
    if has_labels {
        let same = Predicted::Negligible { below: 1.0 };
        predicted.push(("coarse labels − super-classes", "coarse-label", SUPER, same));
    }
    let comparison = |(name, arm, baseline, predicted): (&str, &str, &str, Predicted)| {
        // The difference of the paper's numbers, without the noise of their binary form.
        let predicted = match predicted {
            Predicted::Difference { points } => more((points * 100.0).round() / 100.0),
            same => same,
        };
        Comparison { name: name.into(), arm: arm.into(), baseline: baseline.into(), predicted }
    };
    predicted.into_iter().map(comparison).collect()
}

/// By probabilities: a small validation set holds few mistakes of each pair of classes.
fn confusions() -> SuperClasses {
    SuperClasses::Confusions { of: DENSE.into(), method: Method::Spectral, by_probability: true }
}

fn token_choice(k: usize, loss: LossWeights) -> RouterConfig {
    RouterConfig::TokenChoice(TokenChoiceConfig {
        num_selected: k,
        noise_std: 0.0,
        capacity: Capacity::Unlimited,
        loss,
        ..TokenChoiceConfig::default()
    })
}

/// An expert an image in the last two blocks.
fn sparse(setting: &Setting, router: RouterConfig, group: Group) -> MoeConfig {
    MoeConfig {
        num_experts: setting.num_experts,
        granularity: Granularity::Image { input: ImageInput::Mean },
        placement: Placement::LastBlocks { n: 2 },
        group,
        router,
        ..MoeConfig::default()
    }
}

fn model(
    setting: &Setting,
    name: &str,
    moe: Option<MoeConfig>,
    super_classes: Option<SuperClasses>,
) -> Model {
    let ([depth, width], [image_size, channels]) = (setting.size, setting.image);
    let model = ModelConfig {
        image_size,
        channels,
        num_classes: Some(setting.num_classes),
        patch_size: setting.patch_size,
        depth,
        width,
        heads: width / 32,
        mlp_width: 4 * width,
        classifier: Classifier::Gap,
        moe,
        // Faster where the processor multiplies it (LOG.md).
        precision: Precision::Bf16,
        ..ModelConfig::default()
    };
    Model { name: name.into(), model, train: recipe(setting.epochs), super_classes }
}

fn recipe(epochs: u64) -> TrainConfig {
    TrainConfig {
        length: Span::Epochs { n: epochs },
        batch_size: BATCH,
        schedule: Schedule {
            lr_peak: 1e-3,
            warmup_steps: 30 * epochs,
            decay: Decay::Cosine { lr_end: 0.0 },
        },
        ..TrainConfig::default()
    }
}

/// An arm for each model, all in one panel; comparisons are the caller's.
fn described(setting: &Setting, models: Vec<Model>, seeds: Vec<u64>) -> Study {
    let least_seeds = seeds.len().min(2);
    let arm = |model: &Model| Arm {
        name: model.name.clone(),
        model: model.name.clone(),
        dial: Dial::default(),
    };
    let point = |model: &Model| Point { arm: model.name.clone(), label: model.name.clone() };
    let curve = |label: &str, is_own: &dyn Fn(&Model) -> bool| Curve {
        label: label.into(),
        points: models.iter().filter(|model| is_own(model)).map(point).collect(),
        is_scattered: true,
    };
    let is_image = |model: &Model| {
        model.model.moe.as_ref().is_some_and(|moe| moe.granularity != Granularity::Token)
    };
    let curves = vec![
        curve("dense", &|model| model.model.moe.is_none()),
        curve("an expert an image", &|m| is_image(m) && m.super_classes.is_none()),
        curve("an expert an image, taught", &|m| is_image(m) && m.super_classes.is_some()),
        curve("an expert a token", &|model| model.model.moe.is_some() && !is_image(model)),
    ];
    Study {
        name: setting.name.into(),
        question: "does one expert an image pay at equal FLOPs, and who should choose it?".into(),
        data: setting.data.clone(),
        data_note: setting.data_note.into(),
        seeds,
        arms: models.iter().map(arm).collect(),
        comparisons: Vec::new(),
        // One recipe for all: they differ in the last blocks' experts alone.
        tuning: None,
        least: Least { epochs: 2, seeds: least_seeds, train_images: 2_000, test_images: 1_000 },
        timing: TimingConfig { batch_size: 64, rounds: 21 },
        watts_per_core: EvalConfig::default().watts_per_core,
        panels: vec![Panel {
            title: "at equal training FLOPs".into(),
            curves: curves.into_iter().filter(|curve| !curve.points.is_empty()).collect(),
        }],
        models,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::Sizes;

    #[test]
    fn every_part_is_fair_and_whole() {
        for study in mobile() {
            let train = study.data.max_train_images.unwrap_or(45_000);
            let costs = study.check(&Sizes { train, validation: 5_000, test: 10_000 }).unwrap();
            assert_eq!(costs.len(), study.arms.len(), "{}", study.name);
            let drawn: usize = study.panels[0].curves.iter().map(|curve| curve.points.len()).sum();
            assert_eq!(drawn, study.arms.len(), "{}", study.name);
        }
    }

    #[test]
    fn the_predictions_are_the_papers() {
        let told: Vec<_> = comparisons(true)
            .iter()
            .map(|comparison| comparison.predicted.told("points"))
            .collect();
        let paper =
            ["+1.87 points", "+2.72 points", "+3.15 points", "+0.85 points", "+0.43 points"];
        assert_eq!(told[..5], paper);
    }

    #[test]
    fn groups_come_from_models_before() {
        let mut study = arms(&cifar("mobile", 2));
        study.models.swap(0, 4);
        assert_eq!(
            study.taught_problems(),
            ["model `super-class`: no model `dense` comes before it"]
        );
    }
}
