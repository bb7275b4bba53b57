//! Models that have learned from images.

use crate::Result;
use crate::checkpoint::RunFolder;
use crate::eval::SavedModel;
use crate::model::Vit;
use sparsely_tensor::PackedSlab;
use std::path::Path;

/// What came out of a run.
pub struct Learned {
    pub(super) description: SavedModel,
    pub(super) model: Vit,
    pub(super) params: PackedSlab,
}

impl Learned {
    /// From the folder of a run that has finished.
    ///
    /// # Errors
    /// If it is missing or damaged.
    pub(super) fn load(path: &Path) -> Result<Learned> {
        let (description, model, params) = SavedModel::open(&RunFolder::open(path)?)?;
        Ok(Learned { description, model, params })
    }
}
