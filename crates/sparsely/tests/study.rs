//! Studies from plan to summary, on the embedded digits and on a small text.

#[path = "study/end_to_end.rs"]
mod end_to_end;
#[path = "study/fairness.rs"]
mod fairness;
#[path = "study/size.rs"]
mod size;
#[path = "study/taught.rs"]
mod taught;
#[path = "study/text.rs"]
mod text;

use sparsely::data::DataConfig;
use sparsely::eval::TimingConfig;
use sparsely::model::ModelConfig;
use sparsely::moe::{Capacity, Dial, Group, MoeConfig, Priority, RouterConfig, TokenChoiceConfig};
use sparsely::study::{
    Arm, Comparison, Curve, Least, Model, Panel, Point, Predicted, Study, Tuning,
};
use sparsely::train::{Interval, Schedule, Span, TrainConfig, schedule::Decay};

/// A V-MoE of seconds, trained with the given priority.
fn model(name: &str, priority: Priority) -> Model {
    let mut moe = MoeConfig { group: Group::Images { n: 8 }, ..MoeConfig::default() };
    let router = TokenChoiceConfig { priority, ..TokenChoiceConfig::default() };
    moe.router = RouterConfig::TokenChoice(router);
    let model = ModelConfig {
        width: 16,
        heads: 2,
        mlp_width: 32,
        depth: 2,
        moe: Some(MoeConfig {
            placement: sparsely::moe::Placement::LastN { n: 1 },
            num_experts: 4,
            ..moe
        }),
        ..ModelConfig::default()
    };
    let train = TrainConfig {
        length: Span::Epochs { n: 2 },
        batch_size: 32,
        schedule: Schedule {
            lr_peak: 3e-3,
            warmup_steps: 10,
            decay: Decay::Cosine { lr_end: 0.0 },
        },
        checkpoint_every: Interval::Steps { n: 10 },
        log_steps: 1,
        ..TrainConfig::default()
    };
    Model { name: name.into(), model, train, super_classes: None }
}

fn arm(name: &str, model: &str, capacity: f64) -> Arm {
    let dial = Dial {
        capacity: Some(Capacity::factor(capacity)),
        group: Some(Group::Images { n: 8 }),
        ..Dial::default()
    };
    Arm { name: name.into(), model: model.into(), dial }
}

/// Two models that were trained apart and a dial of one of them; every part of the frame takes
/// part.
fn tiny() -> Study {
    let comparison = |name: &str, arm: &str, baseline: &str, predicted| Comparison {
        name: name.into(),
        arm: arm.into(),
        baseline: baseline.into(),
        predicted,
    };
    let point = |arm: &str| Point { arm: arm.into(), label: arm.into() };
    Study {
        name: "tiny".into(),
        question: "does it run?".into(),
        data: DataConfig::default(),
        data_note: "the embedded digits".into(),
        seeds: vec![1, 2],
        models: vec![model("vanilla", Priority::Position), model("bpr", Priority::MaxGate)],
        arms: vec![
            arm("vanilla", "vanilla", 1.05),
            arm("bpr", "bpr", 1.05),
            arm("bpr-short", "bpr", 0.25),
        ],
        comparisons: vec![
            comparison("training", "bpr", "vanilla", Predicted::Difference { points: 1.0 }),
            comparison("dial", "bpr-short", "bpr", Predicted::Difference { points: -5.0 }),
        ],
        tuning: Some(Tuning { lr_peaks: vec![1e-3, 1e-2], seed: 7, length: 0.5 }),
        least: Least { epochs: 1, seeds: 2, train_images: 300, test_images: 100 },
        timing: TimingConfig { batch_size: 32, rounds: 3 },
        watts_per_core: 5.0,
        panels: vec![Panel {
            title: "all".into(),
            curves: vec![Curve {
                label: "arms".into(),
                points: vec![point("vanilla"), point("bpr"), point("bpr-short")],
                is_scattered: false,
            }],
        }],
    }
}
