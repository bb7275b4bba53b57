//! Batches of images as a model takes them.

use crate::data::augment::one_hot;
use crate::data::split::Split;
use crate::{Error, Result};

/// `B` images with their classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Pixels `[B, size, size, channels]` in `[−1, 1]`: black is −1.
    pub images_bhwc: Vec<f32>,
    /// The class of each image, before mixup.
    pub labels_b: Vec<u32>,
    /// What the model should say, `[B, V]`; rows sum to 1.
    pub targets_bv: Vec<f32>,
}

impl Batch {
    /// How many images there are.
    pub fn len(&self) -> usize {
        self.labels_b.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.labels_b.is_empty()
    }
}

/// The split's images in order, undisturbed, `batch_size` at a time; the last batch may be
/// smaller. An item is an error where an image cannot be decoded; a batch size of 0 is refused.
pub fn sequential(
    split: &Split,
    batch_size: usize,
) -> Result<impl ExactSizeIterator<Item = Result<Batch>> + '_> {
    if batch_size == 0 {
        return Err(Error::Argument {
            op: "data::sequential",
            expected: "a batch size of at least 1".into(),
            got: "0".into(),
        });
    }
    let batch_count = split.len().div_ceil(batch_size);
    Ok((0..batch_count).map(move |batch| {
        let start = batch * batch_size;
        undisturbed(split, start..split.len().min(start + batch_size))
    }))
}

fn undisturbed(split: &Split, indices: std::ops::Range<usize>) -> Result<Batch> {
    let mut images_bhwc = Vec::with_capacity(indices.len() * split.shape().byte_count());
    for index in indices.clone() {
        append_scaled(&mut images_bhwc, &split.pixels(index)?);
    }
    let labels_b = split.labels()[indices].to_vec();
    let targets_bv = one_hot(&labels_b, split.class_count());
    Ok(Batch { images_bhwc, labels_b, targets_bv })
}

/// Appends pixels of `0..=255` as `[−1, 1]`.
pub fn append_scaled(images_bhwc: &mut Vec<f32>, pixels_hwc: &[u8]) {
    images_bhwc.extend(pixels_hwc.iter().map(|&pixel| f32::from(pixel) / 127.5 - 1.0));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{DataConfig, Dataset};

    #[test]
    fn pixels_span_minus_one_to_one() {
        let mut scaled = Vec::new();
        append_scaled(&mut scaled, &[0, 51, 255]);
        assert_eq!(scaled, [-1.0, -0.6, 1.0]);
    }

    #[test]
    fn every_image_is_served_once_in_order() {
        let digits = Dataset::open(&DataConfig::default(), None, 0).unwrap();
        let batches: Vec<Batch> =
            sequential(&digits.test, 100).unwrap().collect::<Result<_>>().unwrap();
        let sizes: Vec<usize> = batches.iter().map(Batch::len).collect();
        assert_eq!(sizes, [100, 100, 100, 60]);
        let labels: Vec<u32> = batches.iter().flat_map(|batch| batch.labels_b.clone()).collect();
        assert_eq!(labels, digits.test.labels());
        assert_eq!(batches[3].images_bhwc.len(), 60 * 8 * 8);
        assert_eq!(batches[3].targets_bv.len(), 60 * 10);
    }

    /// The digits lie class after class: 36 of each would follow one another.
    #[test]
    fn consecutive_images_are_of_several_classes_and_the_same_for_every_seed() {
        let [one, other] =
            [0, 1].map(|seed| Dataset::open(&DataConfig::default(), None, seed).unwrap());
        for split in [&one.test, &one.validation] {
            for group in split.labels().chunks_exact(8) {
                assert!(group.iter().any(|label| *label != group[0]), "{group:?}");
            }
        }
        assert_eq!(one.test.labels(), other.test.labels());
    }

    #[test]
    fn batch_size_of_nothing_is_refused() {
        let digits = Dataset::open(&DataConfig::default(), None, 0).unwrap();
        assert_eq!(
            sequential(&digits.test, 0).err().unwrap().to_string(),
            "data::sequential: expected a batch size of at least 1, got 0"
        );
    }
}
