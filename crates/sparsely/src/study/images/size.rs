//! How many images a study has, and how it becomes smaller.

use crate::data::{DataConfig, Dataset};
use crate::moe::Capacity;
use crate::study::size::scaled;
use crate::study::{Fitted, Sizes, Study};
use crate::train::Span;
use serde::{Deserialize, Serialize};

/// Images shrink in steps of this factor.
const STEP: f64 = 0.9;

/// The smallest sizes at which the study still answers its question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Least {
    /// Passes over the training images.
    pub epochs: u64,
    /// Seeds, the first of the list.
    pub seeds: usize,
    /// Training images.
    pub train_images: usize,
    /// Test images.
    pub test_images: usize,
}

impl Sizes {
    /// Those of an open data set.
    pub(super) fn of(dataset: &Dataset) -> Sizes {
        Sizes {
            train: dataset.train.len(),
            validation: dataset.validation.len(),
            test: dataset.test.len(),
        }
    }

    /// Those that `data` leaves.
    fn limited(mut self, data: &DataConfig) -> Sizes {
        self.train = self.train.min(data.max_train_images.unwrap_or(usize::MAX));
        self.test = self.test.min(data.max_test_images.unwrap_or(usize::MAX));
        self
    }
}

/// What of a study of images cannot work, one sentence each.
pub(super) fn problems(study: &Study, sizes: &Sizes) -> Vec<String> {
    let mut problems = study.taught_problems();
    for arm in &study.arms {
        if let Some(Capacity::Factor { factor, .. }) = arm.dial.capacity
            && arm.dial.capacity != Some(Capacity::factor(factor))
        {
            problems.push(format!("arm `{}`: its rounding has no flag", arm.name));
        }
    }
    for model in &study.models {
        let (epoch, steps) = (model.steps_per_epoch(sizes), model.steps(sizes));
        if steps < study.least.epochs * epoch || steps == 0 {
            problems.push(format!(
                "model `{}` has {steps} steps, fewer than {} epochs of {epoch}",
                model.name, study.least.epochs
            ));
        }
    }
    let Least { train_images, test_images, .. } = study.least;
    for (split, images, least) in
        [("training", sizes.train, train_images), ("test", sizes.test, test_images)]
    {
        if images < least.max(1) {
            let least = least.max(1);
            problems.push(format!("{images} {split} images, fewer than the {least} it needs"));
        }
    }
    problems
}

/// Fewer epochs, then fewer images.
pub(super) fn smaller(whole: &Fitted) -> Vec<Fitted> {
    let mut forms = fewer_epochs(whole);
    let shortest = forms.last().unwrap_or(whole).clone();
    forms.extend(fewer_images(&shortest));
    forms
}

/// Smaller and smaller, down to the least number of epochs.
fn fewer_epochs(fitted: &Fitted) -> Vec<Fitted> {
    let epochs_of = |study: &Study| {
        let steps = study.models.iter().map(|model| {
            let epoch = model.steps_per_epoch(&fitted.sizes).max(1);
            model.steps(&fitted.sizes) as f64 / epoch as f64
        });
        steps.fold(f64::INFINITY, f64::min)
    };
    let full = epochs_of(&fitted.study);
    let least = fitted.study.least.epochs;
    let fewer = (least..full.ceil() as u64).rev();
    let forms = fewer.map(|epochs| {
        let mut form = fitted.clone();
        for model in &mut form.study.models {
            model.train = scaled(&model.train, epochs as f64 / full);
        }
        form.shrunk.push(format!("{epochs} of {full:.0} epochs"));
        form
    });
    forms.collect()
}

fn fewer_images(fitted: &Fitted) -> Vec<Fitted> {
    let (full, least) = (fitted.sizes, fitted.study.least);
    let mut forms: Vec<Fitted> = Vec::new();
    let mut share = STEP;
    loop {
        let at_least =
            |full: usize, least: usize| ((full as f64 * share) as usize).max(least).min(full);
        let train = at_least(full.train, least.train_images);
        let test = at_least(full.test, least.test_images);
        let last = forms.last().map_or(full, |form| form.sizes);
        if (train, test) == (last.train, last.test) {
            return forms;
        }
        let mut form = fitted.clone();
        limit(&mut form, train, test);
        forms.push(form);
        share *= STEP;
    }
}

/// Fewer images; lengths in steps stay the same number of epochs.
fn limit(form: &mut Fitted, train: usize, test: usize) {
    let full = form.sizes;
    if train < full.train {
        form.study.data.max_train_images = Some(train);
        form.shrunk.push(format!("{train} of {} training images", full.train));
        for model in &mut form.study.models {
            let ratio = train as f64 / full.train as f64;
            let steps = scaled(&model.train, ratio);
            if let Span::Steps { .. } = model.train.length {
                model.train.length = steps.length;
            }
            model.train.schedule.warmup_steps = steps.schedule.warmup_steps;
        }
    }
    if test < full.test {
        form.study.data.max_test_images = Some(test);
        form.shrunk.push(format!("{test} of {} test images", full.test));
    }
    form.sizes = full.limited(&form.study.data);
}
