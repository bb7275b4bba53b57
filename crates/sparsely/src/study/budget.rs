//! A study made smaller, so that it fits into a given time, and what that took away.

use super::{Images, Rate, Sizes, Study, Task};
use crate::{Error, Result};
use std::time::Duration;

/// Share of the budget that is planned with: the rate is an estimate.
const PLANNED: f64 = 0.9;

/// A study that fits.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted<T: Task = Images> {
    /// The study at its new size.
    pub study: Study<T>,
    /// Its data.
    pub sizes: Sizes,
    /// What was taken away, one phrase each; empty for the study at full size.
    pub shrunk: Vec<String>,
}

/// The largest form of `study` that takes at most `budget`. Seeds are kept as long as any form with
/// them fits, since intervals suffer most from their loss; with them goes what [`Task::smaller`] says. None
/// falls below [`Study::least`].
///
/// # Errors
/// If the smallest form still takes longer.
pub fn shrink<T: Task>(
    study: Study<T>,
    sizes: Sizes,
    rate: &Rate,
    budget: Duration,
) -> Result<Fitted<T>> {
    let seconds = |form: &Fitted<T>| rate.seconds(&form.study, &form.sizes) / PLANNED;
    let full = Fitted { study, sizes, shrunk: Vec::new() };
    let least = T::least_seeds(&full.study.least).clamp(1, full.study.seeds.len().max(1));
    let mut smallest = seconds(&full);
    for seeds in (least..=full.study.seeds.len()).rev() {
        let whole = with_seeds(&full, seeds);
        let mut forms = vec![whole.clone()];
        forms.extend(T::smaller(&whole));
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

fn with_seeds<T: Task>(full: &Fitted<T>, count: usize) -> Fitted<T> {
    let mut form = full.clone();
    if count < full.study.seeds.len() {
        form.study.seeds.truncate(count);
        form.shrunk.push(format!("{count} of {} seeds", full.study.seeds.len()));
    }
    form
}

/// Seconds for people, to the second.
pub fn told(seconds: f64) -> String {
    humantime::format_duration(Duration::from_secs(seconds.ceil() as u64)).to_string()
}
