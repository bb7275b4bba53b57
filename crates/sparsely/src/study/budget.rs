//! A study made smaller, so that it fits into a given time, and what that took away.

use super::size::scaled;
use super::{Rate, Sizes, Study};
use crate::train::Span;
use crate::{Error, Result};
use std::time::Duration;

/// Share of the budget that is planned with: the rate is an estimate.
const PLANNED: f64 = 0.9;
/// Images shrink in steps of this factor.
const STEP: f64 = 0.9;

/// A study that fits.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// The study at its new size.
    pub study: Study,
    /// Its images.
    pub sizes: Sizes,
    /// What was taken away, one phrase each; empty for the study at full size.
    pub shrunk: Vec<String>,
}

/// The largest form of `study` that takes at most `budget`. Seeds are kept as long as any form with them
/// fits, since intervals suffer most from their loss; with them, epochs go first, then training and
/// test images together. None falls below [`Study::least`].
///
/// # Errors
/// If the smallest form still takes longer.
pub fn shrink(study: Study, sizes: Sizes, rate: &Rate, budget: Duration) -> Result<Fitted> {
    let seconds = |form: &Fitted| rate.seconds(&form.study, &form.sizes) / PLANNED;
    let full = Fitted { study, sizes, shrunk: Vec::new() };
    let least = full.study.least.seeds.clamp(1, full.study.seeds.len().max(1));
    let mut smallest = seconds(&full);
    for seeds in (least..=full.study.seeds.len()).rev() {
        let whole = with_seeds(&full, seeds);
        let mut forms = vec![whole.clone()];
        forms.extend(fewer_epochs(&whole));
        forms.extend(fewer_images(&forms[forms.len() - 1]));
        if let Some(form) = forms.iter().find(|form| seconds(form) <= budget.as_secs_f64()) {
            return Ok(form.clone());
        }
        smallest = forms.iter().map(seconds).fold(smallest, f64::min);
    }
    Err(Error::Argument {
        op: "--budget",
        expected: format!("at least {} for the smallest form of the study", told(smallest)),
        got: told(budget.as_secs_f64()),
    })
}

fn with_seeds(full: &Fitted, count: usize) -> Fitted {
    let mut form = full.clone();
    if count < full.study.seeds.len() {
        form.study.seeds.truncate(count);
        form.shrunk.push(format!("{count} of {} seeds", full.study.seeds.len()));
    }
    form
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

/// Seconds for people, to the second.
pub fn told(seconds: f64) -> String {
    humantime::format_duration(Duration::from_secs(seconds.ceil() as u64)).to_string()
}
