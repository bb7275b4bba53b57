//! Experts under a routing that is made elsewhere: dispatch, experts, combine.

use super::{Experts, MoeConfig, Routing};
use crate::Result;
use crate::nn::{Initializer, Mlp, Mode};
use sparsely_tensor::Var;

/// The experts of one layer, and those that every token visits.
pub struct Mixture {
    experts: Experts,
    shared: Vec<Mlp>,
}

impl Mixture {
    /// Fresh experts of width F for tokens of width D.
    pub fn init(init: &mut Initializer, config: &MoeConfig, [d, f]: [usize; 2]) -> Mixture {
        let (e, dropout) = (config.num_experts, config.expert_dropout);
        let experts = Experts::init(init, [e, d, f], dropout, config.expert_init);
        let shared = (0..config.num_shared)
            .map(|i| Mlp::init(init, &format!("shared/{i}"), [d, f], dropout));
        Mixture { experts, shared: shared.collect() }
    }

    /// residual + Σ_e gate_e · expert_e(x): `[B, L, D]` → `[B, L, D]`.
    ///
    /// # Errors
    /// If the routing is that of other tokens.
    pub fn forward<'t>(
        &self,
        x_bld: &Var<'t>,
        residual_bld: &Var<'t>,
        routing: &Routing<'t>,
        mode: &mut Mode<'_>,
    ) -> Result<Var<'t>> {
        let [b, l, d] = x_bld.dims("Mixture::forward")?;
        let x_td = x_bld.reshape([b * l, d])?;
        let mut residual_td = residual_bld.reshape([b * l, d])?;
        for expert in &self.shared {
            residual_td = expert.forward(&x_td, &residual_td, mode)?;
        }
        let y_td = self.experts.forward(&x_td, routing, &residual_td, mode)?;
        Ok(y_td.reshape([b, l, d])?)
    }
}
