//! Routers: who chooses whom. Each is a short file that returns a [`Routing`].

mod affinity;
mod check;
mod config;
mod expert_choice;
mod loss_free;
mod random;
mod relu;
mod seats;
mod soft;
mod token_choice;

pub use affinity::{Combine, Gate, Sinkhorn, SparsePlan, Support};
pub use check::Asked;
pub(crate) use check::experts_problem;
pub(crate) use config::of_kind;
pub use config::{
    ExpertChoiceConfig, LossFreeConfig, LossWeights, PlanExpertChoice, PlanTokenChoice,
    RandomConfig, ReluConfig, RouterConfig, Slots, SoftConfig, SoftMixing, TokenChoiceConfig,
};
pub use expert_choice::ExpertChoice;
pub use loss_free::LossFree;
pub use random::Random;
pub use relu::Relu;
pub use soft::Soft;
pub use token_choice::TokenChoice;

use super::{Dial, RouterStats, Routing, Subset};
use crate::nn::{Initializer, Mode};
use crate::{Error, Result};
use affinity::Affinity;
use sparsely_tensor::{Slab, Var};
use std::sync::Arc;

/// What a router is told with each call.
#[derive(Clone, Debug)]
pub struct RouteSettings {
    /// S; divides the number of tokens.
    pub group_tokens: usize,
    /// Deviations from the router's own settings.
    pub dial: Dial,
}

/// What the routers did in a training step.
#[derive(Clone, Copy, Debug)]
pub struct Learned<'a> {
    /// The router's own layer.
    pub layer: &'a RouterStats,
    /// All MoE layers of the model together.
    pub model: &'a RouterStats,
}

/// Decides which expert sees which token.
pub trait Router: Send + Sync {
    /// Routes `[T, D]`, groups of consecutive tokens apart, among the experts that take part: E in
    /// what it returns is their number.
    ///
    /// # Errors
    /// If the settings cannot work, such as an expert without a seat.
    fn route<'t>(
        &self,
        x_td: &Var<'t>,
        settings: &RouteSettings,
        mode: &mut Mode<'_>,
    ) -> Result<Routing<'t>>;

    /// Moves after each training step what no gradient moves: frozen parameters of the router, so that
    /// they are saved with the model and a resumed run goes on with the same bits.
    fn adapt(&self, _params: &mut Slab, _learned: &Learned<'_>) {}
}

impl RouterConfig {
    /// The router for tokens of width D, E experts and groups of S tokens, with fresh parameters.
    ///
    /// # Panics
    /// If [`RouterConfig::problems`] has something to say of it.
    pub fn init(&self, init: &mut Initializer, [d, e, s]: [usize; 3]) -> Box<dyn Router> {
        let de = [d, e];
        init.scope("router", |init| -> Box<dyn Router> {
            match *self {
                RouterConfig::TokenChoice(config) => Box::new(TokenChoice::init(init, config, de)),
                RouterConfig::SinkhornTokenChoice(config) => {
                    let affinity = Affinity::Sinkhorn(config.plan, config.combine);
                    Box::new(TokenChoice::by_plan(init, &config, de, affinity))
                }
                RouterConfig::SparseTokenChoice(config) => {
                    let affinity = Affinity::Sparse(config.plan, config.combine);
                    Box::new(TokenChoice::by_plan(init, &config, de, affinity))
                }
                RouterConfig::ExpertChoice(config) => {
                    let ExpertChoiceConfig { gate, noise_std, capacity } = config;
                    let affinity = Affinity::Gates(gate);
                    Box::new(ExpertChoice::init(init, de, (capacity, noise_std), affinity))
                }
                RouterConfig::SinkhornExpertChoice(config) => {
                    let PlanExpertChoice { noise_std, capacity, combine, plan } = config;
                    let affinity = Affinity::Sinkhorn(plan, combine);
                    Box::new(ExpertChoice::init(init, de, (capacity, noise_std), affinity))
                }
                RouterConfig::SparseExpertChoice(config) => {
                    let PlanExpertChoice { noise_std, capacity, combine, plan } = config;
                    let affinity = Affinity::Sparse(plan, combine);
                    Box::new(ExpertChoice::init(init, de, (capacity, noise_std), affinity))
                }
                RouterConfig::Soft(config) => {
                    let p = config.slots.per_expert(s, e).expect("checked slots");
                    Box::new(Soft::init(init, config, [d, e, p]))
                }
                RouterConfig::LossFree(config) => Box::new(LossFree::init(init, config, de)),
                RouterConfig::Relu(config) => Box::new(Relu::init(init, config, de)),
                RouterConfig::Random(config) => Box::new(Random::new(config, e)),
            }
        })
    }

    /// Refuses a dial that does not go with the router of so many experts.
    ///
    /// # Errors
    /// The reason.
    pub fn check_dial(&self, dial: &Dial, num_experts: usize) -> Result<()> {
        match self.refusal(dial).or_else(|| experts_problem(dial, num_experts)) {
            Some(reason) => Err(Error::config(reason)),
            None => Ok(()),
        }
    }
}

/// The columns of the experts that take part, P of each: `[T, E·P]` of all experts → `[T, E·P]` of
/// those.
fn columns_of<'t>(x_tn: Var<'t>, experts: Option<&Subset>, p: usize) -> Result<Var<'t>> {
    let [t, n] = x_tn.dims("columns of experts")?;
    let Some(experts) = experts.filter(|experts| experts.len() * p < n) else { return Ok(x_tn) };
    let of_expert = |e: &usize| e * p..(e + 1) * p;
    let columns: Vec<usize> = experts.indices().iter().flat_map(of_expert).collect();
    let indices =
        (0..t).flat_map(|token| columns.iter().map(move |column| (token * n + column) as u32));
    Ok(x_tn.pick(&Arc::new(indices.collect()))?.reshape([t, columns.len()])?)
}
