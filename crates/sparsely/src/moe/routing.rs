//! Who meets whom, with what weight: the one noun that every router returns.

use super::{RouterStats, Subset};
use crate::Result;
use sparsely_tensor::{Activation, GroupedWeights, RowGroups, Tape, Var};
use std::sync::Arc;

/// The rows of each expert, tokens or slots, and how tokens get to them and back.
pub struct Routing<'t> {
    /// Rows of each expert.
    pub rows: Arc<RowGroups>,
    /// What the rows are.
    pub mixing: Mixing<'t>,
    /// Auxiliary losses, each with its weight.
    pub losses: Vec<(Var<'t>, f32)>,
    /// What happened.
    pub stats: RouterStats,
    /// Whether what is dispatched and what is combined goes through bf16, forward and backward.
    through_bf16: bool,
}

/// What the rows of the experts are.
pub enum Mixing<'t> {
    /// Tokens. The weight of each pair of token and expert `[N]` carries the gradient to the router.
    Tokens(Var<'t>),
    /// Slots: mixtures of the tokens of a group.
    Slots {
        /// D `[T, E·P]`: the columns of a group sum to 1.
        dispatch_tp: Var<'t>,
        /// W `[T, E·P]`: rows sum to 1.
        combine_tp: Var<'t>,
        /// S.
        group_tokens: usize,
    },
}

impl<'t> Routing<'t> {
    /// A routing without auxiliary losses.
    pub fn new(rows: RowGroups, mixing: Mixing<'t>, stats: RouterStats) -> Routing<'t> {
        let (rows, losses) = (Arc::new(rows), Vec::new());
        Routing { rows, mixing, losses, stats, through_bf16: false }
    }

    /// The same with these auxiliary losses.
    pub fn with_losses(self, losses: Vec<(Var<'t>, f32)>) -> Routing<'t> {
        Routing { losses, ..self }
    }

    /// The same, dispatching and combining through bf16 or not.
    pub fn through_bf16(self, through_bf16: bool) -> Routing<'t> {
        Routing { through_bf16, ..self }
    }

    /// The same where the router's experts are only those of `experts` among `num_experts`; the
    /// others get no rows.
    ///
    /// # Errors
    /// If they are not as many as the router's.
    pub fn among(self, experts: Option<&Subset>, num_experts: usize) -> Result<Routing<'t>> {
        let Some(experts) = experts else { return Ok(self) };
        let rows = Arc::new(self.rows.among(experts.indices(), num_experts)?);
        let stats = self.stats.among(experts.indices(), num_experts);
        Ok(Routing { rows, stats, ..self })
    }

    /// Moves tokens to their experts, through the experts' first layer: `[T, D]` → `[N, F]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn dispatch(&self, x_td: &Var<'t>, w_in: &GroupedWeights) -> Result<Var<'t>> {
        let x_td = if self.through_bf16 { &x_td.round_bf16() } else { x_td };
        match &self.mixing {
            Mixing::Tokens(_) => Ok(x_td.gather_linear(w_in, &self.rows)?),
            Mixing::Slots { dispatch_tp, group_tokens, .. } => {
                // [T, D] → [G·E·P, D]
                let slots_nd = x_td.gather_mix(dispatch_tp, *group_tokens)?;
                Ok(slots_nd.gather_linear(w_in, &self.rows)?)
            }
        }
    }

    /// Moves the experts' outputs back, through their second layer, weighted: `[N, F]` → `[T, D]`. A
    /// token that no expert keeps gets `residual_td` alone, or 0.
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
        let tape = h_nf.tape();
        match &self.mixing {
            Mixing::Tokens(gates_n) if !self.through_bf16 => {
                Ok(h_nf.scatter_linear(act, w_out, &self.rows, gates_n, residual_td)?)
            }
            Mixing::Tokens(gates_n) => {
                let apart = Arc::new(self.rows.apart());
                let y_nd = outputs(tape, act, h_nf, w_out, &apart)?.round_bf16();
                Ok(y_nd.scatter_rows(&self.rows, gates_n, residual_td)?)
            }
            Mixing::Slots { combine_tp, group_tokens, .. } => {
                let y_nd = outputs(tape, act, h_nf, w_out, &self.rows)?;
                let y_nd = if self.through_bf16 { y_nd.round_bf16() } else { y_nd };
                Ok(y_nd.scatter_mix(combine_tp, *group_tokens, residual_td)?)
            }
        }
    }
}

/// The experts' outputs with weight 1.
fn outputs<'t>(
    tape: &'t Tape<'t>,
    act: Activation,
    h_nf: &Var<'t>,
    w_out: &GroupedWeights,
    rows: &Arc<RowGroups>,
) -> Result<Var<'t>> {
    let n = rows.num_entries();
    let ones_n = tape.constant([n], &vec![1.0; n])?;
    Ok(h_nf.scatter_linear(act, w_out, rows, &ones_n, None)?)
}
