use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::data::DataConfig;

fn digits() -> Arc<Dataset> {
    Arc::new(Dataset::open(&DataConfig::default(), None, 0).unwrap())
}

fn disturbing() -> AugmentConfig {
    AugmentConfig { crop_padding: 1, flip: true, mixup_alpha: Some(0.2), label_smoothing: 0.1 }
}

fn loader(batch_size: usize, augment: AugmentConfig, seed: u64) -> Loader {
    Loader::new(digits(), LoaderConfig { batch_size, augment, seed }).unwrap()
}

#[test]
fn settings_that_cannot_work_are_told_at_once() {
    let augment = AugmentConfig { crop_padding: 8, label_smoothing: 1.0, ..Default::default() };
    let config = LoaderConfig { batch_size: 1_258, augment, seed: 0 };
    assert_eq!(
        Loader::new(digits(), config).unwrap_err().to_string(),
        "invalid configuration: `label_smoothing` must be in [0, 1), got 1; \
         the batch size must be in 1..=1257, the number of training images, got 1258; \
         `crop_padding` must be below the image size 8, got 8"
    );
}

#[test]
fn epoch_leaves_out_what_does_not_fill_a_batch() {
    let loader = loader(100, AugmentConfig::default(), 0);
    assert_eq!(loader.steps_per_epoch(), 12);
    assert_eq!(loader.order(0).indices.len(), 1_257);
    assert_eq!(loader.batch_at(11).unwrap().len(), 100);
}

#[test]
fn first_batch_of_an_epoch_begins_its_permutation() {
    let loader = loader(100, AugmentConfig::default(), 0);
    for (step, epoch) in [(0, 0), (12, 1)] {
        let order = loader.order(epoch).indices;
        let labels: Vec<u32> =
            order[..100].iter().map(|&index| loader.dataset.train.label(index)).collect();
        assert_eq!(loader.batch_at(step).unwrap().labels_b, labels);
    }
    assert_ne!(loader.order(0).indices, loader.order(1).indices);
}

#[test]
fn undisturbed_batch_holds_the_very_pixels() {
    let loader = loader(3, AugmentConfig::default(), 5);
    let first = loader.order(0).indices[0];
    let mut scaled = Vec::new();
    append_scaled(&mut scaled, &loader.dataset.train.pixels(first).unwrap());
    assert_eq!(loader.batch_at(0).unwrap().images_bhwc[..64], scaled);
}

#[test]
fn prefetched_batches_are_those_of_their_steps() {
    let loader = loader(600, disturbing(), 3);
    // Two steps make an epoch: three epochs are touched.
    let ahead: Vec<Batch> = loader.prefetch(1, 5).collect::<Result<_>>().unwrap();
    let one_by_one: Vec<Batch> = (1..5).map(|step| loader.batch_at(step).unwrap()).collect();
    assert_eq!(ahead, one_by_one);
    assert_eq!(loader.prefetch(5, 5).count(), 0);
}

#[test]
fn prefetch_can_be_abandoned() {
    let mut ahead = loader(10, disturbing(), 3).prefetch(0, u64::MAX);
    assert!(ahead.next().is_some());
    drop(ahead);
}

#[test]
fn mixed_targets_give_an_image_at_least_half() {
    let augment = AugmentConfig { mixup_alpha: Some(1.0), ..Default::default() };
    let batch = loader(200, augment, 1).batch_at(0).unwrap();
    let rows = batch.targets_bv.chunks_exact(10);
    for (target_v, &label) in rows.zip(&batch.labels_b) {
        assert!(target_v[label as usize] >= 0.5);
        assert!((target_v.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }
    let shares: BTreeSet<u32> = batch.targets_bv.iter().map(|share| share.to_bits()).collect();
    assert!(shares.len() > 100, "one weight per image, not per batch");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn every_epoch_is_a_permutation(seed: u64, epoch: u64) {
        let mut indices = loader(100, AugmentConfig::default(), seed).order(epoch).indices;
        indices.sort_unstable();
        prop_assert!(indices.into_iter().eq(0..1_257));
    }

    #[test]
    fn batch_of_a_step_is_the_same_after_a_restart(seed: u64, step in 0_u64..10_000) {
        let batch = loader(32, disturbing(), seed).batch_at(step).unwrap();
        prop_assert_eq!(&batch, &loader(32, disturbing(), seed).batch_at(step).unwrap());
        prop_assert_ne!(&batch, &loader(32, disturbing(), seed).batch_at(step + 1).unwrap());
        prop_assert!(batch.images_bhwc.iter().all(|value| (-1.0..=1.0).contains(value)));
    }
}
