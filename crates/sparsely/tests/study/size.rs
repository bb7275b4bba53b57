//! Budgets: by hand, at a made-up rate.

use crate::tiny;
use sparsely::study::{Fitted, Rate, Sizes, Study, shrink};
use sparsely::train::Span;
use std::time::Duration;

const SIZES: Sizes = Sizes { train: 1000, validation: 0, test: 400 };

/// A step takes a second and nothing else takes any time: 1000 images are 10 steps of 100 images.
fn study() -> (Study, Rate) {
    let mut study = tiny();
    study.tuning = None;
    study.models.truncate(1);
    study.arms.truncate(1);
    study.comparisons.clear();
    study.seeds = vec![1, 2, 3, 4];
    study.models[0].train.batch_size = 100;
    study.models[0].train.length = Span::Epochs { n: 20 };
    study.models[0].train.schedule.warmup_steps = 40;
    study.least.epochs = 15;
    study.least.train_images = 500;
    let rate = Rate {
        date: String::new(),
        threads: 1,
        seconds_per_step: [("vanilla".to_string(), 1.0)].into(),
        seconds_per_unit: [("vanilla".to_string(), 0.0)].into(),
        seconds_to_open: 0.0,
    };
    (study, rate)
}

fn fitted(budget: u64) -> sparsely::Result<Fitted> {
    let (study, rate) = study();
    shrink(study, SIZES, &rate, Duration::from_secs(budget))
}

#[test]
fn a_budget_that_suffices_changes_nothing() {
    let (study, rate) = study();
    // 4 seeds × 20 epochs × 10 steps.
    assert_eq!(rate.seconds(&study, &SIZES), 800.0);
    // A tenth is kept in reserve: 800 / 0.9 = 888.9.
    let found = fitted(889).unwrap();
    assert_eq!((found.study, found.shrunk.len()), (study, 0));
    assert_eq!(fitted(888).unwrap().shrunk, ["19 of 20 epochs"]);
}

#[test]
fn epochs_go_first_then_images_then_seeds() {
    // 0.9 · 670 = 603 ≥ 4 × 15 × 10 = 600.
    let epochs = fitted(670).unwrap();
    assert_eq!(epochs.shrunk, ["15 of 20 epochs"]);
    assert_eq!(epochs.study.models[0].train.length, Span::Epochs { n: 15 });
    assert_eq!(epochs.study.models[0].train.schedule.warmup_steps, 30);
    // 0.9 · 500 = 450 < 600: 729 images (1000 · 0.9³) are 7 steps, 4 × 15 × 7 = 420; 810 would be
    // 480.
    let images = fitted(500).unwrap();
    assert_eq!(
        images.shrunk,
        ["15 of 20 epochs", "729 of 1000 training images", "291 of 400 test images"]
    );
    assert_eq!(images.sizes, Sizes { train: 729, validation: 0, test: 291 });
    assert_eq!(images.study.data.max_train_images, Some(729));
    // 0.9 · 200 = 180: even 500 images are 15 × 5 = 75 a seed, too much for three. Two have 90
    // each: 656 images (1000 · 0.9⁴) are 6 steps, 15 × 6 = 90.
    let seeds = fitted(200).unwrap();
    assert_eq!(
        seeds.shrunk,
        [
            "2 of 4 seeds",
            "15 of 20 epochs",
            "656 of 1000 training images",
            "262 of 400 test images"
        ]
    );
    assert_eq!(seeds.study.seeds, [1, 2]);
}

#[test]
fn a_budget_below_the_smallest_form_is_refused_with_what_it_needs() {
    // 2 × 75 / 0.9 = 166.7 s.
    assert_eq!(
        fitted(166).unwrap_err().to_string(),
        "--budget: expected at least 2m 47s for the smallest form of the study, got 2m 46s"
    );
    assert_eq!(fitted(167).unwrap().study.seeds.len(), 2);
}
