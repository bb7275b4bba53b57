//! What a language model cannot be, told before anything is computed.

use super::{BlockException, LanguageConfig, LanguageMoeConfig, MlpConfig};
use crate::moe::router::Asked;
use crate::moe::{Capacity, Dial, Granularity, Group, Priority, RouterConfig};
use crate::{Error, Result};

/// Beyond these a size is a slip of the finger.
const MAX_DEPTH: usize = 1000;
const MAX_PARAMS: f64 = 1e11;

impl LanguageConfig {
    /// Checks the whole of it.
    ///
    /// # Errors
    /// All problems at once.
    pub fn validate(&self) -> Result<()> {
        let mut problems = Vec::new();
        let sizes = [
            ("vocabulary", self.vocabulary),
            ("width", self.width),
            ("depth", self.depth),
            ("context", self.context),
        ];
        let zero = sizes.into_iter().filter(|(_, size)| *size == 0);
        problems.extend(zero.map(|(name, _)| format!("model.{name} must be at least 1")));
        if self.depth > MAX_DEPTH {
            problems.push(format!("model.depth {} is more than {MAX_DEPTH}", self.depth));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            problems.push(format!("model.dropout {} is not in [0, 1)", self.dropout));
        }
        problems.extend(self.attention.problems("model.attention"));
        problems.extend(self.mlp.problems("model.mlp", self.context));
        for (i, exception) in self.exceptions.iter().enumerate() {
            problems.extend(self.exception_problems(i, exception));
        }
        if problems.is_empty() && self.asks_for_contexts() && !self.reads_contexts() {
            problems.push(
                "model.attention.context: no block reads one, the first has no attention before it"
                    .into(),
            );
        }
        if problems.is_empty() && self.approximate_params() > MAX_PARAMS {
            let about = self.approximate_params();
            problems.push(format!("the model has about {about:.0e} parameters"));
        }
        if problems.is_empty() { Ok(()) } else { Err(Error::Config { problems }) }
    }

    fn asks_for_contexts(&self) -> bool {
        let others = self.exceptions.iter().filter_map(|exception| exception.attention);
        others.chain([self.attention]).any(|attention| attention.context().is_some())
    }

    fn reads_contexts(&self) -> bool {
        self.blocks_that_read_contexts().contains(&true)
    }

    fn exception_problems(&self, i: usize, exception: &BlockException) -> Vec<String> {
        let place = format!("model.exceptions[{i}]");
        let beyond = exception.blocks.iter().find(|block| **block >= self.depth);
        let mut problems: Vec<String> = beyond
            .map(|block| format!("{place}: there is no block {block} among {}", self.depth))
            .into_iter()
            .collect();
        if let Some(attention) = &exception.attention {
            problems.extend(attention.problems(&format!("{place}.attention")));
        }
        if let Some(mlp) = &exception.mlp {
            problems.extend(mlp.problems(&format!("{place}.mlp"), self.context));
        }
        problems
    }

    /// In floating point, so that absurd sizes do not overflow before they are refused.
    fn approximate_params(&self) -> f64 {
        let d = self.width as f64;
        let blocks = self.blocks().into_iter().map(|block| {
            d * (block.attention.approximate_columns() + block.mlp.approximate_columns())
        });
        2.0 * self.vocabulary as f64 * d + blocks.sum::<f64>()
    }
}

impl MlpConfig {
    fn problems(&self, place: &str, context: usize) -> Vec<String> {
        match self {
            MlpConfig::Dense(config) if config.width == 0 => {
                vec![format!("{place}.width must be at least 1")]
            }
            MlpConfig::Dense(_) => Vec::new(),
            MlpConfig::SigmaMoe(config) => config.problems(place),
            MlpConfig::Moe(config) => config.problems(place, context),
        }
    }

    fn approximate_columns(&self) -> f64 {
        match self {
            MlpConfig::Dense(config) => 2.0 * config.width as f64,
            MlpConfig::SigmaMoe(config) => {
                2.0 * config.num_experts as f64 * config.expert_width as f64
            }
            MlpConfig::Moe(config) => {
                let experts = config.moe.num_experts as f64 + config.moe.num_shared as f64;
                2.0 * experts * config.expert_width as f64
            }
        }
    }
}

impl LanguageMoeConfig {
    fn problems(&self, place: &str, context: usize) -> Vec<String> {
        let moe = &self.moe;
        let router = format!("{place}.moe.router");
        let mut problems = Vec::new();
        if self.expert_width == 0 {
            problems.push(format!("{place}.expert_width must be at least 1"));
        }
        if let Some(reason) = moe.router.sees_the_future() {
            problems.push(format!("{router}: a causal model cannot have it: {reason}"));
        }
        problems.extend(moe.router.problems(&Asked {
            dial: &Dial::default(),
            num_experts: moe.num_experts,
            group_tokens: context,
            place: &router,
        }));
        if moe.granularity != Granularity::Token {
            problems.push(format!("{place}.moe.granularity: a language model routes tokens"));
        }
        if moe.group != (Group::Images { n: 1 }) {
            problems.push(format!("{place}.moe.group must be `images` with n = 1, one sequence"));
        }
        if !(0.0..1.0).contains(&moe.expert_dropout) {
            let rate = moe.expert_dropout;
            problems.push(format!("{place}.moe.expert_dropout {rate} is not in [0, 1)"));
        }
        problems
    }
}

impl RouterConfig {
    /// Why what an earlier token gets would depend on later ones, if so.
    pub fn sees_the_future(&self) -> Option<&'static str> {
        match self {
            RouterConfig::ExpertChoice(_)
            | RouterConfig::SinkhornExpertChoice(_)
            | RouterConfig::SparseExpertChoice(_) => {
                return Some(
                    "experts choose among all tokens, so later ones displace earlier ones",
                );
            }
            RouterConfig::SinkhornTokenChoice(_) | RouterConfig::SparseTokenChoice(_) => {
                return Some("a transport plan is made of all tokens, later ones too");
            }
            RouterConfig::Soft(_) => {
                return Some("its slots are mixtures of all tokens, later ones too");
            }
            _ => {}
        }
        match (self.priority(), self.capacity()) {
            (_, None | Some(Capacity::Unlimited)) => None,
            (Some(Priority::Position), _) if self.num_selected() == Some(1) => Some(
                "the number of its seats is that of the tokens at hand, one by one or all at once: set its \
                 capacity to `unlimited`",
            ),
            (Some(Priority::Position), _) => Some(
                "with few seats the first choice of a later token takes the seat of an earlier token's second \
                 choice: set its capacity to `unlimited`",
            ),
            _ => Some(
                "batch prioritized routing seats later tokens before earlier ones: set its capacity to \
                 `unlimited`",
            ),
        }
    }
}

#[cfg(test)]
mod tests;
