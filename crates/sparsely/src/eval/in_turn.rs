//! What an image, or another piece of work, costs under different conditions, measured so that they can be
//! compared.

use super::Meter;
use super::evaluate::{parts, slice};
use crate::Result;
use crate::data::{Batch, Split, sequential};
use crate::model::Vit;
use crate::moe::Dial;
use crate::nn::Mode;
use serde::{Deserialize, Serialize};
use sparsely_tensor::{Params, Pool, Tape};
use std::time::Instant;

/// Where each round begins, as a share of the subjects from the one before: everywhere equally often.
const GOLDEN: f64 = 0.618;

/// A model under a dial.
#[derive(Clone)]
pub struct Subject<'a> {
    /// The model.
    pub model: &'a Vit,
    /// Its parameters.
    pub params: Params<'a>,
    /// How it routes.
    pub dial: Dial,
}

/// What an image costs, or another piece of work that is measured in turn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageCost {
    /// Median over rounds, each as long as it would be if the machine were as fast as in a typical one.
    pub seconds: f64,
    /// First and third quartile over rounds.
    pub seconds_quartiles: [f64; 2],
    /// Mean over rounds: a counter that moves once a millisecond is too coarse for one of them.
    pub joules: f64,
}

/// How costs are measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimingConfig {
    /// Images that are computed together, raised to whole groups.
    pub batch_size: usize,
    /// How often each subject is measured, after one round that is not.
    pub rounds: usize,
}

/// The cost of an image for each subject. In each round all subjects see the same batch of the
/// split, one after the other, so that a slow moment of the machine is not one subject's
/// misfortune; the first is another one each time. Speed may change for minutes (a clock, a neighbour
/// on the same core): a subject's time in a round is divided by how slow the round was for all the
/// others. Of an empty split costs are 0.
///
/// # Errors
/// If an image cannot be decoded or the routing cannot work.
pub fn cost_in_turn(
    subjects: &[Subject<'_>],
    split: &Split,
    config: &TimingConfig,
    meter: &Meter,
) -> Result<Vec<ImageCost>> {
    let pool = Pool::new();
    let mut unit = 1;
    for subject in subjects {
        unit = super::config::lcm(
            unit,
            super::config::group_images(subject.model.config(), subject.dial.group)?,
        );
    }
    let batch_size = config.batch_size.next_multiple_of(unit);
    // Whole batches where there are any.
    let whole = (split.len() / batch_size).max(1);
    let batches = sequential(split, batch_size)?.take(whole.min(config.rounds + 1));
    let batches = batches.collect::<Result<Vec<Batch>>>()?;
    if batches.is_empty() {
        return Ok(vec![ImageCost::of(Vec::new(), &[]); subjects.len()]);
    }
    in_turn(subjects.len(), config.rounds, |which, round| {
        sample(&subjects[which], &batches[round % batches.len()], &pool, meter)
    })
}

/// Seconds and joules of subjects that take turns: `sample` measures one in a round, and the first round does
/// not count; see [`cost_in_turn`].
///
/// # Errors
/// The first of `sample`.
pub fn in_turn(
    subjects: usize,
    rounds: usize,
    mut sample: impl FnMut(usize, usize) -> Result<[f64; 2]>,
) -> Result<Vec<ImageCost>> {
    let mut samples = vec![Vec::new(); subjects];
    let step = ((GOLDEN * subjects as f64).round() as usize).max(1);
    for round in 0..=rounds {
        for turn in 0..subjects {
            let which = (turn + round * step) % subjects;
            let sample = sample(which, round)?;
            if round > 0 {
                samples[which].push(sample);
            }
        }
    }
    let seconds: Vec<Vec<f64>> = samples
        .iter()
        .map(|samples| samples.iter().map(|[seconds, _]| *seconds).collect())
        .collect();
    let steadied = (0..subjects).map(|which| steadied(&seconds, which));
    Ok(steadied.zip(&samples).map(|(seconds, samples)| ImageCost::of(seconds, samples)).collect())
}

/// The times of one subject `[round]`, without what slowed all the others down: of times
/// `[subject][round]`.
fn steadied(seconds: &[Vec<f64>], which: usize) -> Vec<f64> {
    let own = &seconds[which];
    let others = |round: usize| -> f64 {
        let others = seconds.iter().enumerate().filter(|(other, _)| *other != which);
        others.map(|(_, rounds)| rounds[round]).sum()
    };
    let others: Vec<f64> = (0..own.len()).map(others).collect();
    let mut sorted = others.clone();
    sorted.sort_by(f64::total_cmp);
    let typical = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
    let steady =
        |(own, others): (&f64, &f64)| if *others > 0.0 { own * typical / others } else { *own };
    own.iter().zip(&others).map(steady).collect()
}

/// Seconds and joules of an image.
fn sample(subject: &Subject<'_>, batch: &Batch, pool: &Pool, meter: &Meter) -> Result<[f64; 2]> {
    let unit = super::config::group_images(subject.model.config(), subject.dial.group)?;
    let parts: Vec<_> = parts(batch.len(), unit, &subject.dial)
        .map(|(images, dial)| (slice(batch, images), dial))
        .collect();
    let (mark, begin) = (meter.mark()?, Instant::now());
    for (part, dial) in &parts {
        let tape = Tape::inference(subject.params, pool);
        subject.model.forward(&tape, &part.images_bhwc, dial, &mut Mode::Eval)?;
    }
    let seconds = begin.elapsed().as_secs_f64();
    let images = batch.len() as f64;
    Ok([seconds / images, meter.joules_since(&mark)? / images])
}

impl ImageCost {
    fn of(mut seconds: Vec<f64>, samples: &[[f64; 2]]) -> ImageCost {
        seconds.sort_by(f64::total_cmp);
        let at = |share: f64| {
            seconds.get((share * seconds.len() as f64) as usize).copied().unwrap_or(0.0)
        };
        let joules: f64 = samples.iter().map(|[_, joules]| joules).sum();
        ImageCost {
            seconds: at(0.5),
            seconds_quartiles: [at(0.25), at(0.75)],
            joules: joules / samples.len().max(1) as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_told_by_order_statistics_and_energy_by_the_mean() {
        let seconds = [3.0, 1.0, 9.0, 5.0, 8.0];
        let cost = ImageCost::of(seconds.to_vec(), &seconds.map(|s| [s, 2.0 * s]));
        assert_eq!((cost.seconds, cost.seconds_quartiles, cost.joules), (5.0, [3.0, 8.0], 10.4));
    }

    #[test]
    fn what_slows_all_down_is_nobodys_time() {
        // Rounds at full, half and full speed; in the last the first subject alone is slower.
        let seconds = [vec![1.0, 2.0, 1.5], vec![2.0, 4.0, 2.0], vec![3.0, 6.0, 3.0]];
        // The others take 5, 10, 5: typically 5.
        assert_eq!(steadied(&seconds, 0), [1.0, 1.0, 1.5]);
        // 4, 8, 4.5: typically 4.5.
        assert_eq!(steadied(&seconds, 1), [2.25, 2.25, 2.0]);
        // A subject without others has the times that it took.
        assert_eq!(steadied(&seconds[..1], 0), seconds[0]);
    }
}
