//! The affine layer.

use super::{Init, Initializer};
use crate::Result;
use sparsely_tensor::{Activation, Param, Var};

/// y = act(x) W + b.
#[derive(Clone, Debug)]
pub struct Linear {
    /// `[I, O]`.
    pub kernel: Param,
    /// `[O]`.
    pub bias: Option<Param>,
}

impl Linear {
    /// A layer with bias, in the scope `name`.
    pub fn init(
        init: &mut Initializer,
        name: &str,
        [inputs, outputs]: [usize; 2],
        kernel: Init,
        bias: Init,
    ) -> Linear {
        init.scope(name, |init| Linear {
            kernel: init.kernel("kernel", [inputs, outputs], kernel),
            bias: Some(init.vector("bias", [outputs], bias)),
        })
    }

    /// `[…, I]` → `[…, O]`.
    ///
    /// # Errors
    /// If the width of `x` is not I.
    pub fn forward<'t>(&self, x: &Var<'t>) -> Result<Var<'t>> {
        self.activated(x, Activation::Identity, None)
    }

    /// [`Linear::forward`] for what only products and activations read: in bf16 it is stored rounded.
    ///
    /// # Errors
    /// If the width of `x` is not I.
    pub fn rounded<'t>(&self, x: &Var<'t>) -> Result<Var<'t>> {
        Ok(x.linear_rounded(Activation::Identity, &self.kernel, self.bias.as_ref())?)
    }

    /// act(x) W + b + residual.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn activated<'t>(
        &self,
        x: &Var<'t>,
        act: Activation,
        residual: Option<&Var<'t>>,
    ) -> Result<Var<'t>> {
        Ok(x.linear(act, &self.kernel, self.bias.as_ref(), residual)?)
    }
}
