//! What a model says about single images.

use super::EvalConfig;
use super::evaluate::parts;
use crate::Result;
use crate::data::{Split, sequential};
use crate::model::Vit;
use crate::nn::Mode;
use crate::superclass::Confusion;
use sparsely_tensor::{CrossEntropy, Params, Pool, Tape};

/// What a model says about one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Softmax (or sigmoid) probabilities `[V]`.
    pub probabilities_v: Vec<f64>,
    /// Probabilities `[E]` of the router of whole images, if there is one that has logits.
    pub experts_e: Option<Vec<f64>>,
    /// How many experts the image's tokens go to, for each MoE layer.
    pub visited_experts: Vec<u32>,
}

/// Answers about images `[B, H, W, C]` in [−1, 1], one for each.
///
/// # Errors
/// If the images are not of the model's size.
pub fn answers<'a>(
    model: &Vit,
    params: impl Into<Params<'a>>,
    images_bhwc: &[f32],
    config: &EvalConfig,
    loss: CrossEntropy,
) -> Result<Vec<Answer>> {
    let (pool, params) = (Pool::new(), params.into());
    let mut answers = Vec::new();
    let (pixels, unit) = (model.config().image_pixels(), config.group_images(model.config())?);
    for batch in images_bhwc.chunks(config.batch_size.next_multiple_of(unit) * pixels) {
        for (images, dial) in parts(batch.len() / pixels, unit, &config.dial) {
            let images = &batch[images.start * pixels..images.end * pixels];
            let tape = Tape::inference(params, &pool);
            let output = model.forward(&tape, images, &dial, &mut Mode::Eval)?;
            let rows = output.logits_bv.values().chunks(output.logits_bv.shape().width());
            answers.extend(rows.enumerate().map(|(b, row)| Answer {
                probabilities_v: probabilities_of(row, loss),
                experts_e: output.image_logits_be.as_ref().map(|logits_be| {
                    let logits_e = logits_be.values().chunks(logits_be.shape().width()).nth(b);
                    probabilities_of(logits_e.unwrap_or_default(), CrossEntropy::Softmax)
                }),
                visited_experts: output.stats.iter().map(|(_, stats)| stats.experts_b[b]).collect(),
            }));
        }
    }
    Ok(answers)
}

/// The confusion matrix of a split: images counted, or probabilities added up.
///
/// # Errors
/// If an image cannot be decoded or the routing cannot work.
pub fn confusion<'a>(
    model: &Vit,
    params: impl Into<Params<'a>>,
    split: &Split,
    config: &EvalConfig,
    by_probability: bool,
) -> Result<Confusion> {
    let params = params.into();
    let mut confusion = Confusion::new(split.class_count());
    for batch in sequential(split, config.batch_size)? {
        let batch = batch?;
        let answers = answers(model, params, &batch.images_bhwc, config, CrossEntropy::Softmax)?;
        for (answer, label) in answers.iter().zip(&batch.labels_b) {
            confusion.add(*label, &answer.probabilities_v, by_probability);
        }
    }
    Ok(confusion)
}

fn probabilities_of(logits: &[f32], loss: CrossEntropy) -> Vec<f64> {
    if loss == CrossEntropy::Sigmoid {
        return logits.iter().map(|x| 1.0 / (1.0 + (-f64::from(*x)).exp())).collect();
    }
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let exps: Vec<f64> = logits.iter().map(|x| (f64::from(*x) - max).exp()).collect();
    let sum: f64 = exps.iter().sum();
    exps.iter().map(|e| e / sum).collect()
}
