//! What a decision of the router is about: a token or a whole image.

use serde::{Deserialize, Serialize};

/// What is routed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Granularity {
    /// Each token, in each MoE layer anew, by a router of that layer.
    #[default]
    Token,
    /// Whole images, once for all MoE layers, by one router that reads the image before the first of
    /// them (Mobile V-MoE, arXiv 2309.04354, section 2.1). A group is of images then.
    Image {
        /// What the router reads.
        #[serde(default)]
        input: ImageInput,
    },
}

/// How the tokens of an image become the vector that its router reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageInput {
    /// Their mean.
    #[default]
    Mean,
    /// The class token.
    Cls,
    /// A mean weighed by a softmax over tokens of a learned score.
    Pooled,
}

impl Granularity {
    /// Vectors of an image of L tokens that are routed: L or 1.
    pub fn routed_length(self, length: usize) -> usize {
        match self {
            Granularity::Token => length,
            Granularity::Image { .. } => 1,
        }
    }

    /// What the router of whole images reads; nothing where tokens are routed.
    pub fn image_input(self) -> Option<ImageInput> {
        match self {
            Granularity::Token => None,
            Granularity::Image { input } => Some(input),
        }
    }
}
