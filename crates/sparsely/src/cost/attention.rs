//! The cost of attention with experts inside its heads.

use super::formulas::Sizes;
use super::part::{Part, PartCost};
use crate::attention::{HeadGate, SwitchHeadConfig};
use crate::model::ExpertAttention;

/// Tokens and pairs of a layer of SwitchHead.
#[derive(Clone, Copy)]
pub(super) struct SwitchHeadLayer<'a> {
    config: &'a SwitchHeadConfig,
    /// Of keys and values, and of queries and outputs.
    tokens: [u64; 2],
    d: u64,
    h: u64,
    a: u64,
    e: u64,
    k: u64,
}

impl Sizes {
    /// Queries, keys, values and outputs, each dense or of experts, the routers, and the matrix of each
    /// head. Activations are counted as the products' inputs and outputs.
    pub(super) fn expert_attention(&self, config: &ExpertAttention, block: usize) -> PartCost {
        let Sizes { b, l, d, .. } = *self;
        let config = config.switch_head();
        let [h, a] = [config.heads, config.head_width].map(|size| size as u64);
        let layer = SwitchHeadLayer::new(&config, [b * l, b * l], d);
        let part = PartCost::new(Some(block), Part::Attention).keeping(b * l * d);
        let part = layer.projections(part);
        let part = part.attention(b * h, [l, l, a]).keeping(4 * b * l * h * a);
        let alive = 3 * b * l * d + 4 * b * l * h * a;
        part.residual(b * l * d).working(alive, 2 * b * l * d + 4 * b * l * h * a)
    }
}

impl<'a> SwitchHeadLayer<'a> {
    /// Of width D, for so many tokens of keys and values, and of queries and outputs.
    pub(super) fn new(config: &'a SwitchHeadConfig, tokens: [u64; 2], d: u64) -> Self {
        let [h, a, e, k] =
            [config.heads, config.head_width, config.num_experts, config.num_selected]
                .map(|size| size as u64);
        SwitchHeadLayer { config, tokens, d, h, a, e, k }
    }

    /// All projections and routers.
    pub(super) fn projections(&self, part: PartCost) -> PartCost {
        let &SwitchHeadLayer { config, tokens: [source, destination], d, a, .. } = self;
        let experts = config.experts;
        let part = self.projection(part, experts.queries, (destination, [d, a]));
        let part = self.projection(part, experts.keys, (source, [d, a]));
        let part = self.projection(part, experts.values, (source, [d, a]));
        self.routers(self.projection(part, experts.outputs, (destination, [a, d])))
    }

    /// A projection into heads, `[D, A]`, or out of them, `[A, D]`.
    fn projection(&self, part: PartCost, on: bool, (tokens, [i, o]): (u64, [u64; 2])) -> PartCost {
        let &SwitchHeadLayer { d, h, a, e, k, .. } = self;
        if !on || e == 1 {
            let (i, o) = if i == d { (d, h * a) } else { (h * a, d) };
            return part.with_params(d * h * a).product([tokens, i, o]);
        }
        let pairs = tokens * h * k;
        let mut part = part.product([pairs, i, o]);
        // The gated sums, there and back.
        part.macs += pairs * o;
        part.backward_macs += pairs * i;
        part.params += h * e * d * a;
        part.active_params += h * k * d * a;
        part.read_params += h * e * d * a;
        part
    }

    fn routers(&self, part: PartCost) -> PartCost {
        let &SwitchHeadLayer { config, tokens: [source, destination], d, h, a, e, k } = self;
        if e == 1 {
            if config.gate == HeadGate::SoftmaxOfSelected {
                return part;
            }
            let mut part = part.with_params(d * h).product([destination, d, h]);
            part.macs += destination * h * a;
            // Logits and gates, and the heads before theirs.
            return part.keeping(destination * h * (a + 2));
        }
        let sides =
            [(config.experts.source(), source), (config.experts.destination(), destination)];
        let scored: Vec<u64> =
            sides.into_iter().filter(|(on, _)| *on).map(|(_, tokens)| tokens).collect();
        let weights = if config.shared_router { 1 } else { scored.len() as u64 };
        let part = part.with_params(weights * d * h * e);
        // The logits of the selected and their gates.
        let kept = |tokens| 2 * tokens * h * k;
        scored
            .into_iter()
            .fold(part, |part, tokens| part.product([tokens, d, h * e]).keeping(kept(tokens)))
    }
}
