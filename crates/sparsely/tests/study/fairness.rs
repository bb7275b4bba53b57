//! What a study must be before anything is trained.

use crate::tiny;
use sparsely::study::{Plan, Predicted, Request, Sizes, Study};

fn refusal(change: impl FnOnce(&mut Study)) -> String {
    let mut study = tiny();
    change(&mut study);
    let sizes = Sizes { train: 1257, validation: 180, test: 360 };
    study.check(&sizes).unwrap_err().to_string()
}

#[test]
fn models_of_unequal_training_flops_are_refused() {
    let told = refusal(|study| study.models[1].model.mlp_width = 64);
    assert!(told.starts_with("study: expected training FLOPs equal to 2 %, got "), "{told}");
    assert!(told.contains("for `vanilla` and ") && told.ends_with(" % more"), "{told}");
    // Through the whole of it, too.
    let mut study = tiny();
    study.models[1].model.mlp_width = 64;
    assert_eq!(Plan::new(study, Request::default(), "test").unwrap_err().to_string(), told);
}

#[test]
fn more_steps_are_more_flops() {
    let told = refusal(|study| {
        study.models[0].train.length = sparsely::train::Span::Epochs { n: 3 };
    });
    assert!(told.contains("50.00 % more"), "{told}");
}

#[test]
fn all_problems_of_a_description_are_told_at_once() {
    let told = refusal(|study| {
        study.models[1].train.batch_size = 16;
        study.arms[2].model = "brp".into();
        study.comparisons[0].baseline = "none".into();
        study.comparisons[1].predicted = Predicted::Difference { points: 0.0 };
        study.seeds = vec![7, 7];
        study.least.epochs = 3;
    });
    assert_eq!(
        told,
        "invalid configuration: arm `bpr-short` is of no model: `brp`; comparison `training`: there is no \
         arm `none`; comparison `dial` predicts neither sign nor size; tuning with seed 7 would flatter \
         that seed; seeds must be there once each, got [7, 7]; models must see the same batches, got \
         sizes {16, 32}; model `vanilla` has 78 steps, fewer than 3 epochs of 39; model `bpr` has 156 \
         steps, fewer than 3 epochs of 78"
    );
}
