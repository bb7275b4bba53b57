//! SwitchHead (Csordás et al. 2024, arXiv 2312.07987): experts inside the projections of each head, one
//! attention matrix a head whatever K is.

use super::choice::{Chooser, HeadChoice};
use super::positions::Positions;
use super::scene::{KeysValues, Report, Scene};
use super::{HeadGate, SwitchHeadConfig};
use crate::Result;
use crate::nn::{Init, Initializer, Mode, Renormalised};
use sparsely_tensor::{Activation, Param, RowGroups, Var};
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
    /// `[D, H·E]`, reads the source; none where nothing there has experts or the other serves it.
    pub source_router: Option<Param>,
    /// `[D, H·E]`, reads the queries; with one expert a gate for each head.
    pub destination_router: Option<Param>,
    /// Where keys are.
    pub positions: Positions,
    config: SwitchHeadConfig,
}

/// A projection from tokens to heads.
#[derive(Clone, Copy, Debug)]
pub enum IntoHeads {
    /// `[D, H·A]`.
    Dense(Param),
    /// `[H·E, D, A]`.
    Experts(Param),
}

/// A projection from heads to tokens.
#[derive(Clone, Copy, Debug)]
pub enum OutOfHeads {
    /// `[H·A, D]`.
    Dense(Param),
    /// `[H·E, A, D]`.
    Experts(Param),
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
        let router = |init: &mut Initializer, name: &str| {
            let std = s / (d as f32).sqrt();
            let keeps = Renormalised::OwnStd;
            init.kernel(name, [d, h * e], Init::Router { std, columns: h * e, keeps })
        };
        let queries = into(init, "queries", experts.queries);
        let keys = into(init, "keys", experts.keys);
        let values = into(init, "values", experts.values);
        let outputs = match experts.outputs && has_experts {
            true => OutOfHeads::Experts(init.stack("outputs", [h * e, a, d], from(h * a), false)),
            false => OutOfHeads::Dense(init.kernel("outputs", [h * a, d], from(h * a))),
        };
        let shares = config.shared_router;
        let needs_source = has_experts && experts.source() && !shares;
        let needs_destination = match has_experts {
            true => experts.destination() || shares && experts.source(),
            // The softmax of one is 1.
            false => config.gate == HeadGate::Sigmoid,
        };
        SwitchHead {
            queries,
            keys,
            values,
            outputs,
            source_router: needs_source.then(|| router(init, "source_router")),
            destination_router: needs_destination.then(|| router(init, "destination_router")),
            positions: Positions::init(init, config.positions, [d, h * a, a], from(d)),
            config: *config,
        }
    }

    fn chooser(&self) -> Chooser {
        let config = &self.config;
        Chooser {
            heads: config.heads,
            experts: config.num_experts,
            selected: config.num_selected,
            gate: config.gate,
            dropout: config.expert_dropout,
        }
    }

    /// The choice of tokens `[B, L, D]`, if the router is there and something has experts.
    fn choose<'t>(
        &self,
        x: &Var<'t>,
        router: Option<Param>,
        mode: &mut Mode<'_>,
    ) -> Result<Option<HeadChoice<'t>>> {
        let Some(router) = router else { return Ok(None) };
        let [b, l, d] = x.dims("SwitchHead router")?;
        let x_td = x.reshape([b * l, d])?;
        let logits = x_td.linear(Activation::Identity, &router, None, None)?;
        Ok(Some(self.chooser().choose(&logits, mode)?))
    }

    /// Keys and values of `[B, L, D]`, the first at place `first`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn source<'t>(
        &self,
        x: &Var<'t>,
        first: usize,
        mode: &mut Mode<'_>,
        report: &mut Report<'t>,
    ) -> Result<KeysValues<'t>> {
        let has_experts = self.config.num_experts > 1 && self.config.experts.source();
        let router = self.source_router.or(self.destination_router).filter(|_| has_experts);
        let choice = self.choose(x, router, mode)?;
        let keys = self.keys.forward(x, choice.as_ref())?;
        let values = self.values.forward(x, choice.as_ref())?;
        report.source = choice.map(|choice| choice.stats);
        Ok(KeysValues { keys: self.positions.turn(keys, first)?, values })
    }

    /// Queries of `[B, Q, D]` over a source: `[B, Q, D]`, plus the residual.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn attend<'t>(
        &self,
        x: &Var<'t>,
        source: &KeysValues<'t>,
        scene: &Scene<'_, 't>,
        residual: Option<&Var<'t>>,
        (mode, report): (&mut Mode<'_>, &mut Report<'t>),
    ) -> Result<Var<'t>> {
        let &SwitchHeadConfig { heads, head_width: a, num_experts, experts, .. } = &self.config;
        let [b, l, d] = x.dims("SwitchHead::attend")?;
        let has_experts = num_experts > 1 && experts.destination();
        let router = self.destination_router.filter(|_| has_experts);
        let choice = self.choose(x, router, mode)?;
        let queries = self.queries.forward(x, choice.as_ref())?;
        let scale = 1.0 / (a as f32).sqrt();
        let pair = [queries.clone(), queries];
        let mut mixed = scene.attend(&self.positions, pair, source, (a, scale))?;
        if num_experts == 1 {
            mixed =
                self.gated(x, &mixed.reshape([b * l * heads, a])?)?.reshape([b, l, heads * a])?;
        }
        let y = self.outputs.forward(&mixed, choice.as_ref(), residual)?;
        report.destination = choice.map(|choice| choice.stats);
        Ok(y.reshape([b, l, d])?)
    }

    /// Each head times its gate: rows `[B·L·H, A]`.
    fn gated<'t>(&self, x: &Var<'t>, mixed: &Var<'t>) -> Result<Var<'t>> {
        let Some(router) = &self.destination_router else { return Ok(mixed.clone()) };
        let rows = mixed.shape().rows();
        let logits = x.linear(Activation::Identity, router, None, None)?;
        let gates = logits.activation(Activation::Sigmoid);
        let own = RowGroups::new(rows, &[(0..rows as u32).collect()])?;
        Ok(mixed.scatter_rows(&Arc::new(own), &gates.reshape([rows])?, None)?)
    }
}

impl IntoHeads {
    /// `[B, L, D]` → `[B, L, H·A]`.
    fn forward<'t>(&self, x: &Var<'t>, choice: Option<&HeadChoice<'t>>) -> Result<Var<'t>> {
        match (self, choice) {
            (IntoHeads::Experts(w), Some(choice)) => {
                let [b, l, _] = x.dims("projection into heads")?;
                let rows = x.routed_linear(w, &choice.to_heads, Some(&choice.gates_n), None)?;
                let width = rows.shape().len() / (b * l).max(1);
                Ok(rows.reshape([b, l, width])?)
            }
            (IntoHeads::Dense(w) | IntoHeads::Experts(w), _) => {
                Ok(x.linear(Activation::Identity, w, None, None)?)
            }
        }
    }
}

impl OutOfHeads {
    /// `[B, L, H·A]` → `[B, L, D]` (any axes that have as many).
    fn forward<'t>(
        &self,
        mixed: &Var<'t>,
        choice: Option<&HeadChoice<'t>>,
        residual: Option<&Var<'t>>,
    ) -> Result<Var<'t>> {
        match (self, choice) {
            (OutOfHeads::Experts(w), Some(choice)) => {
                let gates = Some(&choice.gates_n);
                Ok(mixed.routed_linear(w, &choice.to_tokens, gates, residual)?)
            }
            (OutOfHeads::Dense(w) | OutOfHeads::Experts(w), _) => {
                Ok(mixed.linear(Activation::Identity, w, None, residual)?)
            }
        }
    }
}
