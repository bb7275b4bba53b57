//! The second half of a block.

use super::MlpConfig;
use crate::Result;
use crate::attention::truncated;
use crate::moe::router::Learned;
use crate::moe::{Dial, MoeLayer, RouterStats, SigmaMoe};
use crate::nn::{Init, Initializer, Linear, Mode, dropout};
use sparsely_tensor::{Activation, Slab, Var};

/// An MLP, dense or of experts.
pub(super) enum MlpLayer {
    Dense { dense_0: Linear, dense_1: Linear },
    Sigma(SigmaMoe),
    Moe(MoeLayer),
}

/// What came of an MLP.
pub(super) struct MlpOutput<'t> {
    pub(super) y_bld: Var<'t>,
    pub(super) losses: Vec<(Var<'t>, f32)>,
    pub(super) stats: Option<RouterStats>,
}

impl MlpLayer {
    /// Fresh, for width D in a model of `depth` layers and blocks of text of T tokens.
    pub(super) fn init(
        init: &mut Initializer,
        config: &MlpConfig,
        [d, depth, t]: [usize; 3],
    ) -> MlpLayer {
        match config {
            MlpConfig::Dense(config) => {
                let (f, zero) = (config.width, Init::Constant(0.0));
                let kernel = |fan_in: usize| truncated(depth, fan_in);
                init.scope("mlp", |init| MlpLayer::Dense {
                    dense_0: Linear::init(init, "dense_0", [d, f], kernel(d), zero),
                    dense_1: Linear::init(init, "dense_1", [f, d], kernel(f), zero),
                })
            }
            MlpConfig::SigmaMoe(config) => {
                MlpLayer::Sigma(SigmaMoe::init(init, config, [d, d, depth]))
            }
            MlpConfig::Moe(config) => {
                MlpLayer::Moe(MoeLayer::init(init, &config.moe, [d, config.expert_width, t]))
            }
        }
    }

    /// residual + Dropout(MLP(x)): `[B, L, D]` → `[B, L, D]`.
    pub(super) fn forward<'t>(
        &self,
        x_bld: &Var<'t>,
        residual_bld: &Var<'t>,
        rate: f32,
        mode: &mut Mode<'_>,
    ) -> Result<MlpOutput<'t>> {
        if rate == 0.0 || matches!(mode, Mode::Eval) {
            return self.plain(x_bld, Some(residual_bld), mode);
        }
        let output = self.plain(x_bld, None, mode)?;
        let y_bld = dropout(output.y_bld, rate, mode)?.add(residual_bld)?;
        Ok(MlpOutput { y_bld, ..output })
    }

    fn plain<'t>(
        &self,
        x_bld: &Var<'t>,
        residual_bld: Option<&Var<'t>>,
        mode: &mut Mode<'_>,
    ) -> Result<MlpOutput<'t>> {
        let [b, l, d] = x_bld.dims("language MLP")?;
        match self {
            MlpLayer::Dense { dense_0, dense_1 } => {
                let z = dense_0.forward(x_bld)?;
                let y_bld = dense_1.activated(&z, Activation::Relu, residual_bld)?;
                Ok(MlpOutput { y_bld, losses: Vec::new(), stats: None })
            }
            MlpLayer::Sigma(layer) => {
                let x_td = x_bld.reshape([b * l, d])?;
                let residual_td = residual_bld.map(|r| r.reshape([b * l, d])).transpose()?;
                let routing = layer.route(&x_td, mode)?;
                let y_td = layer.forward(&x_td, &routing, residual_td.as_ref())?;
                let y_bld = y_td.reshape([b, l, d])?;
                Ok(MlpOutput { y_bld, losses: routing.losses, stats: Some(routing.stats) })
            }
            MlpLayer::Moe(layer) => {
                let zeros = || x_bld.tape().constant([b, l, d], &vec![0.0; b * l * d]);
                let residual_bld = residual_bld.cloned().map_or_else(zeros, Ok)?;
                let output = layer.forward(x_bld, &residual_bld, &Dial::default(), mode)?;
                let (y_bld, losses) = (output.y_bld, output.losses);
                Ok(MlpOutput { y_bld, losses, stats: Some(output.stats) })
            }
        }
    }

    pub(super) fn adapt(&self, params: &mut Slab, learned: &Learned<'_>) {
        if let MlpLayer::Moe(layer) = self {
            layer.adapt(params, learned);
        }
    }
}
