//! The built-in images: 1,797 handwritten digits of 8×8 grey pixels (UCI, CC BY 4.0).
//!
//! The split is fixed and does not depend on a seed: with the images sorted by class (and in
//! the file's order within a class), of every ten the first and the sixth are for testing and
//! the third is for validation. The same writers appear in all three.

use crate::data::source::{Labelled, Published, StoredImage};

const RECORDS: &[u8] = include_bytes!("../../assets/digits.bin");
const SIDE: usize = 8;
const RECORD_BYTES: usize = SIDE * SIDE + 1;
/// The file counts the dark ones of 4×4 dots.
const DARKEST: u16 = 16;

/// The digits in their fixed split: 360 to test, 180 to validate, the rest to train.
pub(crate) fn read() -> Published {
    let mut records: Vec<&[u8]> = RECORDS.chunks_exact(RECORD_BYTES).collect();
    records.sort_by_key(|record| label(record));
    let mut train = Labelled::default();
    let mut validation = Labelled::default();
    let mut test = Labelled::default();
    for (position, record) in records.into_iter().enumerate() {
        let part = match position % 10 {
            0 | 5 => &mut test,
            2 => &mut validation,
            _ => &mut train,
        };
        part.images.push(image(record));
        part.labels.push(label(record));
    }
    Published {
        name: "digits".into(),
        class_names: (0..10).map(|digit| digit.to_string()).collect(),
        train,
        validation: Some(validation),
        test: Some(test),
    }
}

fn label(record: &[u8]) -> u32 {
    u32::from(record[RECORD_BYTES - 1])
}

/// 0..=16 becomes 0..=255, rounded to the nearest.
fn image(record: &[u8]) -> StoredImage {
    let scale = |&dots: &u8| ((u16::from(dots) * 255 + DARKEST / 2) / DARKEST) as u8;
    let pixels = record[..RECORD_BYTES - 1].iter().map(scale).collect();
    StoredImage::Grey { pixels, width: SIDE, height: SIDE }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count_per_class(part: &Labelled) -> [usize; 10] {
        let mut counts = [0; 10];
        part.labels.iter().for_each(|&label| counts[label as usize] += 1);
        counts
    }

    #[test]
    fn classes_are_shared_out_evenly() {
        let digits = read();
        let test = count_per_class(&digits.test.unwrap());
        let validation = count_per_class(&digits.validation.unwrap());
        let train = count_per_class(&digits.train);
        assert_eq!(test.iter().sum::<usize>(), 360);
        assert_eq!(validation.iter().sum::<usize>(), 180);
        assert_eq!(train.iter().sum::<usize>(), 1_257);
        for digit in 0..10 {
            let whole = test[digit] + validation[digit] + train[digit];
            assert!(test[digit].abs_diff(whole / 5) <= 1, "{digit}: {} test", test[digit]);
            assert!(validation[digit].abs_diff(whole / 10) <= 1, "{digit}");
        }
    }

    #[test]
    fn every_record_is_within_range() {
        assert_eq!(RECORDS.len(), 1_797 * RECORD_BYTES);
        for record in RECORDS.chunks_exact(RECORD_BYTES) {
            assert!(record[..RECORD_BYTES - 1].iter().all(|&dots| u16::from(dots) <= DARKEST));
            assert!(label(record) < 10);
        }
    }

    #[test]
    fn full_dots_are_white() {
        let record: Vec<u8> = (0..RECORD_BYTES).map(|at| [0, 8, 16][at % 3]).collect();
        let StoredImage::Grey { pixels, .. } = image(&record) else { unreachable!() };
        assert_eq!(pixels[..3], [0, 128, 255]);
    }
}
