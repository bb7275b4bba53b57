//! The layer is one sentence: route, dispatch, experts, combine.

use super::router::{RouteSettings, Router};
use super::{Capacity, Experts, Group, MoeConfig, Priority, RouterStats};
use crate::nn::{Initializer, Mode};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use sparsely_tensor::Var;

/// What may change from call to call of a trained model; `None` keeps what it was trained with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
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
}

/// Experts in the place of a block's dense MLP.
pub struct MoeLayer {
    router: Box<dyn Router>,
    experts: Experts,
    group: Group,
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
    /// Fresh router and experts.
    pub fn init(init: &mut Initializer, config: &MoeConfig, d: usize, f: usize) -> MoeLayer {
        let e = config.num_experts;
        init.scope("moe", |init| MoeLayer {
            router: config.router.init(init, [d, e]),
            experts: Experts::init(init, [e, d, f], config.expert_dropout, config.expert_init),
            group: config.group,
        })
    }

    /// residual + Σ_e gate_e · expert_e(x): `[B, L, D]` → `[B, L, D]`.
    ///
    /// # Errors
    /// If the groups do not divide the tokens, or an expert has no seat.
    pub fn forward<'t>(
        &self,
        x_bld: &Var<'t>,
        residual_bld: &Var<'t>,
        dial: &Dial,
        mode: &mut Mode<'_>,
    ) -> Result<MoeOutput<'t>> {
        let [b, l, d] = x_bld.dims("MoeLayer::forward")?;
        let group = dial.group.unwrap_or(self.group);
        let settings = RouteSettings { group_tokens: group_tokens(group, b, l)?, dial: *dial };
        let x_td = x_bld.reshape([b * l, d])?;

        let routing = self.router.route(&x_td, &settings, mode)?;
        let residual_td = residual_bld.reshape([b * l, d])?;
        let y_td = self.experts.forward(&x_td, &routing, &residual_td, mode)?;

        let y_bld = y_td.reshape([b, l, d])?;
        Ok(MoeOutput { y_bld, losses: routing.losses, stats: routing.stats })
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
