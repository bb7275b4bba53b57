//! One pass over a split.

use super::{EnergySource, EvalConfig, Meter};
use crate::Result;
use crate::data::{Batch, Split, sequential};
use crate::model::Vit;
use crate::moe::selection::top_k;
use crate::moe::{Dial, Group, RouterStats};
use crate::nn::Mode;
use serde::{Deserialize, Serialize};
use sparsely_tensor::{CrossEntropy, Params, Pool, Tape};
use std::ops::Range;
use std::time::Instant;

/// What a model does on a split.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    /// Images.
    pub n: usize,
    /// Share whose label has the largest logit, in [0, 1].
    pub top1: f64,
    /// Share whose label is among the five largest logits; 1 with five classes or fewer.
    pub top5: f64,
    /// Mean task loss.
    pub loss: f64,
    /// Share of the choices that found no seat, over all MoE layers.
    pub dropped_share: f64,
    /// Median over batches of the seconds of an image, decoding not counted.
    pub seconds_per_image: f64,
    /// Mean joules of an image, decoding not counted.
    pub joules_per_image: f64,
    /// Where they come from.
    pub energy_source: EnergySource,
    /// Share of the images whose super-class has the router's largest logit, where images are routed by
    /// super-classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub router_top1: Option<f64>,
    /// One for each MoE layer.
    pub layers: Vec<LayerLoad>,
    /// What each router did, with its block's index.
    #[serde(skip)]
    pub stats: Vec<(usize, RouterStats)>,
    /// Whether the label has the largest logit, for each image.
    #[serde(skip)]
    pub is_right: Vec<bool>,
    /// The expert of the largest logit for each image, where whole images are routed by logits.
    #[serde(skip)]
    pub experts_b: Vec<u32>,
}

impl Evaluation {
    /// Tells how often the router is right, given the group of each class and the labels of the split.
    pub fn judge_router(&mut self, groups_v: &[u32], labels: &[u32]) {
        let is_right = |(expert, label): &(&u32, &u32)| **expert == groups_v[**label as usize];
        let right = self.experts_b.iter().zip(labels).filter(is_right).count();
        let n = self.experts_b.len();
        self.router_top1 = (n > 0).then(|| right as f64 / n as f64);
    }
}

/// What the router of one layer did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerLoad {
    /// Index of the block.
    pub block: usize,
    /// Largest load over mean load.
    pub imbalance: f64,
    /// Standard deviation of the loads over their mean.
    pub load_variation: f64,
    /// Mean entropy of a token's gates in nats; over slots in Soft MoE.
    pub entropy: f64,
    /// Share of the choices that found no seat.
    pub dropped_share: f64,
    /// Share of the tokens that no expert kept.
    pub unserved_share: f64,
    /// How far a transport plan is from its marginals, as a share of them; none without a plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marginal_error: Option<f64>,
    /// Mean number of experts that the tokens of an image go to.
    pub experts_per_image: f64,
    /// The capacity factor after rounding.
    pub actual_capacity_factor: f64,
    /// How often each expert was asked.
    pub asked: Vec<u64>,
}

/// Evaluates a model.
///
/// # Errors
/// If an image cannot be decoded or the routing cannot work.
pub fn evaluate<'a>(
    model: &Vit,
    params: impl Into<Params<'a>>,
    split: &Split,
    config: &EvalConfig,
    loss: CrossEntropy,
) -> Result<Evaluation> {
    let (pool, params) = (Pool::new(), params.into());
    let mut tally = Tally::new(Meter::open(config.watts_per_core));
    let unit = config.group_images(model.config())?;
    for batch in sequential(split, config.batch_size.next_multiple_of(unit))? {
        let batch = batch?;
        for (images, dial) in parts(batch.len(), unit, &config.dial) {
            tally.add(model, params, &pool, &slice(&batch, images), &dial, loss)?;
        }
    }
    Ok(tally.finish())
}

/// The images that whole groups of `unit` take, and the rest as one smaller group.
pub(super) fn parts(
    images: usize,
    unit: usize,
    dial: &Dial,
) -> impl Iterator<Item = (Range<usize>, Dial)> + use<> {
    let rest = images % unit;
    let small = Dial { group: Some(Group::Images { n: rest }), ..dial.clone() };
    let parts = [(0..images - rest, dial.clone()), (images - rest..images, small)];
    parts.into_iter().filter(|(range, _)| !range.is_empty())
}

pub(super) fn slice(batch: &Batch, images: Range<usize>) -> Batch {
    let (pixels, v) = (batch.images_bhwc.len() / batch.len(), batch.targets_bv.len() / batch.len());
    Batch {
        images_bhwc: batch.images_bhwc[images.start * pixels..images.end * pixels].to_vec(),
        targets_bv: batch.targets_bv[images.start * v..images.end * v].to_vec(),
        labels_b: batch.labels_b[images].to_vec(),
    }
}

struct Tally {
    meter: Meter,
    is_right: Vec<bool>,
    top5: usize,
    loss: f64,
    joules: f64,
    seconds_per_image: Vec<f64>,
    stats: Vec<(usize, RouterStats)>,
    experts_b: Vec<u32>,
}

impl Tally {
    fn new(meter: Meter) -> Tally {
        Tally {
            meter,
            is_right: Vec::new(),
            top5: 0,
            loss: 0.0,
            joules: 0.0,
            seconds_per_image: Vec::new(),
            stats: Vec::new(),
            experts_b: Vec::new(),
        }
    }

    fn add(
        &mut self,
        model: &Vit,
        params: Params<'_>,
        pool: &Pool,
        batch: &Batch,
        dial: &Dial,
        loss: CrossEntropy,
    ) -> Result<()> {
        let (mark, begin) = (self.meter.mark()?, Instant::now());
        let tape = Tape::inference(params, pool);
        let output = model.forward(&tape, &batch.images_bhwc, dial, &mut Mode::Eval)?;
        self.seconds_per_image.push(begin.elapsed().as_secs_f64() / batch.len() as f64);
        self.joules += self.meter.joules_since(&mark)?;
        let task = output.logits_bv.cross_entropy(loss, &batch.targets_bv)?;
        self.loss += f64::from(task.values()[0]) * batch.len() as f64;
        let v = output.logits_bv.shape().width();
        for (logits, label) in output.logits_bv.values().chunks(v).zip(&batch.labels_b) {
            let rank = rank_of(logits, *label as usize);
            self.is_right.push(rank < 1);
            self.top5 += usize::from(rank < 5);
        }
        if let Some(logits_be) = &output.image_logits_be {
            let e = logits_be.shape().width();
            let images = logits_be.values().chunks(e);
            self.experts_b.extend(images.flat_map(|logits_e| top_k(logits_e, e, 1).0));
        }
        self.merge(output.stats);
        Ok(())
    }

    fn merge(&mut self, stats: Vec<(usize, RouterStats)>) {
        if self.stats.is_empty() {
            self.stats = stats;
            return;
        }
        for ((_, sum), (_, more)) in self.stats.iter_mut().zip(&stats) {
            sum.merge(more);
        }
    }

    fn finish(mut self) -> Evaluation {
        self.seconds_per_image.sort_by(f64::total_cmp);
        let median = self.seconds_per_image.get(self.seconds_per_image.len() / 2);
        let mut all = RouterStats::default();
        self.stats.iter().for_each(|(_, stats)| all.merge(stats));
        let n = self.is_right.len().max(1) as f64;
        Evaluation {
            n: self.is_right.len(),
            top1: self.is_right.iter().filter(|is_right| **is_right).count() as f64 / n,
            top5: self.top5 as f64 / n,
            loss: self.loss / n,
            dropped_share: all.dropped_share(),
            seconds_per_image: median.copied().unwrap_or(0.0),
            joules_per_image: self.joules / n,
            energy_source: self.meter.source(),
            router_top1: None,
            layers: self.stats.iter().map(LayerLoad::from).collect(),
            stats: self.stats,
            is_right: self.is_right,
            experts_b: self.experts_b,
        }
    }
}

impl From<&(usize, RouterStats)> for LayerLoad {
    fn from((block, stats): &(usize, RouterStats)) -> LayerLoad {
        LayerLoad {
            block: *block,
            imbalance: stats.imbalance(),
            load_variation: stats.load_variation(),
            entropy: stats.entropy(),
            dropped_share: stats.dropped_share(),
            unserved_share: stats.unserved_share(),
            marginal_error: stats.marginal_error,
            experts_per_image: stats.experts_per_image(),
            actual_capacity_factor: stats.actual_capacity_factor(),
            asked: stats.asked_e.clone(),
        }
    }
}

/// How many logits come before the label's: larger ones, and equal ones of lower index. A NaN
/// comes before everything, so that a broken model is not counted as right.
fn rank_of(logits: &[f32], label: usize) -> usize {
    let own = logits[label];
    let before = |(v, x): (usize, &f32)| !(own > *x || own == *x && v >= label);
    logits.iter().enumerate().filter(|(v, x)| *v != label && before((*v, x))).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rank_of_a_label_counts_larger_and_earlier_equal_logits() {
        assert_eq!(rank_of(&[1.0, 3.0, 2.0], 1), 0);
        assert_eq!(rank_of(&[1.0, 3.0, 2.0], 0), 2);
        assert_eq!(rank_of(&[1.0, 1.0], 0), 0);
        assert_eq!(rank_of(&[1.0, 1.0], 1), 1);
        assert_eq!(rank_of(&[f32::NAN, f32::NAN], 0), 1);
    }
}
