//! The dense feed-forward block.

use super::{Init, Initializer, Linear, Mode, dropout};
use crate::Result;
use sparsely_tensor::{Activation, Var};

/// Initial biases of an MLP, dense or expert: N(0, 1e-6²).
pub(super) const MLP_BIAS: Init = Init::Normal { std: 1e-6 };

/// y = GELU(x W₁ + b₁) W₂ + b₂.
#[derive(Clone, Debug)]
pub struct Mlp {
    /// `[D, F]`.
    pub dense_0: Linear,
    /// `[F, D]`.
    pub dense_1: Linear,
    /// After the activation and after the second layer.
    pub dropout: f32,
}

impl Mlp {
    /// Xavier-uniform kernels.
    pub fn init(init: &mut Initializer, name: &str, [d, f]: [usize; 2], dropout: f32) -> Mlp {
        let kernel = Init::XavierUniform { fan_in: d, fan_out: f };
        init.scope(name, |init| Mlp {
            dense_0: Linear::init(init, "dense_0", [d, f], kernel, MLP_BIAS),
            dense_1: Linear::init(init, "dense_1", [f, d], kernel, MLP_BIAS),
            dropout,
        })
    }

    /// residual + MLP(x): `[…, D]` → `[…, D]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn forward<'t>(
        &self,
        x: &Var<'t>,
        residual: &Var<'t>,
        mode: &mut Mode<'_>,
    ) -> Result<Var<'t>> {
        let z = self.dense_0.rounded(x)?;
        if self.dropout == 0.0 || matches!(mode, Mode::Eval) {
            return self.dense_1.activated(&z, Activation::Gelu, Some(residual));
        }
        let u = dropout(z.activation(Activation::Gelu), self.dropout, mode)?;
        let y = dropout(self.dense_1.forward(&u)?, self.dropout, mode)?;
        Ok(y.add(residual)?)
    }
}
