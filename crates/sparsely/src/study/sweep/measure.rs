//! Accuracy of each setting alone, then time and energy of all in turn.

use super::store::params_crc32;
use super::{Setting, Sweep};
use crate::data::Split;
use crate::eval::{EvalConfig, Evaluation, Meter, Subject, TimingConfig, cost_in_turn, evaluate};
use crate::model::Vit;
use crate::moe::Dial;
use crate::study::images::flops_per_image;
use crate::study::rate::now;
use crate::{Error, Result};
use sparsely_tensor::{CrossEntropy, PackedSlab};

/// How often each setting's time is measured: as often as fits into the seconds, within this range.
const ROUNDS: [usize; 2] = [3, 61];
/// Seconds that measuring in turn should take.
const TIMING_SECONDS: f64 = 30.0;

/// A trained model, and what its settings are measured on.
pub struct Swept<'a> {
    /// The model.
    pub model: &'a Vit,
    /// Its parameters.
    pub params: &'a PackedSlab,
    /// Steps that it learned for.
    pub step: u64,
    /// How it is evaluated, but for the dial.
    pub eval: &'a EvalConfig,
    /// Its loss.
    pub loss: CrossEntropy,
    /// Where the images come from.
    pub data: &'a str,
    /// The name of the split.
    pub split: &'a str,
    /// Its images.
    pub images: &'a Split,
    /// Version and commit of the program.
    pub program: &'a str,
    /// Most points below the run's own setting that are good enough.
    pub max_loss_points: f64,
}

/// A piece of work.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stage<'a> {
    /// A setting on all images.
    Evaluating {
        /// Its name.
        setting: &'a str,
        /// How many there are before it.
        done: usize,
    },
    /// All settings in turn.
    Measuring {
        /// How often.
        rounds: usize,
    },
}

/// Evaluates and measures all `settings`, the run's own first (see [`super::sweep_settings`]).
///
/// # Errors
/// If there is no image, an image cannot be decoded, or a setting cannot work.
pub fn sweep(
    swept: &Swept<'_>,
    settings: &[(String, Dial)],
    tell: &mut dyn FnMut(&Stage<'_>),
) -> Result<Sweep> {
    if swept.images.is_empty() {
        let expected = format!("{} images to choose by", swept.split);
        return Err(Error::Argument { op: "sweep", expected, got: "none".into() });
    }
    let mut found = Vec::new();
    for (done, (setting, dial)) in settings.iter().enumerate() {
        tell(&Stage::Evaluating { setting, done });
        let config = EvalConfig { dial: dial.clone(), ..swept.eval.clone() };
        let evaluation = evaluate(swept.model, swept.params, swept.images, &config, swept.loss)?;
        found.push((flops_per_image(swept.model, &config, &evaluation)?, evaluation));
    }
    let timing = timing(swept.eval.batch_size, &found);
    tell(&Stage::Measuring { rounds: timing.rounds });
    let meter = Meter::open(swept.eval.watts_per_core);
    let Swept { model, params, .. } = *swept;
    let params = params.into();
    let subjects = settings.iter().map(|(_, dial)| Subject { model, params, dial: dial.clone() });
    let costs = cost_in_turn(&subjects.collect::<Vec<_>>(), swept.images, &timing, &meter)?;
    let settings = settings.iter().zip(&found).zip(costs);
    let settings = settings.map(|(((name, dial), (flops_per_image, evaluation)), cost)| Setting {
        name: name.clone(),
        dial: dial.clone(),
        top1_percent: 100.0 * evaluation.top1,
        loss: evaluation.loss,
        dropped_share: evaluation.dropped_share,
        flops_per_image: *flops_per_image,
        cost,
    });
    Ok(Sweep {
        program: swept.program.into(),
        date: now(),
        step: swept.step,
        params_crc32: params_crc32(&swept.params.to_slab()?),
        data: swept.data.into(),
        split: swept.split.into(),
        images: swept.images.len(),
        timing,
        threads: rayon::current_num_threads(),
        precision: swept.model.config().precision,
        energy_source: meter.source().to_string(),
        max_loss_points: swept.max_loss_points,
        settings: settings.collect(),
    })
}

/// As many rounds as should fit, by the time that the evaluations took.
fn timing(batch_size: usize, found: &[(f64, Evaluation)]) -> TimingConfig {
    let seconds: f64 = found.iter().map(|(_, evaluation)| evaluation.seconds_per_image).sum();
    let rounds = TIMING_SECONDS / (seconds * batch_size as f64).max(f64::MIN_POSITIVE);
    TimingConfig { batch_size, rounds: (rounds as usize).clamp(ROUNDS[0], ROUNDS[1]) }
}
