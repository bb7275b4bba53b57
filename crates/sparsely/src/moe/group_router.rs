//! A router with the groups that it routes in.

use super::router::{Learned, RouteSettings, Router};
use super::{Dial, Group, MoeConfig, RouterConfig, Routing};
use crate::nn::{Initializer, Mode};
use crate::{Error, Result};
use sparsely_tensor::{Slab, Var};

/// Routes what comes in sequences, in groups of consecutive ones.
pub struct GroupRouter {
    router: Box<dyn Router>,
    config: RouterConfig,
    num_experts: usize,
    group: Group,
    through_bf16: bool,
}

impl GroupRouter {
    /// A fresh router for sequences of L vectors of width D.
    pub fn init(init: &mut Initializer, config: &MoeConfig, [d, l]: [usize; 2]) -> GroupRouter {
        let (e, s) = (config.num_experts, config.group.tokens(l));
        GroupRouter {
            router: config.router.init(init, [d, e, s]),
            config: config.router,
            num_experts: e,
            group: config.group,
            through_bf16: config.through_bf16,
        }
    }

    /// Routes the vectors of `[B, L, D]`.
    ///
    /// # Errors
    /// If the groups do not divide them, or the router does not have what the dial asks for.
    pub fn route<'t>(
        &self,
        x_bld: &Var<'t>,
        dial: &Dial,
        mode: &mut Mode<'_>,
    ) -> Result<Routing<'t>> {
        let [b, l, d] = x_bld.dims("GroupRouter::route")?;
        self.config.check_dial(dial, self.num_experts)?;
        let group = dial.group.unwrap_or(self.group);
        let group_tokens = group_tokens(group, b, l)?;
        let settings = RouteSettings { group_tokens, dial: dial.clone() };
        let routing = self.router.route(&x_bld.reshape([b * l, d])?, &settings, mode)?;
        let mut routing = routing.among(dial.experts.as_ref(), self.num_experts)?;
        routing.stats.experts_b = routing.experts_of_images([b, l]);
        Ok(routing.through_bf16(self.through_bf16))
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
