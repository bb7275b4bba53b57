//! Layer normalisation.

use super::{Init, Initializer};
use crate::Result;
use sparsely_tensor::{Param, Var};

/// Added to the variance, as in the reference.
const LAYER_NORM_EPS: f32 = 1e-6;

/// y = (x − mean) / √(var + 1e-6) · scale + bias.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    /// `[D]`.
    pub scale: Param,
    /// `[D]`.
    pub bias: Param,
}

impl LayerNorm {
    /// Scale 1, bias 0.
    pub fn init(init: &mut Initializer, name: &str, width: usize) -> LayerNorm {
        init.scope(name, |init| LayerNorm {
            scale: init.vector("scale", [width], Init::Constant(1.0)),
            bias: init.vector("bias", [width], Init::Constant(0.0)),
        })
    }

    /// `[…, D]` → `[…, D]`.
    ///
    /// # Errors
    /// If the width of `x` is not D.
    pub fn forward<'t>(&self, x: &Var<'t>) -> Result<Var<'t>> {
        Ok(x.layer_norm(&self.scale, Some(&self.bias), LAYER_NORM_EPS)?)
    }
}
