//! SwitchHead (Csordás et al. 2024, arXiv 2312.07987): experts inside the projections of each head, one
//! attention matrix a head whatever K is.

use super::SwitchHeadConfig;
use super::context::ContextReader;
use super::positions::Positions;
use super::projection::{IntoHeads, OutOfHeads};
use super::router::{HeadRouters, HeadSide};
use super::scene::{KeysValues, Reading, Report, Scene};
use crate::Result;
use crate::nn::{Init, Initializer, Mode};
use sparsely_tensor::{Activation, RowGroups, Var};
use std::sync::Arc;

/// A layer of H heads of E experts.
#[derive(Clone, Debug)]
pub struct SwitchHead {
    /// Into heads.
    pub queries: IntoHeads,
    /// Into heads.
    pub keys: IntoHeads,
    /// Into heads.
    pub values: IntoHeads,
    /// Out of heads.
    pub outputs: OutOfHeads,
    /// What chooses experts.
    pub routers: HeadRouters,
    /// Makes what the routers read beside tokens.
    pub context: Option<ContextReader>,
    /// Where keys are.
    pub positions: Positions,
    config: SwitchHeadConfig,
}

impl SwitchHead {
    /// Fresh, for width D in a model of `depth` layers: projections N(0, S²/fan_in) with S = √(2/depth), routers
    /// renormalised.
    pub fn init(
        init: &mut Initializer,
        config: &SwitchHeadConfig,
        [d, depth]: [usize; 2],
    ) -> SwitchHead {
        let &SwitchHeadConfig { heads: h, head_width: a, num_experts: e, experts, .. } = config;
        let s = (2.0 / depth as f32).sqrt();
        let from = |fan_in: usize| Init::Normal { std: s / (fan_in as f32).sqrt() };
        let has_experts = e > 1;
        let into = |init: &mut Initializer, name: &str, on: bool| match on && has_experts {
            true => IntoHeads::Experts(init.stack(name, [h * e, d, a], from(d), false)),
            false => IntoHeads::Dense(init.kernel(name, [d, h * a], from(d))),
        };
        let queries = into(init, "queries", experts.queries);
        let keys = into(init, "keys", experts.keys);
        let values = into(init, "values", experts.values);
        let outputs = match experts.outputs && has_experts {
            true => OutOfHeads::Experts(init.stack("outputs", [h * e, a, d], from(h * a), false)),
            false => OutOfHeads::Dense(init.kernel("outputs", [h * a, d], from(h * a))),
        };
        let context = config.context.map(|own| ContextReader::init(init, &own, d));
        SwitchHead {
            queries,
            keys,
            values,
            outputs,
            routers: HeadRouters::init(init, config, context.as_ref(), [d, depth]),
            context,
            positions: Positions::init(init, config.positions, [d, h * a, a], from(d)),
            config: *config,
        }
    }

    /// What the routers read of the outputs `[B, L, D]` of the attention of the block before, if they do.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn read_context<'t>(&self, y_bld: &Var<'t>) -> Result<Option<Var<'t>>> {
        self.context.as_ref().map(|reader| reader.read(y_bld)).transpose()
    }

    /// Keys and values of `[B, L, D]`, the first at place `first`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn source<'a, 't: 'a>(
        &self,
        tokens: impl Into<Reading<'a, 't>>,
        first: usize,
        mode: &mut Mode<'_>,
        report: &mut Report<'t>,
    ) -> Result<KeysValues<'t>> {
        let tokens = tokens.into();
        let choice = self.routers.choose(HeadSide::Source, tokens, (mode, report))?;
        let keys = self.keys.forward(tokens.x, choice.as_ref())?;
        let values = self.values.forward(tokens.x, choice.as_ref())?;
        Ok(KeysValues { keys: self.positions.turn(keys, first)?, values })
    }

    /// Queries of `[B, Q, D]` over a source: `[B, Q, D]`, plus the residual.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn attend<'a, 't: 'a>(
        &self,
        tokens: impl Into<Reading<'a, 't>>,
        source: &KeysValues<'t>,
        scene: &Scene<'_, 't>,
        residual: Option<&Var<'t>>,
        (mode, report): (&mut Mode<'_>, &mut Report<'t>),
    ) -> Result<Var<'t>> {
        let tokens = tokens.into();
        let &SwitchHeadConfig { heads, head_width: a, num_experts, .. } = &self.config;
        let x = tokens.x;
        let [b, l, d] = x.dims("SwitchHead::attend")?;
        let choice = self.routers.choose(HeadSide::Destination, tokens, (mode, report))?;
        let queries = self.queries.forward(x, choice.as_ref())?;
        let scale = 1.0 / (a as f32).sqrt();
        let pair = [queries.clone(), queries];
        let mut mixed = scene.attend(&self.positions, pair, source, (a, scale))?;
        if num_experts == 1 {
            mixed =
                self.gated(x, &mixed.reshape([b * l * heads, a])?)?.reshape([b, l, heads * a])?;
        }
        let y = self.outputs.forward(&mixed, choice.as_ref(), residual)?;
        Ok(y.reshape([b, l, d])?)
    }

    /// Each head times its gate: rows `[B·L·H, A]`.
    fn gated<'t>(&self, x: &Var<'t>, mixed: &Var<'t>) -> Result<Var<'t>> {
        let Some(router) = &self.routers.destination else { return Ok(mixed.clone()) };
        let rows = mixed.shape().rows();
        let logits = x.linear_f32(&router.kernel, None)?;
        let gates = logits.activation(Activation::Sigmoid);
        let own = RowGroups::new(rows, &[(0..rows as u32).collect()])?;
        Ok(mixed.scatter_rows(&Arc::new(own), &gates.reshape([rows])?, None)?)
    }
}
