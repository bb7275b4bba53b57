//! The images of one split, decoded or ready to be.

use std::borrow::Cow;

use rayon::prelude::*;

use crate::Result;
use crate::data::image::ImageShape;
use crate::data::source::{Labelled, StoredImage};

/// Labelled images, all of one shape.
#[derive(Debug)]
pub struct Split {
    shape: ImageShape,
    class_count: usize,
    labels: Vec<u32>,
    store: Store,
}

#[derive(Debug)]
enum Store {
    /// All pixels, image by image.
    Decoded(Vec<u8>),
    /// Too large in pixels: decoded at each access.
    Encoded(Vec<StoredImage>),
}

impl Split {
    /// Decodes every image now, in parallel: an error is found before training starts.
    pub(crate) fn decoded(part: Labelled, shape: ImageShape, class_count: usize) -> Result<Split> {
        let mut pixels = vec![0; part.images.len() * shape.byte_count()];
        let slots = pixels.par_chunks_exact_mut(shape.byte_count());
        slots.zip(&part.images).try_for_each(|(slot, image)| -> Result<()> {
            slot.copy_from_slice(&image.decode(shape)?);
            Ok(())
        })?;
        Ok(Split { shape, class_count, labels: part.labels, store: Store::Decoded(pixels) })
    }

    /// Keeps the images as they are stored.
    pub(crate) fn encoded(part: Labelled, shape: ImageShape, class_count: usize) -> Split {
        Split { shape, class_count, labels: part.labels, store: Store::Encoded(part.images) }
    }

    /// How many images there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The shape of every image.
    pub fn shape(&self) -> ImageShape {
        self.shape
    }

    /// How many classes the data set has; labels are below.
    pub fn class_count(&self) -> usize {
        self.class_count
    }

    /// The class of image `index`, below [`class_count`](Self::class_count).
    ///
    /// # Panics
    ///
    /// If `index` is not below [`len`](Self::len).
    pub fn label(&self, index: usize) -> u32 {
        self.labels[index]
    }

    /// The classes of all images, in order.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// The pixels `[size, size, channels]` of image `index`. Errors only where images are decoded
    /// at each access, with the file that cannot be read.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`len`](Self::len).
    pub fn pixels(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        match &self.store {
            Store::Decoded(pixels) => {
                let bytes = self.shape.byte_count();
                Ok(Cow::Borrowed(&pixels[index * bytes..][..bytes]))
            }
            Store::Encoded(images) => Ok(Cow::Owned(images[index].decode(self.shape)?)),
        }
    }
}
