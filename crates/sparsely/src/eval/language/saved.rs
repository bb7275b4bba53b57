//! A language model as `model.safetensors` and `model.json` hold it.

use crate::checkpoint::RunFolder;
use crate::data::text::Tokenizer;
use crate::eval::saved_model::{params, with_arrays};
use crate::model::language::{LanguageConfig, LanguageModel};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use sparsely_tensor::Slab;

/// What parameters are parameters of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedLanguageModel {
    /// The model.
    pub model: LanguageConfig,
    /// Checksum of its tokenizer; 0 for bytes.
    pub tokenizer: u32,
    /// Steps that it learned for.
    pub step: u64,
}

impl SavedLanguageModel {
    /// Writes the model into the run's folder.
    ///
    /// # Errors
    /// If the file system refuses; what was there stays.
    pub fn save(&self, folder: &RunFolder, params: &Slab) -> Result<()> {
        let json = serde_json::to_value(self).map_err(|e| Error::config(e.to_string()))?;
        with_arrays(&[("", params)], |arrays| folder.save_model(arrays, &json))
    }

    /// Reads it back.
    ///
    /// # Errors
    /// If a file is missing or damaged, or parameters do not fit the configuration.
    pub fn load(folder: &RunFolder) -> Result<(SavedLanguageModel, LanguageModel, Slab)> {
        let saved = folder.load_model()?;
        let description: SavedLanguageModel =
            serde_json::from_value(saved.json.clone()).map_err(|e| {
                Error::format(&saved.path, "a description of a language model", e.to_string())
            })?;
        let (model, layout) = LanguageModel::new(&description.model)?;
        let params = params(&saved, &layout)?;
        Ok((description, model, params))
    }

    /// Refuses a tokenizer that the model did not learn with.
    ///
    /// # Errors
    /// If it is another one; the folder is named.
    pub fn check_tokenizer(&self, tokenizer: &Tokenizer, folder: &RunFolder) -> Result<()> {
        let own = (self.model.vocabulary, self.tokenizer);
        if own == (tokenizer.vocabulary(), tokenizer.fingerprint()) {
            return Ok(());
        }
        Err(Error::format(
            folder.path(),
            format!("the tokenizer that the model learned with, of {} tokens", own.0),
            format!("another one, of {} tokens", tokenizer.vocabulary()),
        ))
    }
}
