use proptest::prelude::*;

use super::*;

const GREY_3: ImageShape = ImageShape { size: 3, channels: 1 };

#[test]
fn crop_in_the_middle_changes_nothing() {
    let image: Vec<u8> = (1..=9).collect();
    assert_eq!(crop(&image, GREY_3, 1, (1, 1)), image);
}

#[test]
fn crop_in_a_corner_brings_black_in() {
    let image: Vec<u8> = (1..=9).collect();
    assert_eq!(crop(&image, GREY_3, 1, (0, 0)), [0, 0, 0, 0, 1, 2, 0, 4, 5]);
    assert_eq!(crop(&image, GREY_3, 1, (2, 1)), [4, 5, 6, 7, 8, 9, 0, 0, 0]);
    assert_eq!(crop(&image, GREY_3, 4, (8, 8)), [0; 9]);
}

#[test]
fn flip_keeps_colours_together() {
    let shape = ImageShape { size: 2, channels: 3 };
    let mut image = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    flip(&mut image, shape);
    assert_eq!(image, [4, 5, 6, 1, 2, 3, 10, 11, 12, 7, 8, 9]);
}

#[test]
fn mixup_takes_the_next_image_and_the_last_takes_the_first() {
    // 0.75 · 4 + 0.25 · 8 = 5; 1 · 8; 0.5 · 2 + 0.5 · 4 = 3.
    let mut images = [4.0, 8.0, 2.0];
    let mut targets = one_hot(&[0, 1, 1], 2);
    mixup(&mut images, &mut targets, &[0.75, 1.0, 0.5]);
    assert_eq!(images, [5.0, 8.0, 3.0]);
    assert_eq!(targets, [0.75, 0.25, 0.0, 1.0, 0.5, 0.5]);
}

#[test]
fn mixup_of_no_images_is_nothing() {
    mixup(&mut [], &mut [], &[]);
}

#[test]
fn smoothing_by_a_fifth_over_four_classes() {
    let mut targets = one_hot(&[2], 4);
    smooth_labels(&mut targets, 4, 0.2);
    for (got, want) in targets.iter().zip([0.05, 0.05, 0.85, 0.05]) {
        assert!((got - want).abs() < 1e-7, "{targets:?}");
    }
}

/// One rounding of `1 − λ` and one of each product and sum, on values of about 2.
const TOLERANCE: f32 = 5e-7;

#[test]
fn mixup_equals_the_original() {
    let text = include_str!("../../tests/fixtures/mixup.json");
    let fixture: serde_json::Value = serde_json::from_str(text).unwrap();
    let read = |name: &str| -> Vec<f32> { serde_json::from_value(fixture[name].clone()).unwrap() };
    let unsorted = read("weights_unsorted_n2");
    let (mut images, mut targets) = (read("images_nbx"), read("targets_nbv"));
    let images_per_batch = images.len() / 2;
    let targets_per_batch = targets.len() / 2;
    for batch in 0..2 {
        let weight = unsorted[2 * batch].max(unsorted[2 * batch + 1]);
        mixup(
            &mut images[batch * images_per_batch..][..images_per_batch],
            &mut targets[batch * targets_per_batch..][..targets_per_batch],
            &[weight; 4],
        );
    }
    for (name, got) in [("mixed_images_nbx", images), ("mixed_targets_nbv", targets)] {
        let want = read(name);
        assert_eq!(got.len(), want.len());
        for (got, want) in got.iter().zip(&want) {
            assert!((got - want).abs() < TOLERANCE, "{name}: {got} is not {want}");
        }
    }
}

fn image_and_corner() -> impl Strategy<Value = (ImageShape, Vec<u8>, usize, (usize, usize))> {
    (1_usize..7, prop_oneof![Just(1_usize), Just(3)], 0_usize..9).prop_flat_map(
        |(size, channels, padding)| {
            let shape = ImageShape { size, channels };
            let pixels = proptest::collection::vec(1_u8..=255, shape.byte_count());
            let corner = (0..=2 * padding, 0..=2 * padding);
            (Just(shape), pixels, Just(padding), corner)
        },
    )
}

proptest! {
    #[test]
    fn crop_equals_padding_and_cutting(
        (shape, image, padding, (top, left)) in image_and_corner()
    ) {
        let ImageShape { size, channels } = shape;
        let wide = size + 2 * padding;
        let mut padded = vec![0; wide * wide * channels];
        for (at, &value) in image.iter().enumerate() {
            let (row, column, channel) =
                (at / (size * channels), at / channels % size, at % channels);
            padded[((row + padding) * wide + column + padding) * channels + channel] = value;
        }
        let cropped = crop(&image, shape, padding, (top, left));
        for (at, &value) in cropped.iter().enumerate() {
            let (row, column, channel) =
                (at / (size * channels), at / channels % size, at % channels);
            prop_assert_eq!(value, padded[((row + top) * wide + column + left) * channels + channel]);
        }
    }

    #[test]
    fn flip_twice_is_nothing((shape, image, _, _) in image_and_corner()) {
        let mut flipped = image.clone();
        flip(&mut flipped, shape);
        let mut sorted = [image.clone(), flipped.clone()];
        sorted.iter_mut().for_each(|pixels| pixels.sort_unstable());
        prop_assert_eq!(&sorted[0], &sorted[1]);
        flip(&mut flipped, shape);
        prop_assert_eq!(flipped, image);
    }
}
