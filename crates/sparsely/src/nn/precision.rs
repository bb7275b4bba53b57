//! What a model's matrix products are rounded to.

use serde::{Deserialize, Serialize};

/// Precision of the factors of matrix products. Parameters, sums and gradients are f32 in either; norms, softmax and
/// losses are computed in f32, and so are the logits of routers and the gates that are made of them. In bf16 vision
/// models store rounded what only products and the activations before them read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Precision {
    /// As they are.
    #[default]
    F32,
    /// Rounded to bf16; the logits of routers are computed in f32 all the same.
    Bf16,
}

impl Precision {
    /// Whether factors stay as they are.
    pub(crate) fn is_f32(&self) -> bool {
        *self == Precision::F32
    }
}

impl From<Precision> for sparsely_tensor::Precision {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => sparsely_tensor::Precision::F32,
            Precision::Bf16 => sparsely_tensor::Precision::Bf16,
        }
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        })
    }
}
