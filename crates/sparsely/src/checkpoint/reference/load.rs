//! Files of parameters, and the model that a configuration makes of them.

use super::flat::{POSITIONS, in_reference_words, params_folder};
use super::{from_arrays, parse_config};
use crate::checkpoint::{Arrays, VmoeCheckpoint, read_npz, read_safetensors};
use crate::data::MAX_SIDE;
use crate::model::{Classifier, ModelConfig, Positions, Vit, resize_positions, token_grid};
use crate::moe::router::Slots;
use crate::moe::{Group, RouterConfig};
use crate::{Error, Result};
use serde_json::Value;
use sparsely_tensor::Slab;
use std::path::{Path, PathBuf};

/// What images are if a checkpoint does not tell; only to say what is wrong with the checkpoint.
const USUAL_IMAGE_SIZE: usize = 224;
const USUAL_CHANNELS: usize = 3;

/// Parameters of the reference or of a ViT, from a file, in the reference's words.
#[derive(Debug)]
pub struct ReferenceParams {
    path: PathBuf,
    arrays: Arrays,
}

impl ReferenceParams {
    /// Reads parameters, alone or those of a training state: `.npz` or `.safetensors` with flat
    /// names (the reference's, vision_transformer's or big_vision's), or else the prefix of a
    /// checkpoint in the reference's own format.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Format`] for files that are damaged or of another format.
    pub fn open(path: &Path) -> Result<ReferenceParams> {
        let arrays = match path.extension().and_then(|extension| extension.to_str()) {
            Some("npz") => read_npz(path)?,
            Some("safetensors") => read_safetensors(path)?.0,
            _ => {
                let checkpoint = VmoeCheckpoint::open(path)?;
                let folder = params_folder(checkpoint.shapes().map(|(name, _)| name));
                checkpoint.read(|name| name.starts_with(folder))?
            }
        };
        let arrays = in_reference_words(arrays, path)?;
        Ok(ReferenceParams { path: path.to_path_buf(), arrays })
    }

    /// Height and width of the images that the learned positions are for, in pixels.
    pub fn image_size(&self) -> Option<usize> {
        let (&[1, tokens, _], &[patch, _, _, _]) =
            (&*self.arrays.get(POSITIONS)?.shape, &*self.arrays.get("embedding/kernel")?.shape)
        else {
            return None;
        };
        let (side, _) = token_grid(tokens)?;
        side.checked_mul(patch)
    }

    /// The model of the reference's configuration `json` with these parameters, for images of
    /// `image_size` pixels (`None`: those of the learned positions). Learned positions of another
    /// size are resized ([`resize_positions`]), and groups of whole images stay as many images.
    ///
    /// # Errors
    /// What the configuration asks for and is not supported; all arrays that are missing,
    /// unexpected or of another shape, at once.
    pub fn into_model(
        mut self,
        json: &Value,
        image_size: Option<usize>,
    ) -> Result<(ModelConfig, Slab)> {
        if let Some(size) = image_size.filter(|size| *size > MAX_SIDE as usize) {
            return Err(Error::config(format!("images of {size} pixels a side, above {MAX_SIDE}")));
        }
        let native = self.image_size();
        let at_size = |size| parse_config(json, size, self.channels());
        let mut config = at_size(image_size.or(native).unwrap_or(USUAL_IMAGE_SIZE))?;
        if image_size.or(native).is_none() && config.positions != Positions::Learned {
            let needed = "an image size is needed: there are no learned positions that tell it";
            return Err(Error::config(needed));
        }
        if let Some(native) = native.filter(|native| *native != config.image_size) {
            keep_groups_and_slots(&mut config, native);
            self.resize_positions(&config);
        }
        let (_, layout) = Vit::new(&config)?;
        let params = from_arrays(&config, &layout, &self.arrays, &self.path)?;
        Ok((config, params))
    }

    fn channels(&self) -> usize {
        match self.arrays.get("embedding/kernel").map(|kernel| &*kernel.shape) {
            Some(&[_, _, channels, _]) => channels,
            _ => USUAL_CHANNELS,
        }
    }

    /// Positions that cannot be resized stay: their shape is then told with all others.
    fn resize_positions(&mut self, config: &ModelConfig) {
        let Some(positions) = self.arrays.get_mut(POSITIONS) else { return };
        let [1, tokens, d] = positions.shape[..] else { return };
        let is_token = config.classifier == Classifier::Token;
        if d != config.width || token_grid(tokens).is_none_or(|(_, has_cls)| has_cls != is_token) {
            return;
        }
        if let Some(values) = resize_positions(&positions.values, d, config.length()) {
            positions.values = values;
            positions.shape[1] = config.length();
        }
    }
}

/// Groups are told in tokens of the size that a model was trained with, and slots may be told as a
/// share of them: both stay as they were.
fn keep_groups_and_slots(config: &mut ModelConfig, native_size: usize) {
    let native = ModelConfig { image_size: native_size, ..config.clone() }.length();
    let length = config.length();
    let Some(moe) = &mut config.moe else { return };
    if let RouterConfig::Soft(router) = &mut moe.router
        && let Ok(n) = router.slots.per_expert(moe.group.tokens(native), moe.num_experts)
    {
        router.slots = Slots::Exact { n };
    }
    if let Group::Tokens { n } = &mut moe.group
        && n.is_multiple_of(native)
    {
        *n = *n / native * length;
    }
}
