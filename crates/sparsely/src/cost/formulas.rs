//! What each part of a vision transformer costs, by the operations that it is made of.

use super::call::Call;
use super::part::{Part, PartCost};
use super::router::{Choice, Load};
use crate::model::{Classifier, ModelConfig, Positions};
use crate::moe::{ImageInput, MoeConfig, Priority, RouterConfig};
use crate::{Error, Result};

/// The model's sizes as the formulas name them.
pub(super) struct Sizes {
    /// B.
    pub(super) b: u64,
    /// L.
    pub(super) l: u64,
    /// D.
    pub(super) d: u64,
    /// F.
    f: u64,
    /// H.
    h: u64,
}

impl Sizes {
    pub(super) fn of(config: &ModelConfig, batch: usize) -> Sizes {
        Sizes {
            b: batch as u64,
            l: config.length() as u64,
            d: config.width as u64,
            f: config.mlp_width as u64,
            h: config.heads as u64,
        }
    }

    /// Of the tokens of a text in blocks of L, whose MLPs have experts of width F.
    pub(super) fn of_text([b, l, d, f]: [u64; 4]) -> Sizes {
        Sizes { b, l, d, f, h: 1 }
    }

    /// Values of a `[B, L, D]`.
    fn bld(&self) -> u64 {
        self.b * self.l * self.d
    }

    pub(super) fn embedding(&self, config: &ModelConfig) -> PartCost {
        let Sizes { b, d, .. } = *self;
        let pixels = (config.patch_size * config.patch_size * config.channels) as u64;
        let mut part = PartCost::new(None, Part::Embedding)
            .linear(b * config.num_patches() as u64, [pixels, d]);
        // Images have no gradient: one product on the way back.
        part.backward_macs /= 2;
        if config.classifier == Classifier::Token {
            part = part.with_params(d);
            part.moved += 2 * self.bld();
        }
        let part = match config.positions {
            Positions::None => part,
            Positions::Learned => part.with_params(self.l * d).residual(self.bld()),
            Positions::Sincos2d => part.residual(self.bld()),
        };
        let patches = b * config.num_patches() as u64 * pixels;
        // Class token and positions make copies.
        part.working(self.bld() + patches.max(self.bld()), 2 * self.bld())
    }

    pub(super) fn norm(&self, block: Option<usize>) -> PartCost {
        let Sizes { b, l, d, .. } = *self;
        PartCost::new(block, Part::Norm)
            .with_params(2 * d)
            .norm(b * l, d)
            .working(3 * self.bld(), 2 * self.bld())
    }

    /// The norm before it, then q, k and v, their matrix, and the output with its residual.
    pub(super) fn attention(&self, config: &ModelConfig, block: usize) -> [PartCost; 2] {
        if let Some(attention) = &config.attention {
            return [self.norm(Some(block)), self.expert_attention(attention, block)];
        }
        let Sizes { b, l, d, h, .. } = *self;
        let mut part = PartCost::new(Some(block), Part::Attention).linear(b * l, [d, 3 * d]);
        if config.qk_norm {
            // Queries and keys; the values are copied beside them.
            part = part.with_params(2 * d / h).norm(2 * b * l * h, d / h).keeping(self.bld());
        }
        // Alive: the block's input, normed; q, k, v; mixed; the output. Or q, k, v before and after
        // their norm, with its means and deviations. Gradients: of the residual, of mixed, of q, k
        // and v, while mixed is not kept any more.
        let alive = if config.qk_norm { 8 * self.bld() + 4 * b * l * h } else { 7 * self.bld() };
        let part = part
            .attention(b * h, [l, l, d / h])
            .keeping(3 * self.bld())
            .linear(b * l, [d, d])
            .residual(self.bld())
            .working(alive, 4 * self.bld());
        [self.norm(Some(block)), part]
    }

    pub(super) fn mlp(&self, config: &ModelConfig, block: usize) -> PartCost {
        let part = self.feed_forward(PartCost::new(Some(block), Part::Mlp), self.b * self.l);
        // With dropout the activation is an operation of its own, which keeps its input too.
        let hidden = self.b * self.l * self.f;
        let part = part.keeping(if config.dropout > 0.0 { hidden } else { 0 });
        // Alive: the block's input, attention's output, normed, the hidden layer, the output.
        part.working(4 * self.bld() + hidden, self.bld() + hidden)
    }

    fn feed_forward(&self, part: PartCost, rows: u64) -> PartCost {
        let Sizes { d, f, .. } = *self;
        part.linear(rows, [d, f]).activation(rows * f).linear(rows, [f, d]).residual(rows * d)
    }

    pub(super) fn moe(
        &self,
        moe: &MoeConfig,
        choice: Choice,
        (block, call): (usize, &Call<'_>),
    ) -> Result<Vec<PartCost>> {
        let (group, length) = (call.dial.group.unwrap_or(moe.group), self.l as usize);
        let group = moe.group_size_of(group, length);
        let routed = moe.granularity.routed_length(length);
        let spread = length / routed;
        if group == 0 {
            let expected = "routing groups of at least one token".into();
            return Err(Error::Argument { op: "cost", expected, got: "0".into() });
        }
        let left = call.dial.num_experts(moe.num_experts);
        let load = if call.dial.skips(block) {
            Load::NONE
        } else {
            Load::of(choice, left, [self.b as usize * routed, group, spread], (block, call))?
        };
        let part = |part| PartCost::new(Some(block), part);
        let mut parts = match choice {
            Choice::Slots { p } => self.slots([moe.num_experts * p, left * p], load, part).to_vec(),
            // Whole images are routed by a part of its own, once.
            _ if moe.granularity.image_input().is_some() => {
                vec![self.dispatch(load, part(Part::Dispatch)).keeping(self.bld())]
            }
            Choice::Tokens { noisy, .. } | Choice::Experts { noisy, .. } => {
                let router = part(Part::Router).keeping(self.bld());
                let router = self.scores(moe, left, noisy, router);
                vec![router, self.dispatch(load, part(Part::Dispatch))]
            }
        };
        let experts_per_token = choice.experts_per_token(left);
        parts.push(self.experts(moe, load, experts_per_token, part(Part::Experts)));
        Ok(parts)
    }

    /// What routers have beside the kernel of their logits: a bias of each expert, the weight of a
    /// penalty, the score of a learned priority.
    fn beside_logits(&self, moe: &MoeConfig, router: PartCost) -> PartCost {
        let router = match moe.router {
            RouterConfig::LossFree(_) => router.with_params(moe.num_experts as u64),
            RouterConfig::Relu(_) => router.with_params(1),
            _ => router,
        };
        match moe.router.priority() {
            Some(Priority::Learned) => {
                router.with_params(self.d).product([self.b * self.l, self.d, 1])
            }
            _ => router,
        }
    }

    /// Scores `x W` of tokens, W `[D, E]`: all E experts are scored, those that take part are chosen from.
    /// Random experts need none.
    fn scores(&self, moe: &MoeConfig, left: usize, noisy: bool, part: PartCost) -> PartCost {
        let (t, d, e) = (self.b * self.l, self.d, moe.num_experts as u64);
        if matches!(moe.router, RouterConfig::Random(_)) {
            return part.working(3 * t * d + t * e, 2 * t * d);
        }
        let part = part
            .with_params(d * e)
            .keeping(t * e * if noisy { 2 } else { 1 })
            .product([t, d, e])
            .softmax(t * left as u64)
            .working(3 * t * d + 3 * t * e, 2 * t * d + 2 * t * e);
        self.beside_logits(moe, part)
    }

    /// The router of whole images, before the first MoE block: the input that it reads of the tokens of an
    /// image, and the scores of that.
    pub(super) fn image_router(&self, moe: &MoeConfig, input: ImageInput, left: usize) -> PartCost {
        let Sizes { b, l, d, .. } = *self;
        let images = Sizes { l: 1, ..*self };
        let noisy = moe.router.noise_std() > 0.0;
        let part = PartCost::new(None, Part::Router).keeping(b * d);
        let part = images.scores(moe, left, noisy, part);
        let part = match input {
            ImageInput::Mean => part.added(b * l * d),
            ImageInput::Cls => part,
            ImageInput::Pooled => part
                .with_params(d)
                .product([b * l, d, 1])
                .softmax(b * l)
                .product([b * l, 1, d])
                .keeping(b * l), // the tokens are kept for the norm of their block
        };
        part.working(2 * self.bld(), 2 * self.bld())
    }

    /// Rows are gathered as experts read them, and the combine is a gated sum of N rows over the residual.
    fn dispatch(&self, load: Load, part: PartCost) -> PartCost {
        let mut part = part.residual(self.bld()).keeping(load.rows); // gates
        part.macs += load.rows * self.d;
        part.moved += load.rows * self.d + self.bld();
        part
    }

    /// Soft MoE (arXiv 2308.00951, section 2): scores of normalised tokens and `mu [D, E, P]` times
    /// `scale`; each of the slots of a group is a mean over tokens, each output one over slots. All E·P
    /// are scored, those of the experts that take part are `left`.
    fn slots(
        &self,
        slots: [usize; 2],
        load: Load,
        part: impl Fn(Part) -> PartCost,
    ) -> [PartCost; 2] {
        let (t, d, [slots, left]) = (self.b * self.l, self.d, slots.map(|n| n as u64));
        let router = part(Part::Router)
            .with_params(d * slots + 1)
            .norm(t, d)
            .keeping(2 * t * slots)
            .product([t, d, slots])
            .softmax(2 * t * left);
        // One product for all groups each, since a token meets its own group's slots alone. The
        // experts' inputs and outputs are kept.
        let mut dispatch = part(Part::Dispatch)
            .product([t, d, left])
            .product([t, left, d])
            .keeping(2 * load.rows * d)
            .residual(t * d);
        // Each slot's output comes with a weight of 1, as a routed pair's comes with its gate.
        dispatch.macs += load.rows * d;
        [router, dispatch]
    }

    fn experts(
        &self,
        moe: &MoeConfig,
        load: Load,
        experts_per_token: usize,
        part: PartCost,
    ) -> PartCost {
        let Sizes { d, f, .. } = *self;
        let expert = 2 * d * f + f + d;
        let mut part = part
            .product([load.rows, d, f])
            .added(load.rows * f)
            .activation(load.rows * f)
            .keeping(if moe.expert_dropout > 0.0 { 2 } else { 1 } * load.rows * f)
            .product([load.rows, f, d])
            .added(load.rows * d);
        let (td, nd, nf) = (self.bld(), load.rows * d, load.rows * f);
        // Alive: the block's input, attention's output, normed, hidden rows, output rows, the
        // output. Gradients: of the output and hidden rows; or, when those are not kept any more,
        // of the residual, of rows and of normed.
        part = part.working(4 * td + nf + nd, (td + nf).max(2 * td + nd));
        part.rows = load.rows;
        part.params = moe.num_experts as u64 * expert;
        part.active_params = experts_per_token as u64 * expert;
        part.read_params = load.experts * expert;
        // Each of those that every token visits is a dense MLP more, over the residual.
        let t = self.b * self.l;
        (0..moe.num_shared).fold(part, |part, _| self.feed_forward(part, t).keeping(t * f))
    }

    /// All above the last norm.
    pub(super) fn top(&self, config: &ModelConfig) -> Vec<PartCost> {
        let Sizes { b, d, .. } = *self;
        let mut parts = Vec::new();
        if config.classifier == Classifier::Map {
            parts.push(self.pool(config));
        }
        let width = config.pre_logits.map_or(d, |width| width as u64);
        if config.pre_logits.is_some() {
            let part = PartCost::new(None, Part::PreLogits).linear(b, [d, width]);
            parts.push(part.activation(b * width).keeping(b * width));
        }
        if let Some(v) = config.num_classes {
            // The loss keeps its slope.
            let part = PartCost::new(None, Part::Head).linear(b, [width, v as u64]);
            parts.push(part.keeping(b * v as u64));
        }
        parts
    }

    /// One query for all images attends to the tokens of each; then an MLP with its norm.
    fn pool(&self, config: &ModelConfig) -> PartCost {
        let Sizes { b, l, d, h, .. } = *self;
        let mut part = PartCost::new(None, Part::Pool)
            .with_params(d)
            .linear(1, [d, d])
            .linear(b * l, [d, 2 * d]);
        if config.qk_norm {
            part = part
                .with_params(2 * d / h)
                .norm(h, d / h)
                .norm(b * l * h, d / h)
                .keeping(self.bld());
        }
        let part = part
            .attention(b * h, [1, l, d / h])
            .keeping(b * d + 2 * self.bld())
            .linear(b, [d, d])
            .with_params(2 * d)
            .norm(b, d);
        let kv = 2 * self.bld();
        let alive = 2 * self.bld() + kv * if config.qk_norm { 2 } else { 1 };
        self.feed_forward(part, b).working(alive, kv)
    }
}
