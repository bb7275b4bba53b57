//! E functions, each on its own rows.

use super::{ExpertInit, Routing};
use crate::Result;
use crate::nn::{Init, Initializer, Mode, dropout};
use sparsely_tensor::{Activation, GroupedWeights, Var};

/// E MLPs of the same shape as the dense one, stacked.
#[derive(Clone, Debug)]
pub struct Experts {
    /// `[E, D, F]`, `[E, F]`.
    pub w_in: GroupedWeights,
    /// `[E, F, D]`, `[E, D]`.
    pub w_out: GroupedWeights,
    /// After the activation and after the second layer.
    pub dropout: f32,
}

impl Experts {
    /// Xavier-uniform kernels, biases N(0, 1e-6²).
    pub fn init(
        init: &mut Initializer,
        [e, d, f]: [usize; 3],
        dropout: f32,
        start: ExpertInit,
    ) -> Experts {
        let equal = start == ExpertInit::Equal;
        let kernel = Init::XavierUniform { fan_in: d, fan_out: f };
        let bias = Init::Normal { std: 1e-6 };
        init.scope("experts", |init| Experts {
            w_in: GroupedWeights {
                w: init.stack("w_in", [e, d, f], kernel, equal),
                b: Some(init.stacked_vector("b_in", [e, f], bias, equal)),
            },
            w_out: GroupedWeights {
                w: init.stack("w_out", [e, f, d], kernel, equal),
                b: Some(init.stacked_vector("b_out", [e, d], bias, equal)),
            },
            dropout,
        })
    }

    /// residual + Σ_e gate_e · expert_e(x): `[T, D]` → `[T, D]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn forward<'t>(
        &self,
        x_td: &Var<'t>,
        routing: &Routing<'t>,
        residual_td: &Var<'t>,
        mode: &mut Mode<'_>,
    ) -> Result<Var<'t>> {
        let h_nf = routing.dispatch(x_td, &self.w_in)?;
        if self.dropout == 0.0 || matches!(mode, Mode::Eval) {
            return routing.combine(Activation::Gelu, &h_nf, &self.w_out, Some(residual_td));
        }
        let u_nf = dropout(h_nf.activation(Activation::Gelu), self.dropout, mode)?;
        let y_td = routing.combine(Activation::Identity, &u_nf, &self.w_out, None)?;
        Ok(dropout(y_td, self.dropout, mode)?.add(residual_td)?)
    }
}
