//! Does Batch Prioritized Routing save accuracy where capacity is short? (V-MoE, arXiv 2106.05974,
//! section 4)
//!
//! A V-MoE is trained with vanilla priority, K = 2 and a capacity factor of 1.05 in groups of 8
//! images, as in the paper, and evaluated in groups of 8 images with fewer or more experts and less
//! capacity, with either priority. Nothing is trained again.

use super::dials::Grid;
use super::{Arm, Comparison, Least, Model, Predicted, Study};
use crate::data::{AugmentConfig, DataConfig};
use crate::eval::TimingConfig;
use crate::model::ModelConfig;
use crate::moe::{Dial, Group, MoeConfig, Placement};
use crate::train::schedule::Decay;
use crate::train::{Schedule, Span, TrainConfig};

/// Images that compete for the same seats, in training and in evaluation.
const GROUP: Group = Group::Images { n: 8 };
const MODEL: &str = "vmoe";

/// On Fashion-MNIST: 49 tokens an image, 8 experts in two of four blocks.
pub fn bpr() -> Study {
    let model = ModelConfig {
        image_size: 28,
        patch_size: 4,
        depth: 4,
        width: 64,
        heads: 2,
        mlp_width: 128,
        moe: Some(experts()),
        ..ModelConfig::default()
    };
    let augment = AugmentConfig { crop_padding: 2, flip: true, ..AugmentConfig::default() };
    Study {
        name: "bpr".into(),
        data: DataConfig {
            source: "/usr/share/datasets/fashion-mnist".into(),
            augment,
            ..DataConfig::default()
        },
        data_note: "Fashion-MNIST as IDX files (on Debian: apt-get install dataset-fashion-mnist)"
            .into(),
        models: vec![Model {
            name: MODEL.into(),
            model,
            train: recipe([16, 128], [2e-3, 400.0]),
            super_classes: None,
        }],
        least: Least { epochs: 15, seeds: 2, train_images: 10_000, test_images: 2_000 },
        ..described()
    }
}

/// The same in minutes, on the embedded digits: 16 tokens an image.
pub fn bpr_digits() -> Study {
    let model = ModelConfig {
        width: 32,
        heads: 2,
        mlp_width: 64,
        moe: Some(experts()),
        ..ModelConfig::default()
    };
    Study {
        name: "bpr-digits".into(),
        data: DataConfig::default(),
        data_note: "the embedded digits".into(),
        models: vec![Model {
            name: MODEL.into(),
            model,
            train: recipe([60, 32], [3e-3, 60.0]),
            super_classes: None,
        }],
        least: Least { epochs: 15, seeds: 2, train_images: 320, test_images: 96 },
        timing: TimingConfig { batch_size: 64, rounds: 11 },
        ..described()
    }
}

fn experts() -> MoeConfig {
    MoeConfig { group: GROUP, placement: Placement::LastN { n: 2 }, ..MoeConfig::default() }
}

fn recipe([epochs, batch_size]: [u64; 2], [lr_peak, warmup_steps]: [f64; 2]) -> TrainConfig {
    TrainConfig {
        length: Span::Epochs { n: epochs },
        batch_size: batch_size as usize,
        schedule: Schedule {
            lr_peak,
            warmup_steps: warmup_steps as u64,
            decay: Decay::Cosine { lr_end: 0.0 },
        },
        ..TrainConfig::default()
    }
}

/// All but name, data and model.
fn described() -> Study {
    Study {
        name: String::new(),
        question: "does Batch Prioritized Routing keep accuracy where experts have too few seats?"
            .into(),
        data: DataConfig::default(),
        data_note: String::new(),
        seeds: vec![0, 1, 2],
        models: Vec::new(),
        arms: arms(),
        comparisons: comparisons(),
        // All arms are the same trained model: no arm can be tuned better than another.
        tuning: None,
        least: Least { epochs: 0, seeds: 0, train_images: 0, test_images: 0 },
        timing: TimingConfig { batch_size: 64, rounds: 21 },
        watts_per_core: crate::eval::EvalConfig::default().watts_per_core,
        panels: Grid::of_paper().panels(Some(2)),
    }
}

/// The model, K = 2 as trained, under every dial.
fn arms() -> Vec<Arm> {
    let dials = Grid::of_paper().dials(&Dial { group: Some(GROUP), ..Dial::default() });
    dials.into_iter().map(|(name, dial)| Arm { name, model: MODEL.into(), dial }).collect()
}

/// The paper's claim, at the K of the training: the fewer seats, the more BPR saves, and nothing
/// where there are enough; and that half the seats then cost little.
fn comparisons() -> Vec<Comparison> {
    let predicted = [
        (1.0, Predicted::Negligible { below: 0.5 }),
        (0.75, Predicted::Difference { points: 1.0 }),
        (0.5, Predicted::Difference { points: 3.0 }),
        (0.3, Predicted::Difference { points: 6.0 }),
        (0.2, Predicted::Difference { points: 8.0 }),
        (0.1, Predicted::Difference { points: 10.0 }),
    ];
    let mut comparisons: Vec<_> = predicted
        .into_iter()
        .map(|(capacity, predicted)| Comparison {
            name: format!("K 2, C {capacity}: BPR − vanilla"),
            arm: format!("k2-c{capacity}-bpr"),
            baseline: format!("k2-c{capacity}-vanilla"),
            predicted,
        })
        .collect();
    comparisons.push(Comparison {
        name: "K 2, BPR: C 0.5 − C 1".into(),
        arm: "k2-c0.5-bpr".into(),
        baseline: "k2-c1-bpr".into(),
        predicted: Predicted::Negligible { below: 1.0 },
    });
    comparisons
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::Sizes;

    #[test]
    fn both_studies_are_fair_and_whole() {
        for (study, train, test) in [(bpr(), 54_000, 10_000), (bpr_digits(), 1_257, 360)] {
            let sizes = Sizes { train, validation: 100, test };
            let costs = study.check(&sizes).unwrap();
            assert_eq!((costs.len(), study.arms.len()), (1, 4 * 6 * 2));
        }
    }
}
