//! Three splits out of what was published.

use rand::seq::SliceRandom;

use crate::data::source::{Labelled, Published};
use crate::rng::{Purpose, Rng, stream};

/// Share of the images that is put aside for testing where the source does not divide them.
const TEST_FRACTION: f64 = 0.1;
/// The test images of an undivided source are the same for every seed of a run: results of
/// several seeds could not be compared otherwise.
const TEST_SEED: u64 = 0;

/// Training, validation and test images, and how they came about.
pub(crate) struct Division {
    pub(crate) train: Labelled,
    pub(crate) validation: Labelled,
    pub(crate) test: Labelled,
    /// For people; part of the data set's summary.
    pub(crate) rule: &'static str,
}

impl Division {
    /// Keeps what was published and holds the rest out of the training images, by class.
    ///
    /// Published validation images without test images become the test images: the split that
    /// results are reported on must not be the one that decisions are taken on.
    pub(crate) fn of(published: Published, validation_fraction: f64, seed: u64) -> Division {
        let Published { train, validation, test, .. } = published;
        let mut draw = stream(seed, Purpose::Split, 0);
        match (validation, test) {
            (Some(validation), Some(test)) => {
                Division { train, validation, test, rule: "split as published" }
            }
            (None, Some(test)) => {
                let (train, validation) = hold_out(train, validation_fraction, &mut draw);
                Division { train, validation, test, rule: "validation held out of training" }
            }
            (Some(test), None) => {
                let (train, validation) = hold_out(train, validation_fraction, &mut draw);
                let rule = "published validation is the test, validation held out of training";
                Division { train, validation, test, rule }
            }
            (None, None) => {
                let mut draw_test = stream(TEST_SEED, Purpose::Split, 0);
                let (rest, test) = hold_out(train, TEST_FRACTION, &mut draw_test);
                // A share of all images, of which only the rest is left.
                let fraction = validation_fraction / (1.0 - TEST_FRACTION);
                let (train, validation) = hold_out(rest, fraction, &mut draw);
                Division { train, validation, test, rule: "test and validation held out by class" }
            }
        }
    }
}

impl Division {
    /// Validation and test images in an order of no meaning, the same for every seed. Sources lie
    /// class after class, and a routing group of consecutive images would then hold one class.
    fn mixed(mut self) -> Division {
        for (counter, part) in [&mut self.validation, &mut self.test].into_iter().enumerate() {
            let draw = &mut stream(TEST_SEED, Purpose::EvalOrder, counter as u64);
            let mut order: Vec<usize> = (0..part.labels.len()).collect();
            order.shuffle(draw);
            *part = Labelled {
                images: order.iter().map(|&index| part.images[index].clone()).collect(),
                labels: order.iter().map(|&index| part.labels[index]).collect(),
            };
        }
        self
    }

    /// Keeps at most so many training and test images, of each class its share; validation and test
    /// images are mixed.
    pub(crate) fn limited(mut self, train: Option<usize>, test: Option<usize>, seed: u64) -> Self {
        self.train = at_most(train, self.train, seed);
        self.test = at_most(test, self.test, TEST_SEED);
        self.mixed()
    }
}

fn at_most(limit: Option<usize>, all: Labelled, seed: u64) -> Labelled {
    match limit {
        Some(limit) if limit < all.labels.len() => {
            // Half an image more, so that rounding cannot make it one less.
            let fraction = (limit as f64 + 0.5) / all.labels.len() as f64;
            hold_out(all, fraction, &mut stream(seed, Purpose::Subset, 0)).1
        }
        _ => all,
    }
}

/// What stays and what is held out, each in the source's order.
fn hold_out(all: Labelled, fraction: f64, draw: &mut Rng) -> (Labelled, Labelled) {
    let is_held = choose_by_class(&all.labels, fraction, draw);
    let mut kept = Labelled::default();
    let mut held = Labelled::default();
    for ((image, label), is_held) in all.images.into_iter().zip(all.labels).zip(is_held) {
        let part = if is_held { &mut held } else { &mut kept };
        part.images.push(image);
        part.labels.push(label);
    }
    (kept, held)
}

/// Chooses `⌊fraction · n⌋` of the `n` labels, of each class its share to within one.
///
/// The labels are lined up by class, in random order within a class; a label is chosen where
/// the running total `fraction · position` passes a whole number.
fn choose_by_class(labels: &[u32], fraction: f64, draw: &mut Rng) -> Vec<bool> {
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.shuffle(draw);
    order.sort_by_key(|&index| labels[index]);
    let quota = |position: usize| (position as f64 * fraction).floor();
    let mut is_chosen = vec![false; labels.len()];
    for (position, index) in order.into_iter().enumerate() {
        is_chosen[index] = quota(position + 1) > quota(position);
    }
    is_chosen
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::source::StoredImage;

    fn published(count: usize, validation: bool, test: bool) -> Published {
        let part = || Labelled {
            images: vec![StoredImage::File("x.png".into()); count],
            labels: (0..count).map(|index| (index % 2) as u32).collect(),
        };
        Published {
            name: "x".into(),
            class_names: vec!["a".into(), "b".into()],
            train: part(),
            validation: validation.then(part),
            test: test.then(part),
        }
    }

    fn sizes(validation: bool, test: bool) -> [usize; 3] {
        let division = Division::of(published(100, validation, test), 0.1, 7);
        [division.train, division.validation, division.test].map(|part| part.labels.len())
    }

    #[test]
    fn missing_splits_are_held_out_of_training() {
        assert_eq!(sizes(true, true), [100, 100, 100]);
        assert_eq!(sizes(false, true), [90, 10, 100]);
        assert_eq!(sizes(true, false), [90, 10, 100]);
        assert_eq!(sizes(false, false), [80, 10, 10]);
    }

    #[test]
    fn test_images_do_not_depend_on_the_seed() {
        let labels: Vec<u32> = (0..50).map(|index| index % 3).collect();
        let images: Vec<_> =
            (0..50).map(|index| StoredImage::File(index.to_string().into())).collect();
        let test_of = |seed| {
            let train = Labelled { images: images.clone(), labels: labels.clone() };
            let published = Published { train, ..published(0, false, false) };
            format!("{:?}", Division::of(published, 0.2, seed).test)
        };
        assert_eq!(test_of(0), test_of(1));
    }

    #[test]
    fn a_limit_keeps_that_many_images_and_the_same_test_images_for_every_seed() {
        let labels: Vec<u32> = (0..90).map(|index| index % 3).collect();
        let part = || Labelled {
            images: (0..90).map(|i| StoredImage::File(i.to_string().into())).collect(),
            labels: labels.clone(),
        };
        let published = || Published {
            validation: Some(part()),
            test: Some(part()),
            train: part(),
            ..published(0, false, false)
        };
        let limited = |seed| Division::of(published(), 0.1, seed).limited(Some(30), Some(7), seed);
        let [one, other] = [limited(0), limited(1)];
        assert_eq!(one.train.labels.iter().filter(|label| **label == 0).count(), 10);
        assert_eq!((one.train.labels.len(), one.validation.labels.len()), (30, 90));
        assert_eq!(one.test.labels.len(), 7);
        assert_eq!(format!("{:?}", one.test), format!("{:?}", other.test));
        assert_ne!(format!("{:?}", one.train), format!("{:?}", other.train));
        assert_eq!(
            Division::of(published(), 0.1, 0).limited(Some(200), None, 0).train.labels.len(),
            90
        );
    }

    proptest! {
        #[test]
        fn every_class_gives_its_share(
            labels in proptest::collection::vec(0_u32..5, 0..200),
            fraction in 0.0..0.5,
            seed: u64,
        ) {
            let chosen = choose_by_class(&labels, fraction, &mut stream(seed, Purpose::Split, 0));
            let count = chosen.iter().filter(|&&is_chosen| is_chosen).count();
            prop_assert_eq!(count, (labels.len() as f64 * fraction) as usize);
            for class in 0..5 {
                let of_class = |index: &usize| labels[*index] == class;
                let whole = (0..labels.len()).filter(of_class).count();
                let held = (0..labels.len()).filter(of_class).filter(|&i| chosen[i]).count();
                prop_assert!((held as f64 - whole as f64 * fraction).abs() < 1.0 + 1e-9);
            }
        }
    }
}
