//! The cost of attention with experts inside its heads, in a vision transformer.

use super::formulas::Sizes;
use super::part::{Part, PartCost};
use crate::attention::HeadGate;
use crate::model::ExpertAttention;

/// Tokens and pairs of a layer.
#[derive(Clone, Copy)]
struct Layer<'a> {
    config: &'a ExpertAttention,
    /// B·L.
    tokens: u64,
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
        let [h, a, e, k] =
            [config.heads, config.head_width, config.num_experts, config.num_selected]
                .map(|size| size as u64);
        let layer = Layer { config, tokens: b * l, d, h, a, e, k };
        let has_experts = |on: bool| on && e > 1;
        let experts = config.experts;
        let mut part = PartCost::new(Some(block), Part::Attention).keeping(b * l * d);
        for on in [experts.queries, experts.keys, experts.values] {
            part = layer.projection(part, has_experts(on), [d, a]);
        }
        part = part.attention(b * h, [l, l, a]).keeping(4 * b * l * h * a);
        part = layer.projection(part, has_experts(experts.outputs), [a, d]);
        part = layer.routers(part).residual(b * l * d);
        let alive = 3 * b * l * d + 4 * b * l * h * a;
        part.working(alive, 2 * b * l * d + 4 * b * l * h * a)
    }
}

impl Layer<'_> {
    /// A projection into heads, `[D, A]`, or out of them, `[A, D]`.
    fn projection(&self, part: PartCost, has_experts: bool, [i, o]: [u64; 2]) -> PartCost {
        let &Layer { tokens, d, h, a, e, k, .. } = self;
        if !has_experts {
            let (i, o) = if i == d { (d, h * a) } else { (h * a, d) };
            return part.with_params(d * h * a).product([tokens, i, o]);
        }
        let pairs = tokens * h * k;
        let mut part = part.product([pairs, i, o]).keeping(pairs);
        // The gated sums, there and back.
        part.macs += pairs * o;
        part.backward_macs += pairs * i;
        part.params += h * e * d * a;
        part.active_params += h * k * d * a;
        part.read_params += h * e * d * a;
        part
    }

    fn routers(&self, part: PartCost) -> PartCost {
        let &Layer { config, tokens, d, h, a, e, .. } = self;
        if e == 1 {
            if config.gate == HeadGate::SoftmaxOfSelected {
                return part;
            }
            let mut part = part.with_params(d * h).product([tokens, d, h]);
            part.macs += tokens * h * a;
            return part;
        }
        let sides = [config.experts.source(), config.experts.destination()];
        let scored = sides.into_iter().filter(|side| *side).count() as u64;
        let weights = if config.shared_router { 1 } else { scored };
        let part = part.with_params(weights * d * h * e);
        (0..scored).fold(part, |part, _| part.product([tokens, d, h * e]).keeping(tokens * h * e))
    }
}
