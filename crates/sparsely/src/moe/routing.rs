//! Who meets whom, with what weight: the one noun that every router returns.

use super::RouterStats;
use crate::Result;
use sparsely_tensor::{Activation, GroupedWeights, RowGroups, Var};
use std::sync::Arc;

/// The pairs of tokens and experts of a batch, sorted by expert, each with its gate.
pub struct Routing<'t> {
    /// Tokens of each expert.
    pub pairs: Arc<RowGroups>,
    /// The weight of each pair `[N]`; carries the gradient to the router.
    pub gates_n: Var<'t>,
    /// Auxiliary losses, each with its weight.
    pub losses: Vec<(Var<'t>, f32)>,
    /// What happened.
    pub stats: RouterStats,
}

impl<'t> Routing<'t> {
    /// Moves tokens to their experts, through the experts' first layer: `[T, D]` → `[N, F]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn dispatch(&self, x_td: &Var<'t>, w_in: &GroupedWeights) -> Result<Var<'t>> {
        Ok(x_td.gather_linear(w_in, &self.pairs)?)
    }

    /// Moves the experts' outputs back, through their second layer, weighted by the gates:
    /// `[N, F]` → `[T, D]`. A token that no expert keeps gets `residual_td` alone, or 0.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn combine(
        &self,
        act: Activation,
        h_nf: &Var<'t>,
        w_out: &GroupedWeights,
        residual_td: Option<&Var<'t>>,
    ) -> Result<Var<'t>> {
        Ok(h_nf.scatter_linear(act, w_out, &self.pairs, &self.gates_n, residual_td)?)
    }
}
