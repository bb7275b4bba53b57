//! Layer normalisation.

use super::{Init, Initializer};
use crate::Result;
use sparsely_tensor::{Param, Var};

/// Of the vision models, as in the reference.
const LAYER_NORM_EPS: f32 = 1e-6;

/// y = (x − mean) / √(var + eps) · scale + bias.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    /// `[D]`.
    pub scale: Param,
    /// `[D]`.
    pub bias: Param,
    /// Added to the variance.
    pub eps: f32,
}

impl LayerNorm {
    /// Scale 1, bias 0, eps 1e-6.
    pub fn init(init: &mut Initializer, name: &str, width: usize) -> LayerNorm {
        init.scope(name, |init| LayerNorm {
            scale: init.vector("scale", [width], Init::Constant(1.0)),
            bias: init.vector("bias", [width], Init::Constant(0.0)),
            eps: LAYER_NORM_EPS,
        })
    }

    /// The same with another `eps`.
    pub fn with_eps(self, eps: f32) -> LayerNorm {
        LayerNorm { eps, ..self }
    }

    /// `[…, D]` → `[…, D]`.
    ///
    /// # Errors
    /// If the width of `x` is not D.
    pub fn forward<'t>(&self, x: &Var<'t>) -> Result<Var<'t>> {
        Ok(x.layer_norm(&self.scale, Some(&self.bias), self.eps)?)
    }

    /// [`LayerNorm::forward`] for what only products read: in bf16 it is stored rounded.
    ///
    /// # Errors
    /// If the width of `x` is not D.
    pub fn rounded<'t>(&self, x: &Var<'t>) -> Result<Var<'t>> {
        Ok(x.layer_norm_rounded(&self.scale, Some(&self.bias), self.eps)?)
    }
}
