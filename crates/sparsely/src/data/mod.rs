//! Labelled images and texts. Images: opened once, checked before training starts, dealt out in batches.
//!
//! [`Dataset::open`] reads the built-in digits or a folder (IDX, Parquet or class folders) and
//! brings every image to one square size. [`Loader`] deals training batches as a pure function
//! of seed and step; [`sequential`] walks a split once, in order, for evaluation.

mod augment;
mod batch;
mod config;
mod dataset;
mod digits;
mod folder;
mod holdout;
mod idx;
mod image;
mod loader;
mod parquet;
mod source;
mod split;
pub mod text;

pub use augment::{mixup, one_hot, smooth_labels};
pub use batch::{Batch, append_scaled, sequential};
pub use config::{AugmentConfig, DataConfig};
pub use dataset::Dataset;
pub use image::{ImageShape, MAX_DECODED_BYTES, MAX_SIDE, load_image};
pub use loader::{Loader, LoaderConfig, Prefetch};
pub use source::{LabelGroup, class_names, label_groups, validation_images};
pub use split::Split;
