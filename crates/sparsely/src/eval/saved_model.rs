//! A model as `model.safetensors` and `model.json` hold it.

use crate::checkpoint::{ArrayRef, Model, RunFolder};
use crate::model::{ModelConfig, Vit};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use sparsely_tensor::{Layout, PackedSlab, Slab};
use std::path::Path;
use std::sync::Arc;

/// What parameters are parameters of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedModel {
    /// The model.
    pub model: ModelConfig,
    /// One name for each class.
    pub class_names: Vec<String>,
    /// Steps that it learned for.
    pub step: u64,
    /// Where it was imported from; nothing for a model that was trained here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported_from: Option<String>,
}

/// Names for classes that nobody has named: `class 0`, `class 1`, ….
pub fn numbered_classes(count: usize) -> Vec<String> {
    (0..count).map(|class| format!("class {class}")).collect()
}

impl SavedModel {
    /// Whether somebody has named the classes; if not, any data set with as many of them will do.
    pub fn has_class_names(&self) -> bool {
        self.class_names != numbered_classes(self.class_names.len())
    }

    /// Writes the model into the run's folder.
    ///
    /// # Errors
    /// If the file system refuses; what was there stays.
    pub fn save(&self, folder: &RunFolder, params: &Slab) -> Result<()> {
        let json = serde_json::to_value(self).map_err(|e| Error::config(e.to_string()))?;
        with_arrays(&[("", params)], |arrays| folder.save_model(arrays, &json))
    }

    /// Opens it for inference. Parameters are left in their file, and experts are read when they are first
    /// asked; a file that cannot be used as it lies is read.
    ///
    /// # Errors
    /// As of [`SavedModel::load`]; an expert that is damaged is told when it is first asked.
    pub fn open(folder: &RunFolder) -> Result<(SavedModel, Vit, PackedSlab)> {
        let Some(mapped) = folder.map_model()? else {
            let (description, vit, params) = SavedModel::load(folder)?;
            return Ok((description, vit, PackedSlab::new(params)));
        };
        let description = described(mapped.path(), &mapped.json)?;
        let (vit, layout) = Vit::new(&description.model)?;
        Ok((description, vit, mapped.params(layout)?))
    }

    /// Reads it back, to be changed.
    ///
    /// # Errors
    /// If a file is missing or damaged, or parameters do not fit the configuration.
    pub fn load(folder: &RunFolder) -> Result<(SavedModel, Vit, Slab)> {
        let saved = folder.load_model()?;
        let description = described(&saved.path, &saved.json)?;
        let (vit, layout) = Vit::new(&description.model)?;
        let params = params(&saved, &layout)?;
        Ok((description, vit, params))
    }
}

fn described(path: &Path, json: &serde_json::Value) -> Result<SavedModel> {
    serde_json::from_value(json.clone())
        .map_err(|e| Error::format(path, "a description of a model", e.to_string()))
}

/// The shapes are checked first: a small file may describe any model.
pub(super) fn params(saved: &Model, layout: &Arc<Layout>) -> Result<Slab> {
    let shapes: Vec<_> =
        layout.views().iter().map(|view| (&*view.name, view.param.shape())).collect();
    let expected: Vec<(&str, &[usize])> = shapes.iter().map(|(n, s)| (*n, s.axes())).collect();
    saved.check_shapes(&expected)?;
    let mut params = Slab::zeros(layout.clone());
    for view in layout.views() {
        params.view_mut(&view.param).copy_from_slice(&saved.arrays[&view.name].values);
    }
    Ok(params)
}

/// Calls `f` with the values of slabs as named arrays, each slab's prefix before its names.
pub(crate) fn with_arrays<R>(slabs: &[(&str, &Slab)], f: impl FnOnce(&[ArrayRef<'_>]) -> R) -> R {
    let named: Vec<_> = slabs
        .iter()
        .flat_map(|(prefix, slab)| {
            let views = slab.layout().views().iter();
            views
                .map(move |v| (format!("{prefix}{}", v.name), v.param.shape(), slab.view(&v.param)))
        })
        .collect();
    let arrays: Vec<_> = named
        .iter()
        .map(|(name, shape, values)| ArrayRef { name, shape: shape.axes(), values })
        .collect();
    f(&arrays)
}
