//! Which router is best at equal FLOPs? (Routers in Vision Mixture of Experts, arXiv 2401.15969;
//! Soft MoE, arXiv 2308.00951, section 3.5)
//!
//! On CIFAR-100 in patches of 8: the six routers, a control that mixes slots without looking, and
//! two dense models, one of the active and one of all parameters. Each expert has one seat for
//! every E tokens, each router as many slots as there are tokens, so layers cost the same but for
//! the routing; what routing costs is paid in steps: all models get the same training FLOPs, and
//! the costliest sees [`EPOCHS`] epochs.

use super::{Arm, Comparison, Curve, Least, Model, Panel, Point, Predicted, Study, Tuning};
use crate::cost::{Call, ModelCost, training_flops};
use crate::data::{AugmentConfig, DataConfig};
use crate::eval::TimingConfig;
use crate::model::ModelConfig;
use crate::moe::router::{
    ExpertChoiceConfig, LossFreeConfig, PlanExpertChoice, PlanTokenChoice, ReluConfig, SoftConfig,
    SoftMixing,
};
use crate::moe::{
    Capacity, Dial, Group, MoeConfig, Placement, Priority, RouterConfig, TokenChoiceConfig,
};
use crate::train::schedule::Decay;
use crate::train::{Schedule, Span, TrainConfig};

const EPOCHS: u64 = 15;
/// Of 45,000: so that three seeds of all models take less than two hours.
const TRAIN_IMAGES: usize = 16_000;
const BATCH: usize = 128;
/// The group of the paper, and that of a single image.
const EIGHT: Group = Group::Images { n: 8 };
const ONE: Group = Group::Images { n: 1 };

/// What is trained, and how it is called in pictures.
struct Contestant {
    name: &'static str,
    label: &'static str,
    model: ModelConfig,
}

/// On CIFAR-100: 16 tokens an image, 8 experts in the last two of four blocks. The routers of the paper over three
/// seeds; then the others that there are, of one seed.
pub fn routers() -> Vec<Study> {
    let (papers, others) = (contestants(), others());
    let question = "which router is most accurate at equal training FLOPs?";
    vec![
        Study {
            comparisons: comparisons(),
            ..study(["routers", question], &papers, vec![0, 1, 2])
        },
        Study {
            comparisons: other_comparisons(),
            ..study(
                ["routers-more", "how do the other routers do under the same recipe?"],
                &others,
                vec![0],
            )
        },
    ]
}

fn study([name, question]: [&str; 2], contestants: &[Contestant], seeds: Vec<u64>) -> Study {
    let least_seeds = seeds.len().min(2);
    Study {
        name: name.into(),
        question: question.into(),
        data: DataConfig {
            source: "cifar100".into(),
            label_column: "fine_label".into(),
            max_train_images: Some(TRAIN_IMAGES),
            augment: AugmentConfig { crop_padding: 4, flip: true, ..AugmentConfig::default() },
            ..DataConfig::default()
        },
        data_note:
            "CIFAR-100 as the Hub's Parquet files (uoft-cs/cifar100) in a folder: --data FOLDER"
                .into(),
        seeds,
        models: at_equal_flops(contestants),
        arms: contestants.iter().map(arm).collect(),
        comparisons: Vec::new(),
        tuning: Some(Tuning { lr_peaks: vec![1e-3, 3e-3], seed: 1000, length: 0.2 }),
        least: Least {
            epochs: EPOCHS,
            seeds: least_seeds,
            train_images: 8_000,
            test_images: 2_000,
        },
        timing: TimingConfig { batch_size: 64, rounds: 21 },
        watts_per_core: crate::eval::EvalConfig::default().watts_per_core,
        panels: vec![panel(contestants)],
    }
}

fn dense() -> ModelConfig {
    ModelConfig {
        image_size: 32,
        channels: 3,
        num_classes: Some(100),
        patch_size: 8,
        depth: 4,
        width: 64,
        heads: 2,
        mlp_width: 128,
        moe: None,
        ..ModelConfig::default()
    }
}

/// Experts in the last two blocks.
fn sparse(router: RouterConfig, group: Group) -> ModelConfig {
    let placement = Placement::LastBlocks { n: 2 };
    ModelConfig {
        moe: Some(MoeConfig { router, group, placement, ..MoeConfig::default() }),
        ..dense()
    }
}

/// The dense model whose wider MLPs have the parameters of the experts.
fn wide() -> ModelConfig {
    let params = |config: &ModelConfig| {
        ModelCost::of(config, &Call::balanced(BATCH)).map_or(0, |cost| cost.params())
    };
    let aim = params(&sparse(RouterConfig::default(), ONE));
    let widths = (dense().mlp_width..).step_by(2);
    let models = widths.map(|mlp_width| ModelConfig { mlp_width, ..dense() });
    models.take(4096).min_by_key(|config| params(config).abs_diff(aim)).unwrap_or_else(dense)
}

fn contestants() -> Vec<Contestant> {
    let seats = Capacity::factor(1.0);
    let token = |priority| {
        let capacity = seats;
        RouterConfig::TokenChoice(TokenChoiceConfig {
            num_selected: 1,
            capacity,
            priority,
            ..TokenChoiceConfig::default()
        })
    };
    let expert = ExpertChoiceConfig { capacity: seats, ..ExpertChoiceConfig::default() };
    let expert = RouterConfig::ExpertChoice(expert);
    let sinkhorn_token = RouterConfig::SinkhornTokenChoice(PlanTokenChoice {
        num_selected: 1,
        capacity: seats,
        priority: Priority::MaxGate,
        ..PlanTokenChoice::default()
    });
    let sinkhorn_expert = RouterConfig::SinkhornExpertChoice(PlanExpertChoice {
        capacity: seats,
        ..PlanExpertChoice::default()
    });
    let sparse_expert = RouterConfig::SparseExpertChoice(PlanExpertChoice {
        capacity: seats,
        ..PlanExpertChoice::default()
    });
    let soft = |mixing| RouterConfig::Soft(SoftConfig { mixing, ..SoftConfig::default() });
    let bpr = token(Priority::MaxGate);
    let of = |name, label, model| Contestant { name, label, model };
    vec![
        of("dense", "dense", dense()),
        of("dense-wide", "dense, all parameters", wide()),
        of("token-vanilla", "token choice", sparse(token(Priority::Position), EIGHT)),
        of("token-bpr", "token choice, BPR", sparse(bpr, EIGHT)),
        of("token-bpr-1", "token choice, BPR, 1 image", sparse(bpr, ONE)),
        of("sinkhorn-token", "Sinkhorn token choice", sparse(sinkhorn_token, EIGHT)),
        of("expert", "expert choice", sparse(expert, EIGHT)),
        of("expert-1", "expert choice, 1 image", sparse(expert, ONE)),
        of("sinkhorn-expert", "Sinkhorn expert choice", sparse(sinkhorn_expert, EIGHT)),
        of("sparse-expert", "sparse-plan expert choice", sparse(sparse_expert, EIGHT)),
        of("soft", "Soft MoE", sparse(soft(SoftMixing::Soft), ONE)),
        of("uniform", "uniform mixing", sparse(soft(SoftMixing::Uniform), ONE)),
    ]
}

/// Routers that the paper does not compare.
fn others() -> Vec<Contestant> {
    let capacity = Capacity::factor(1.0);
    let sparse_token = RouterConfig::SparseTokenChoice(PlanTokenChoice {
        num_selected: 1,
        capacity,
        priority: Priority::MaxGate,
        ..PlanTokenChoice::default()
    });
    let loss_free = RouterConfig::LossFree(LossFreeConfig {
        num_selected: 1,
        capacity,
        priority: Priority::MaxGate,
        ..LossFreeConfig::default()
    });
    let relu = RouterConfig::Relu(ReluConfig { num_selected: 1.0, ..ReluConfig::default() });
    let of = |name, label, router| Contestant { name, label, model: sparse(router, EIGHT) };
    vec![
        of("sparse-token", "sparse-plan token choice", sparse_token),
        of("loss-free", "loss-free token choice", loss_free),
        of("relu", "ReLU routing", relu),
    ]
}

/// As many steps for each as the costliest of the paper's can take in [`EPOCHS`] epochs.
fn at_equal_flops(contestants: &[Contestant]) -> Vec<Model> {
    // A model that has no cost is refused when the study is checked.
    let flops = |model: &_| training_flops(model, &Dial::default(), BATCH).unwrap_or(f64::NAN);
    let costliest = flops(&wide());
    let steps = (EPOCHS * (TRAIN_IMAGES / BATCH) as u64) as f64;
    let models = contestants.iter().map(|contestant| Model {
        name: contestant.name.into(),
        model: contestant.model.clone(),
        train: recipe((steps * costliest / flops(&contestant.model)).round() as u64),
        super_classes: None,
    });
    models.collect()
}

/// A twentieth of warm-up; the rate is tuned.
fn recipe(steps: u64) -> TrainConfig {
    TrainConfig {
        length: Span::Steps { n: steps },
        batch_size: BATCH,
        schedule: Schedule {
            lr_peak: 1e-3,
            warmup_steps: steps / 20,
            decay: Decay::Cosine { lr_end: 0.0 },
        },
        ..TrainConfig::default()
    }
}

/// Evaluated as it was trained.
fn arm(contestant: &Contestant) -> Arm {
    let name: String = contestant.name.into();
    Arm { model: name.clone(), name, dial: Dial::default() }
}

/// The claims: expert over token choice; soft over sparse over dense; and that BPR closes the gap
/// between token and expert choice, as the original's own tables show.
fn comparisons() -> Vec<Comparison> {
    let more = |points| Predicted::Difference { points };
    let same = Predicted::Negligible { below: 0.5 };
    let predicted = [
        ("expert choice − token choice", "expert", "token-vanilla", more(0.5)),
        ("expert choice − token choice with BPR", "expert", "token-bpr", same),
        ("token choice: BPR − vanilla", "token-bpr", "token-vanilla", more(0.5)),
        ("Soft MoE − expert choice", "soft", "expert", more(1.0)),
        ("expert choice − dense", "expert", "dense", more(1.0)),
        ("Soft MoE − dense", "soft", "dense", more(2.0)),
        ("expert choice − dense of all parameters", "expert", "dense-wide", more(1.0)),
        ("Soft MoE − uniform mixing", "soft", "uniform", more(2.0)),
        ("Sinkhorn − softmax, token choice", "sinkhorn-token", "token-bpr", same),
        ("Sinkhorn − softmax, expert choice", "sinkhorn-expert", "expert", same),
        ("sparse plan − softmax, expert choice", "sparse-expert", "expert", same),
        ("token choice: groups of 8 − of 1", "token-bpr", "token-bpr-1", same),
        ("expert choice: groups of 8 − of 1", "expert", "expert-1", same),
    ];
    predicted.map(comparison).into()
}

/// One seed answers neither.
fn other_comparisons() -> Vec<Comparison> {
    let same = Predicted::Negligible { below: 1.0 };
    let predicted = [
        ("loss-free − sparse plan, token choice", "loss-free", "sparse-token", same),
        ("ReLU − loss-free", "relu", "loss-free", same),
    ];
    predicted.map(comparison).into()
}

fn comparison((name, arm, baseline, predicted): (&str, &str, &str, Predicted)) -> Comparison {
    Comparison { name: name.into(), arm: arm.into(), baseline: baseline.into(), predicted }
}

/// Points by family; nothing joins them.
fn panel(contestants: &[Contestant]) -> Panel {
    let families = [
        ("dense", "dense"),
        ("token choice", "token"),
        ("expert choice", "expert"),
        ("Sinkhorn", "sinkhorn"),
        ("sparse plan", "sparse"),
        ("slots", "soft uniform"),
        ("others", "loss relu"),
    ];
    let curves = families.map(|(label, starts)| {
        let is_in = |c: &&Contestant| starts.split(' ').any(|start| c.name.starts_with(start));
        let members = contestants.iter().filter(is_in);
        let points = members.map(|c| Point { arm: c.name.into(), label: c.label.into() });
        Curve { label: label.into(), points: points.collect(), is_scattered: true }
    });
    let curves = curves.into_iter().filter(|curve| !curve.points.is_empty()).collect();
    Panel { title: "at equal training FLOPs".into(), curves }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::Sizes;

    #[test]
    fn the_study_is_fair_and_every_arm_is_drawn() {
        let sizes = Sizes { train: TRAIN_IMAGES, validation: 5_000, test: 10_000 };
        let [papers, others] = &routers()[..] else { panic!("two studies") };
        let flops = |study: &Study| study.check(&sizes).unwrap()[0].flops;
        assert!((flops(others) / flops(papers) - 1.0).abs() < crate::study::MAX_FLOPS_GAP);
        for (study, count) in [(papers, 12), (others, 3)] {
            assert_eq!(study.arms.len(), count);
            let drawn: usize = study.panels[0].curves.iter().map(|curve| curve.points.len()).sum();
            assert_eq!(drawn, count);
        }
    }

    #[test]
    fn the_wide_model_has_the_parameters_of_the_experts() {
        let params = |config| ModelCost::of(&config, &Call::balanced(8)).unwrap().params() as f64;
        let experts = params(sparse(RouterConfig::default(), ONE));
        assert!((params(wide()) / experts - 1.0).abs() < 0.005);
        assert!(experts > 2.0 * params(dense()));
    }
}
