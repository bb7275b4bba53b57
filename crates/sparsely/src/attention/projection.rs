//! Projections into heads and out of them, dense or by the experts of a choice.

use super::choice::HeadChoice;
use crate::Result;
use sparsely_tensor::{Activation, Param, Var};

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

impl IntoHeads {
    /// `[B, L, D]` → `[B, L, H·A]`.
    pub(super) fn forward<'t>(
        &self,
        x: &Var<'t>,
        choice: Option<&HeadChoice<'t>>,
    ) -> Result<Var<'t>> {
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
    pub(super) fn forward<'t>(
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
