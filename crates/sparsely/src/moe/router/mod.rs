//! Routers: who chooses whom. Each is a short file that returns a [`Routing`].

mod token_choice;

pub use token_choice::{TokenChoice, top_k};

use super::{Dial, Routing};
use crate::Result;
use crate::nn::Mode;
use sparsely_tensor::Var;

/// What a router is told with each call.
#[derive(Clone, Copy, Debug)]
pub struct RouteSettings {
    /// S; divides the number of tokens.
    pub group_tokens: usize,
    /// Deviations from the router's own settings.
    pub dial: Dial,
}

/// Decides which expert sees which token.
pub trait Router {
    /// Routes `[T, D]`, groups of consecutive tokens apart.
    ///
    /// # Errors
    /// If the settings cannot work, such as an expert without a seat.
    fn route<'t>(
        &self,
        x_td: &Var<'t>,
        settings: &RouteSettings,
        mode: &mut Mode<'_>,
    ) -> Result<Routing<'t>>;
}
