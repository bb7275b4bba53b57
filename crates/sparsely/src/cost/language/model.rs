//! The cost of a language model as this engine runs it, part by part.
//!
//! MACs are exactly as many as the kernels count. They differ from [`super::Attention::executed`], which
//! counts what the authors' code computes: here a block of queries meets no key after its last one, distances
//! ahead do not exist, and the keys of distances are projected once for all rows.

use crate::attention::{AttentionConfig, DenseAttentionConfig, MoaConfig, RelativePositions};
use crate::cost::attention::SwitchHeadLayer;
use crate::cost::call::Call;
use crate::cost::formulas::Sizes;
use crate::cost::part::{Part, PartCost};
use crate::cost::router::Choice;
use crate::model::language::{LanguageConfig, LanguageMoeConfig, MlpConfig};
use crate::moe::{Dial, SigmaMoeConfig};
use crate::{Error, Result};
use serde::Serialize;
use sparsely_tensor::causal_pairs;

/// One call of a language model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextCall {
    /// Rows of text, B.
    pub batch: usize,
    /// Tokens of each, T.
    pub length: usize,
    /// Tokens of memory before them, M.
    pub memory: usize,
}

impl TextCall {
    /// A block of text as long as the context, after a full memory.
    pub fn full(config: &LanguageConfig, batch: usize) -> TextCall {
        TextCall { batch, length: config.context, memory: config.memory }
    }
}

/// What one call costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TextCost {
    /// B·T.
    pub tokens: u64,
    /// In the order in which they compute.
    pub parts: Vec<PartCost>,
}

impl TextCost {
    /// Counts a model; experts of MLPs with a capacity are asked equally often.
    ///
    /// # Errors
    /// If the configuration cannot work, or not with such a call.
    pub fn of(config: &LanguageConfig, call: &TextCall) -> Result<TextCost> {
        config.validate()?;
        let &TextCall { batch, length, memory } = call;
        let fits = batch > 0 && (1..=config.context).contains(&length) && memory <= config.memory;
        if !fits {
            return Err(Error::Argument {
                op: "cost",
                expected: format!(
                    "at least one row of 1 to {} tokens after at most {} of memory",
                    config.context, config.memory
                ),
                got: format!("{batch} rows of {length} after {memory}"),
            });
        }
        let [b, t, m, d] = [batch, length, memory, config.width].map(|size| size as u64);
        let text = Text { b, t, m, d, pairs: causal_pairs(length, memory) };
        let v = config.vocabulary as u64;
        let blocks = config.blocks();
        let mut embedding = PartCost::new(None, Part::Embedding).with_params(v * d);
        if blocks.iter().any(|block| block.attention.positions().are_relative()) {
            // The sinusoids, one table for all blocks.
            embedding = embedding.keeping((m + t) * d);
        }
        let mut parts = vec![embedding];
        for (i, block) in blocks.iter().enumerate() {
            parts.push(text.first_norm(i));
            parts.push(text.attention(&block.attention, i));
            parts.push(text.norm(Some(i)));
            parts.extend(text.mlp(&block.mlp, i)?);
        }
        parts.push(text.norm(None));
        // The loss reads the logits again.
        let head = PartCost::new(None, Part::Head).linear(b * t, [d, v]);
        parts.push(head.keeping(b * t * v));
        Ok(TextCost { tokens: b * t, parts })
    }

    fn sum(&self, of: impl Fn(&PartCost) -> u64) -> u64 {
        self.parts.iter().map(of).sum()
    }

    /// Parameters.
    pub fn params(&self) -> u64 {
        self.sum(|part| part.params)
    }

    /// Multiply-accumulates of the forward pass.
    pub fn macs(&self) -> u64 {
        self.sum(|part| part.macs)
    }

    /// Those of attention alone.
    pub fn attention_macs(&self) -> u64 {
        self.sum(|part| if part.part == Part::Attention { part.macs } else { 0 })
    }

    /// Multiply-accumulates of the backward pass.
    pub fn backward_macs(&self) -> u64 {
        self.sum(|part| part.backward_macs)
    }

    /// FLOPs of forward and backward pass.
    pub fn training_flops(&self) -> u64 {
        self.sum(PartCost::training_flops)
    }

    /// Bytes that the backward pass needs of the forward pass.
    pub fn kept_bytes(&self) -> u64 {
        self.sum(PartCost::kept_bytes)
    }

    /// Those of attention alone.
    pub fn attention_kept_bytes(&self) -> u64 {
        self.sum(|part| if part.part == Part::Attention { part.kept_bytes() } else { 0 })
    }
}

/// A block of text and its memory.
struct Text {
    b: u64,
    t: u64,
    m: u64,
    d: u64,
    /// Of a query and a key, and of a query and a distance, for each row and head.
    pairs: [u64; 2],
}

impl Text {
    fn norm(&self, block: Option<usize>) -> PartCost {
        let Text { b, t, d, .. } = *self;
        PartCost::new(block, Part::Norm).with_params(2 * d).norm(b * t, d)
    }

    /// Of the block and, apart, of its memory.
    fn first_norm(&self, block: usize) -> PartCost {
        let Text { b, m, d, .. } = *self;
        self.norm(Some(block)).norm(b * m, d)
    }

    fn attention(&self, config: &AttentionConfig, block: usize) -> PartCost {
        let Text { b, t, m, d, .. } = *self;
        // The queries' input; with memory keys and values have another.
        let source = if m > 0 { b * (m + t) * d } else { 0 };
        let part = PartCost::new(Some(block), Part::Attention).keeping(b * t * d + source);
        let part = match config {
            AttentionConfig::Dense(config) => self.dense(config, part),
            AttentionConfig::SwitchHead(config) => {
                let [h, a] = [config.heads, config.head_width].map(|size| size as u64);
                let layer = SwitchHeadLayer::new(config, [b * (m + t), b * t], d);
                let part = layer.projections(part).keeping(2 * b * t * h * a);
                self.matrix(part, config.positions, [h, h, a])
            }
            AttentionConfig::Moa(config) => self.moa(config, part),
        };
        part.residual(b * t * d)
    }

    fn dense(&self, config: &DenseAttentionConfig, part: PartCost) -> PartCost {
        let Text { b, t, m, d, .. } = *self;
        let [h, a] = [config.heads, config.head_width].map(|size| size as u64);
        let (queries, keys, width) = (b * t, b * (m + t), h * a);
        let mut part = part
            .with_params(4 * d * width)
            .product([queries, d, width])
            .product([keys, d, width])
            .product([keys, d, width])
            .product([queries, width, d]);
        // Queries and what is mixed; with u and v two kinds of queries, before and after their scale.
        let mut kept = 2 * queries * width;
        if config.positions.are_relative() {
            part = part.with_params(2 * width + 1).added(2 * queries * width);
            kept += 3 * queries * width;
        }
        self.matrix(part.keeping(kept), config.positions, [h, h, a])
    }

    fn moa(&self, config: &MoaConfig, part: PartCost) -> PartCost {
        let Text { b, t, m, d, .. } = *self;
        let [e, k, a] =
            [config.num_experts, config.num_selected, config.head_width].map(|size| size as u64);
        let (queries, keys, pairs) = (b * t, b * (m + t), b * t * k);
        let mut part = part
            .with_params(2 * d * a + d * e + 1)
            .product([queries, d, e])
            .product([keys, d, a])
            .product([keys, d, a])
            .product([pairs, d, a])
            .product([pairs, a, d]);
        part.params += 2 * e * d * a;
        part.active_params += 2 * k * d * a;
        part.read_params += 2 * e * d * a;
        // The gated sums of the outputs, there and back.
        part.macs += pairs * d;
        part.backward_macs += pairs * a;
        // Logits and gates; queries before and after their scale; what is mixed.
        let part = part.keeping(2 * queries * e + pairs + 3 * pairs * a);
        self.matrix(part, config.positions, [k, 1, a])
    }

    /// softmax(q kᵀ + distances) v of H heads of queries and `key_heads` of keys.
    fn matrix(
        &self,
        part: PartCost,
        positions: RelativePositions,
        [h, key_heads, a]: [u64; 3],
    ) -> PartCost {
        let Text { b, t, m, d, pairs: [pairs, with_distances] } = *self;
        let keys = b * (m + t) * key_heads * a;
        let mut part = part.keeping(2 * keys).softmax(b * h * pairs);
        let product = b * h * pairs * a;
        part.macs += 2 * product;
        // The matrix again, then two gradients of each product.
        part.backward_macs += 5 * product;
        part.moved += 2 * keys + 2 * b * t * h * a;
        if !positions.are_relative() {
            return part;
        }
        let (rows, width) = (m + t, key_heads * a);
        let by_distance = b * h * with_distances * a;
        part = part.with_params(d * width).keeping(rows * width).product([rows, d, width]);
        // Sinusoids have no gradient.
        part.backward_macs -= rows * d * width;
        part.macs += by_distance;
        part.backward_macs += 3 * by_distance;
        part
    }

    fn mlp(&self, config: &MlpConfig, block: usize) -> Result<Vec<PartCost>> {
        let Text { b, t, d, .. } = *self;
        let rows = b * t;
        match config {
            MlpConfig::Dense(config) => {
                let f = config.width as u64;
                let part = PartCost::new(Some(block), Part::Mlp);
                let part = part.linear(rows, [d, f]).added(rows * f).linear(rows, [f, d]);
                Ok(vec![part.residual(rows * d)])
            }
            MlpConfig::SigmaMoe(config) => Ok(self.sigma(config, block).to_vec()),
            MlpConfig::Moe(LanguageMoeConfig { expert_width, moe }) => {
                let choice = Choice::of(moe, &Dial::default(), t as usize)?;
                let sizes = Sizes::of_text([b, t, d, *expert_width as u64]);
                sizes.moe(moe, choice, (block, &Call::balanced(b as usize)))
            }
        }
    }

    fn sigma(&self, config: &SigmaMoeConfig, block: usize) -> [PartCost; 2] {
        let Text { b, t, d, .. } = *self;
        let [e, k, g] =
            [config.num_experts, config.num_selected, config.expert_width].map(|size| size as u64);
        let (rows, pairs) = (b * t, b * t * k);
        let mut router = PartCost::new(Some(block), Part::Router)
            .with_params(d * e)
            .keeping(rows * d + 2 * pairs)
            .product([rows, d, e]);
        if config.entropy_weight > 0.0 {
            router = router.softmax(rows * e).keeping(rows * e);
        }
        let mut experts = PartCost::new(Some(block), Part::Experts)
            .product([pairs, d, g])
            .product([pairs, g, d])
            .keeping(pairs * g)
            .added(pairs * g)
            .residual(rows * d);
        experts.rows = pairs;
        experts.macs += pairs * d;
        let biases = if config.has_bias { g } else { 0 };
        experts.params = e * (2 * d * g + biases);
        experts.active_params = k * (2 * d * g + biases);
        experts.read_params = experts.params;
        if config.has_bias {
            experts = experts.with_params(d).added(pairs * g + rows * d);
        }
        [router, experts]
    }
}
