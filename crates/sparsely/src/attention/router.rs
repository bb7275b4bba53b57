//! What chooses the experts of the heads on one side of attention.

use super::choice::{Chooser, HeadChoice};
use super::context::ContextReader;
use super::scene::{Reading, Report};
use super::{HeadGate, SwitchHeadConfig};
use crate::moe::{Balance, RouterStats, usage_entropy_loss};
use crate::nn::{Init, Initializer, Mode, Renormalised};
use crate::{Error, Result};
use sparsely_tensor::{Param, Slab};

/// Logits of the experts of all heads.
#[derive(Clone, Copy, Debug)]
pub struct HeadRouter {
    /// `[D, H·E]`, reads the token; with one expert a gate for each head.
    pub kernel: Param,
    /// `[W, H·E]`, reads the context.
    pub context: Option<Param>,
}

/// The routers of both sides.
#[derive(Clone, Debug)]
pub struct HeadRouters {
    /// Of keys and values; none where nothing there has experts or the other serves it.
    pub source: Option<HeadRouter>,
    /// Of queries and outputs.
    pub destination: Option<HeadRouter>,
    /// Of the source and of the destination, whose choices are balanced apart.
    balances: [Option<Balance>; 2],
    config: SwitchHeadConfig,
}

/// Keys and values, or queries and outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeadSide {
    Source,
    Destination,
}

impl HeadRouters {
    /// Fresh, renormalised, for width D in a model of `depth` layers, beside a context or not.
    pub(super) fn init(
        init: &mut Initializer,
        config: &SwitchHeadConfig,
        context: Option<&ContextReader>,
        [d, depth]: [usize; 2],
    ) -> HeadRouters {
        let &SwitchHeadConfig { heads: h, num_experts: e, experts, .. } = config;
        let mut kernel = |name: String, width: usize| {
            let std = (2.0 / depth as f32).sqrt() / (width as f32).sqrt();
            let keeps = Renormalised::OwnStd;
            init.kernel(&name, [width, h * e], Init::Router { std, columns: h * e, keeps })
        };
        let mut router = |side: &str| HeadRouter {
            kernel: kernel(format!("{side}_router"), d),
            context: context.map(|own| kernel(format!("{side}_context_router"), own.width())),
        };
        let (has_experts, shares) = (e > 1, config.shared_router);
        let needs_source = has_experts && experts.source() && !shares;
        let needs_destination = match has_experts {
            true => experts.destination() || shares && experts.source(),
            // The softmax of one is 1.
            false => config.gate == HeadGate::Sigmoid,
        };
        let source = needs_source.then(|| router("source"));
        let destination = needs_destination.then(|| router("destination"));
        let mut balance = |side: &str, on: bool| {
            (on && has_experts && config.bias_rate > 0.0)
                .then(|| Balance::init(init, &format!("{side}_balance"), h * e, config.bias_rate))
        };
        let balances =
            [balance("source", experts.source()), balance("destination", experts.destination())];
        HeadRouters { source, destination, balances, config: *config }
    }

    /// The choice of tokens, if something on that side has experts; losses and what was chosen are reported.
    pub(super) fn choose<'t>(
        &self,
        side: HeadSide,
        tokens: Reading<'_, 't>,
        (mode, report): (&mut Mode<'_>, &mut Report<'t>),
    ) -> Result<Option<HeadChoice<'t>>> {
        let &SwitchHeadConfig { heads, num_experts, experts, entropy_weight, .. } = &self.config;
        let (router, has_experts) = match side {
            HeadSide::Source => (self.source.or(self.destination), experts.source()),
            HeadSide::Destination => (self.destination, experts.destination()),
        };
        let Some(router) = router.filter(|_| has_experts && num_experts > 1) else {
            return Ok(None);
        };
        let [b, l, _] = tokens.x.dims("SwitchHead router")?;
        let mut logits = tokens.x.linear_f32(&router.kernel, None)?;
        if let Some(kernel) = &router.context {
            let context = tokens.context.ok_or_else(|| Error::Argument {
                op: "SwitchHead router",
                expected: "the context that it reads".into(),
                got: "none".into(),
            })?;
            logits = context.linear_f32(kernel, Some(&logits))?;
        }
        let logits = logits.reshape([b * l, heads * num_experts])?;
        if entropy_weight > 0.0 {
            report.losses.push((usage_entropy_loss(&logits, num_experts)?, entropy_weight));
        }
        let balance = self.balances[side as usize].as_ref();
        let (choice, told) = self.chooser().choose(&logits, balance, mode)?;
        match side {
            HeadSide::Source => report.source = Some(told),
            HeadSide::Destination => report.destination = Some(told),
        }
        Ok(Some(choice))
    }

    /// Moves the biases that balance, given what the source and the destination did in a step.
    pub(super) fn adapt(&self, params: &mut Slab, stats: [Option<&RouterStats>; 2]) {
        for (balance, stats) in self.balances.iter().zip(stats) {
            if let (Some(balance), Some(stats)) = (balance, stats) {
                // Each head chooses as often as any other: the mean over all experts is that over each head's.
                balance.adapt(params, &stats.asked_e);
            }
        }
    }

    fn chooser(&self) -> Chooser {
        let config = &self.config;
        Chooser {
            heads: config.heads,
            experts: config.num_experts,
            selected: config.num_selected,
            gate: config.gate,
            dropout: config.expert_dropout,
        }
    }
}
