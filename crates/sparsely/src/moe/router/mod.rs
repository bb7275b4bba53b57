//! Routers: who chooses whom. Each is a short file that returns a [`Routing`].

mod config;
mod token_choice;

pub(crate) use config::of_kind;
pub use config::{LossWeights, RouterConfig, TokenChoiceConfig};
pub use token_choice::{TokenChoice, top_k};

use super::{Dial, Routing};
use crate::Result;
use crate::nn::{Initializer, Mode};
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

impl RouterConfig {
    /// The router for tokens of width `d` and `e` experts, with fresh parameters.
    pub fn init(&self, init: &mut Initializer, [d, e]: [usize; 2]) -> Box<dyn Router> {
        init.scope("router", |init| match *self {
            RouterConfig::TokenChoice(config) => Box::new(TokenChoice::init(init, config, d, e)),
        })
    }
}
