//! The layer is one sentence: route, dispatch, experts, combine.

use super::router::{Learned, RouteSettings, Router};
use super::{Capacity, Experts, Group, MoeConfig, Priority, RouterConfig, RouterStats, Subset};
use crate::nn::{Initializer, Mlp, Mode};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use sparsely_tensor::{Slab, Var};

/// What may change from call to call of a trained model; `None` keeps what it was trained with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dial {
    /// K.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_selected: Option<usize>,
    /// Seats of each expert.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
    /// Who sits first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// Which tokens compete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
    /// The experts that take part in every layer, as if the router had no columns for the others.
    /// A capacity factor counts those that take part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experts: Option<Subset>,
    /// Blocks whose MoE layer is left out, shared experts and the norm before it too: what comes
    /// into it is passed on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip_moe: Option<Subset>,
}

impl Dial {
    /// `base` with what is set here.
    pub fn over(&self, base: &Dial) -> Dial {
        Dial {
            num_selected: self.num_selected.or(base.num_selected),
            capacity: self.capacity.or(base.capacity),
            priority: self.priority.or(base.priority),
            group: self.group.or(base.group),
            experts: self.experts.clone().or_else(|| base.experts.clone()),
            skip_moe: self.skip_moe.clone().or_else(|| base.skip_moe.clone()),
        }
    }

    /// How many of `e` experts take part.
    pub fn num_experts(&self, e: usize) -> usize {
        self.experts.as_ref().map_or(e, Subset::len)
    }

    /// Whether the MoE layer of `block` is left out.
    pub fn skips(&self, block: usize) -> bool {
        self.skip_moe.as_ref().is_some_and(|blocks| blocks.contains(block))
    }

    /// Which K may be asked for of `e` experts, for messages.
    pub(crate) fn selected_range(&self, e: usize) -> String {
        let left = self.num_experts(e);
        let why = if left < e { ", as many as take part" } else { "" };
        format!("1 to {left} selected experts per token{why}")
    }
}

/// Experts in the place of a block's dense MLP.
pub struct MoeLayer {
    router: Box<dyn Router>,
    experts: Experts,
    /// Those that every token visits.
    shared: Vec<Mlp>,
    num_experts: usize,
    group: Group,
    routes_by: RouterConfig,
    through_bf16: bool,
}

/// What a MoE layer returns.
pub struct MoeOutput<'t> {
    /// residual + mixture, `[B, L, D]`.
    pub y_bld: Var<'t>,
    /// Auxiliary losses with their weights.
    pub losses: Vec<(Var<'t>, f32)>,
    /// What happened.
    pub stats: RouterStats,
}

impl MoeLayer {
    /// Fresh router and experts, for tokens of width D, experts of width F and sequences of L tokens.
    pub fn init(init: &mut Initializer, config: &MoeConfig, [d, f, l]: [usize; 3]) -> MoeLayer {
        let (e, s) = (config.num_experts, config.group.tokens(l));
        init.scope("moe", |init| {
            let router = config.router.init(init, [d, e, s]);
            let experts = Experts::init(init, [e, d, f], config.expert_dropout, config.expert_init);
            let shared = (0..config.num_shared)
                .map(|i| Mlp::init(init, &format!("shared/{i}"), [d, f], config.expert_dropout));
            MoeLayer {
                router,
                experts,
                shared: shared.collect(),
                num_experts: e,
                group: config.group,
                routes_by: config.router,
                through_bf16: config.through_bf16,
            }
        })
    }

    /// residual + Σ_e gate_e · expert_e(x): `[B, L, D]` → `[B, L, D]`.
    ///
    /// # Errors
    /// If the groups do not divide the tokens, an expert has no seat, or the dial does not go with the
    /// layer.
    pub fn forward<'t>(
        &self,
        x_bld: &Var<'t>,
        residual_bld: &Var<'t>,
        dial: &Dial,
        mode: &mut Mode<'_>,
    ) -> Result<MoeOutput<'t>> {
        let [b, l, d] = x_bld.dims("MoeLayer::forward")?;
        self.routes_by.check_dial(dial, self.num_experts)?;
        let group = dial.group.unwrap_or(self.group);
        let settings =
            RouteSettings { group_tokens: group_tokens(group, b, l)?, dial: dial.clone() };
        let x_td = x_bld.reshape([b * l, d])?;

        let routing = self.router.route(&x_td, &settings, mode)?.through_bf16(self.through_bf16);
        let routing = routing.among(dial.experts.as_ref(), self.num_experts)?;
        let mut residual_td = residual_bld.reshape([b * l, d])?;
        for expert in &self.shared {
            residual_td = expert.forward(&x_td, &residual_td, mode)?;
        }
        let y_td = self.experts.forward(&x_td, &routing, &residual_td, mode)?;

        let y_bld = y_td.reshape([b, l, d])?;
        Ok(MoeOutput { y_bld, losses: routing.losses, stats: routing.stats })
    }

    /// See [`Router::adapt`].
    pub fn adapt(&self, params: &mut Slab, learned: &Learned<'_>) {
        self.router.adapt(params, learned);
    }
}

fn group_tokens(group: Group, b: usize, l: usize) -> Result<usize> {
    let s = group.tokens(l);
    if s == 0 || !(b * l).is_multiple_of(s) {
        return Err(Error::Argument {
            op: "routing groups",
            expected: format!("groups that divide a batch of {b} images of {l} tokens"),
            got: format!("groups of {group}"),
        });
    }
    Ok(s)
}
