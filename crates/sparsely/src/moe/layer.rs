//! The layer is one sentence: route, dispatch, experts, combine.

use super::group_router::GroupRouter;
use super::router::Learned;
use super::{Capacity, Group, Mixture, MoeConfig, Priority, RouterStats, Subset};
use crate::Result;
use crate::nn::{Initializer, Mode};
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

/// Experts in the place of a block's dense MLP, with a router of their own.
pub struct MoeLayer {
    router: GroupRouter,
    mixture: Mixture,
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
        init.scope("moe", |init| MoeLayer {
            router: GroupRouter::init(init, config, [d, l]),
            mixture: Mixture::init(init, config, [d, f]),
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
        let routing = self.router.route(x_bld, dial, mode)?;
        let y_bld = self.mixture.forward(x_bld, residual_bld, &routing, mode)?;
        Ok(MoeOutput { y_bld, losses: routing.losses, stats: routing.stats })
    }

    /// See [`super::router::Router::adapt`].
    pub fn adapt(&self, params: &mut Slab, learned: &Learned<'_>) {
        self.router.adapt(params, learned);
    }
}
