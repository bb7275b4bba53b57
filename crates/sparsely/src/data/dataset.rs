//! A data set, opened: every image seen, every split in place.

use std::fmt;

use rayon::prelude::*;

use crate::data::config::DataConfig;
use crate::data::holdout::Division;
use crate::data::image::{Header, ImageShape};
use crate::data::source::{self, Labelled};
use crate::data::split::Split;
use crate::{Error, Result};

/// Decoded pixels up to this many bytes are kept in memory.
const MAX_RESIDENT_BYTES: u64 = 2 << 30;

/// Labelled images in three splits, all of one square shape.
#[derive(Debug)]
pub struct Dataset {
    /// `digits` or the folder's name.
    pub name: String,
    /// One name per class, in order of the labels.
    pub class_names: Vec<String>,
    /// 1 if every image is grey, else 3.
    pub channels: usize,
    /// Side of the images as they are served, in pixels.
    pub image_size: usize,
    /// Side of the images in the source; `None` where they do not share one square size.
    pub native_size: Option<usize>,
    /// Images to learn from.
    pub train: Split,
    /// Images to take decisions on.
    pub validation: Split,
    /// Images to report results on.
    pub test: Split,
    split_rule: &'static str,
}

impl Dataset {
    /// Opens the source that `config` names; images of another size than `image_size` (`None`:
    /// the source's own) are cut to their middle square and resized.
    ///
    /// `seed` decides which images are held out for validation; it matters only for a source
    /// without validation images.
    ///
    /// Errors name what cannot be used: a setting, a missing file, a broken image, a label out
    /// of range. All headers are read here, and all images decoded if their pixels fit in 2 GiB.
    pub fn open(config: &DataConfig, image_size: Option<usize>, seed: u64) -> Result<Dataset> {
        config.validate()?;
        let published = source::read(config)?;
        let name = published.name.clone();
        let class_names = published.class_names.clone();
        let division = Division::of(published, config.validation_fraction, seed).limited(
            config.max_train_images,
            config.max_test_images,
            seed,
        );
        let survey = Survey::of(&division)?;
        let size = image_size.or(survey.native_size).ok_or_else(|| size_needed(config))?;
        let shape = ImageShape::new(size, if survey.is_grey { 1 } else { 3 })?;
        let split_rule = division.rule;
        let [train, validation, test] = load(division, shape, class_names.len())?;
        Ok(Dataset {
            name,
            class_names,
            channels: shape.channels,
            image_size: size,
            native_size: survey.native_size,
            train,
            validation,
            test,
            split_rule,
        })
    }
}

/// One line: sizes of the splits, shape, classes, and how the splits came about.
impl fmt::Display for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (size, channels) = (self.image_size, self.channels);
        write!(
            f,
            "{}: {} training, {} validation, {} test images of {size}×{size}×{channels}, \
             {} classes ({})",
            self.name,
            self.train.len(),
            self.validation.len(),
            self.test.len(),
            self.class_names.len(),
            self.split_rule
        )
    }
}

fn size_needed(config: &DataConfig) -> Error {
    let source = &config.source;
    Error::config(format!(
        "an image size is needed: the images in `{source}` do not share one square size"
    ))
}

fn load(division: Division, shape: ImageShape, class_count: usize) -> Result<[Split; 3]> {
    let Division { train, validation, test, .. } = division;
    let image_count = train.images.len() + validation.images.len() + test.images.len();
    let resident_bytes = image_count as u64 * shape.byte_count() as u64;
    let load_part = |part: Labelled| {
        if resident_bytes <= MAX_RESIDENT_BYTES {
            Split::decoded(part, shape, class_count)
        } else {
            Ok(Split::encoded(part, shape, class_count))
        }
    };
    Ok([load_part(train)?, load_part(validation)?, load_part(test)?])
}

/// What all images have in common.
#[derive(Clone, Copy)]
struct Survey {
    native_size: Option<usize>,
    is_grey: bool,
}

impl Survey {
    /// Reads every header.
    fn of(division: &Division) -> Result<Survey> {
        let parts = [&division.train, &division.validation, &division.test];
        let images = parts.into_par_iter().flat_map(|part| &part.images);
        let surveys = images.map(|image| Ok(Survey::from(image.header()?)));
        let none = Survey { native_size: None, is_grey: true };
        surveys.try_reduce_with(|one, other| Ok(one.and(other))).unwrap_or(Ok(none))
    }

    fn and(self, other: Survey) -> Survey {
        let is_same = self.native_size == other.native_size;
        Survey {
            native_size: if is_same { self.native_size } else { None },
            is_grey: self.is_grey && other.is_grey,
        }
    }
}

impl From<Header> for Survey {
    fn from(header: Header) -> Survey {
        let is_square = header.width == header.height;
        Survey { native_size: is_square.then_some(header.width), is_grey: header.is_grey }
    }
}

#[cfg(test)]
#[path = "dataset_tests.rs"]
mod tests;
