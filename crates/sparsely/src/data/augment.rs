//! Disturbing training images and their targets. Every function here is pure; what is random is
//! drawn by the loader.

use crate::data::image::ImageShape;

/// The window of the original size at `(top, left)` of an image with `padding` black pixels
/// added on each side; `top` and `left` are in `0..=2·padding`.
pub(crate) fn crop(
    pixels_hwc: &[u8],
    shape: ImageShape,
    padding: usize,
    (top, left): (usize, usize),
) -> Vec<u8> {
    let ImageShape { size, channels } = shape;
    let mut cropped_hwc = vec![0; pixels_hwc.len()];
    // Columns of the result that come from the image, and where they come from.
    let start = padding.saturating_sub(left);
    let end = (size + padding).saturating_sub(left).min(size);
    for row in 0..size {
        let from_row = (row + top).checked_sub(padding).filter(|&from_row| from_row < size);
        let (Some(from_row), true) = (from_row, start < end) else { continue };
        let from_column = start + left - padding;
        let from = (from_row * size + from_column) * channels;
        let byte_count = (end - start) * channels;
        cropped_hwc[(row * size + start) * channels..][..byte_count]
            .copy_from_slice(&pixels_hwc[from..][..byte_count]);
    }
    cropped_hwc
}

/// Mirrors an image left to right, in place.
pub(crate) fn flip(pixels_hwc: &mut [u8], shape: ImageShape) {
    let ImageShape { size, channels } = shape;
    for row in pixels_hwc.chunks_exact_mut(size * channels) {
        for column in 0..size / 2 {
            let mirrored = size - 1 - column;
            for channel in 0..channels {
                row.swap(column * channels + channel, mirrored * channels + channel);
            }
        }
    }
}

/// Mixes every row with the next one, the last with the first:
/// `λ_b · x_b + (1 − λ_b) · x_{b+1}`, images and targets alike.
///
/// `images_bx` and `targets_bv` hold as many equal rows as `weights_b` has weights in `[0, 1]`;
/// see Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization". Which of the two images is
/// the larger share is the caller's choice; the loader passes weights of at least ½.
///
/// # Panics
///
/// If the rows cannot be divided evenly among the weights.
pub fn mixup(images_bx: &mut [f32], targets_bv: &mut [f32], weights_b: &[f32]) {
    mix_rows(images_bx, weights_b);
    mix_rows(targets_bv, weights_b);
}

fn mix_rows(rows_bx: &mut [f32], weights_b: &[f32]) {
    if weights_b.is_empty() {
        return;
    }
    assert!(rows_bx.len().is_multiple_of(weights_b.len()), "rows of equal length");
    let width = rows_bx.len() / weights_b.len();
    // Only the first row is needed again after it has been mixed.
    let first_x = rows_bx[..width].to_vec();
    for (row, &weight) in weights_b.iter().enumerate() {
        let (done, rest) = rows_bx.split_at_mut((row + 1) * width);
        let partner_x = if row + 1 < weights_b.len() { &rest[..width] } else { &first_x };
        for (value, partner) in done[row * width..].iter_mut().zip(partner_x) {
            *value = weight * *value + (1.0 - weight) * partner;
        }
    }
}

/// Targets `[B, V]` with a one at each label and zeros elsewhere; labels are below `class_count`.
pub fn one_hot(labels_b: &[u32], class_count: usize) -> Vec<f32> {
    let mut targets_bv = vec![0.0; labels_b.len() * class_count];
    for (row, &label) in labels_b.iter().enumerate() {
        targets_bv[row * class_count + label as usize] = 1.0;
    }
    targets_bv
}

/// Spreads the share `smoothing` of each target evenly over all `V` classes:
/// `(1 − s) · target + s / V`. Rows that sum to 1 still do.
pub fn smooth_labels(targets_bv: &mut [f32], class_count: usize, smoothing: f64) {
    let kept = (1.0 - smoothing) as f32;
    let spread = (smoothing / class_count as f64) as f32;
    targets_bv.iter_mut().for_each(|target| *target = kept * *target + spread);
}

#[cfg(test)]
#[path = "augment_tests.rs"]
mod tests;
