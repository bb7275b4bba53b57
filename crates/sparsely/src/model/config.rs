//! A vision transformer as a value.

use super::ExpertAttention;
use crate::attention::AttentionConfig;
use crate::moe::router::{Asked, experts_problem};
use crate::moe::{Dial, Group, ImageInput, LossWeights, MoeConfig, Subset};
use crate::nn::Precision;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Beyond this a model is a typing error: about twice the largest model of the papers (Soft MoE
/// H/14 with 256 experts), all layers counted as sparse.
const MAX_PARAMS: f64 = 2e11;

/// Twenty times the deepest preset; a model is laid out block by block before its parameters are
/// held against a file.
const MAX_DEPTH: usize = 1024;

/// A ViT or, with `moe`, a V-MoE.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// Height and width of the images in pixels.
    pub image_size: usize,
    /// Channels of the images.
    pub channels: usize,
    /// Height and width of a patch in pixels. Pixels beyond the last whole patch are not seen.
    pub patch_size: usize,
    /// Number of blocks.
    pub depth: usize,
    /// D.
    pub width: usize,
    /// H; divides D.
    pub heads: usize,
    /// F, of the dense MLPs and of the experts.
    pub mlp_width: usize,
    /// V; without it the model ends in features.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_classes: Option<usize>,
    /// How tokens become one vector.
    pub classifier: Classifier,
    /// What tells a token where it is.
    pub positions: Positions,
    /// Whether queries and keys are normalised per head.
    pub qk_norm: bool,
    /// Width of a tanh layer before the head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_logits: Option<usize>,
    /// Where the head's biases start.
    pub head_bias: f32,
    /// After the embedding, the attention and inside the dense MLPs.
    pub dropout: f32,
    /// What the factors of its matrix products are rounded to.
    #[serde(default, skip_serializing_if = "Precision::is_f32")]
    pub precision: Precision,
    /// Experts inside the heads of every block's attention; `heads` and `qk_norm` are then the pooling
    /// head's alone. Without it attention is dense.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention: Option<ExpertAttention>,
    /// The mixture of experts; without it the model is dense.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moe: Option<MoeConfig>,
}

impl Default for ModelConfig {
    /// The model of the embedded digits: 8×8 grey images, patches of 2×2.
    fn default() -> ModelConfig {
        ModelConfig {
            image_size: 8,
            channels: 1,
            patch_size: 2,
            depth: 4,
            width: 64,
            heads: 4,
            mlp_width: 128,
            num_classes: Some(10),
            classifier: Classifier::Gap,
            positions: Positions::Learned,
            qk_norm: false,
            pre_logits: None,
            head_bias: 0.0,
            dropout: 0.0,
            precision: Precision::F32,
            attention: None,
            moe: Some(MoeConfig { group: Group::Images { n: 8 }, ..MoeConfig::default() }),
        }
    }
}

/// How the tokens of an image become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Classifier {
    /// A learned token, put before the others.
    Token,
    /// The mean of the tokens.
    Gap,
    /// A learned query that attends to the tokens.
    Map,
}

/// Position embeddings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// One vector for each token, the class token included.
    Learned,
    /// Fixed sines and cosines of row and column; the class token gets none.
    Sincos2d,
    /// None.
    None,
}

impl ModelConfig {
    /// Patches of one image.
    pub fn num_patches(&self) -> usize {
        (self.image_size / self.patch_size).pow(2)
    }

    /// Values of one image.
    pub fn image_pixels(&self) -> usize {
        self.image_size * self.image_size * self.channels
    }

    /// Tokens of one image, L.
    pub fn length(&self) -> usize {
        self.num_patches() + usize::from(self.classifier == Classifier::Token)
    }

    /// Indices of the MoE blocks.
    ///
    /// # Errors
    /// If the placement does not fit the depth.
    pub fn moe_blocks(&self) -> Result<Vec<usize>> {
        let resolve = |moe: &MoeConfig| moe.placement.resolve(self.depth);
        self.moe.as_ref().map_or(Ok(Vec::new()), resolve).map_err(Error::config)
    }

    /// Refuses a dial that skips a block without a MoE layer.
    ///
    /// # Errors
    /// Which blocks have one.
    pub fn check_skipped(&self, dial: &Dial) -> Result<()> {
        self.skip_problem(dial).map_or(Ok(()), |problem| Err(Error::config(problem)))
    }

    /// What cannot work about a dial, where the model has experts: one sentence.
    pub fn dial_problem(&self, dial: &Dial) -> Option<String> {
        let moe = self.moe.as_ref()?;
        let problem = moe.router.refusal(dial).or_else(|| experts_problem(dial, moe.num_experts));
        let problem = problem.or_else(|| moe.group_problem(dial.group?).map(String::from));
        problem.or_else(|| self.skip_problem(dial))
    }

    pub(crate) fn skip_problem(&self, dial: &Dial) -> Option<String> {
        let asked = dial.skip_moe.as_ref()?;
        let blocks = match self.moe_blocks() {
            Ok(blocks) => blocks,
            Err(problem) => return Some(problem.to_string()),
        };
        let missing = asked.indices().iter().find(|block| !blocks.contains(block))?;
        let there = match Subset::new(blocks) {
            Ok(blocks) => format!("MoE layers are in blocks {blocks}"),
            Err(_) => "there is no MoE layer at all".into(),
        };
        Some(format!(
            "block {missing} has no MoE layer to skip: {there} of 0 to {}",
            self.depth - 1
        ))
    }

    /// Checks the whole of it.
    ///
    /// # Errors
    /// All problems at once.
    pub fn validate(&self) -> Result<()> {
        let mut problems = Vec::new();
        let mut check = |works: bool, problem: &dyn Fn() -> String| {
            if !works {
                problems.push(problem());
            }
        };
        let sizes = [
            ("channels", self.channels),
            ("patch_size", self.patch_size),
            ("width", self.width),
            ("heads", self.heads),
            ("mlp_width", self.mlp_width),
            ("num_classes", self.num_classes.unwrap_or(1)),
            ("pre_logits", self.pre_logits.unwrap_or(1)),
        ];
        for (name, size) in sizes {
            check(size > 0, &|| format!("model.{name} must be at least 1"));
        }
        check(self.depth <= MAX_DEPTH, &|| {
            format!("model.depth {} is more than {MAX_DEPTH}", self.depth)
        });
        check(self.patch_size <= self.image_size, &|| {
            format!(
                "model.patch_size {} is larger than model.image_size {}",
                self.patch_size, self.image_size
            )
        });
        check(self.heads > 0 && self.width.is_multiple_of(self.heads), &|| {
            format!("model.width {} is not a multiple of model.heads {}", self.width, self.heads)
        });
        check(
            self.positions != Positions::Sincos2d || self.width.is_multiple_of(4) && self.width > 4,
            &|| {
                format!(
                    "sincos2d positions need a model.width that is a multiple of 4 above 4, not {}",
                    self.width
                )
            },
        );
        check((0.0..1.0).contains(&self.dropout), &|| {
            format!("model.dropout {} is not in [0, 1)", self.dropout)
        });
        check(self.head_bias.is_finite(), &|| {
            format!("model.head_bias {} is not a finite number", self.head_bias)
        });
        if let Some(attention) = &self.attention {
            let config = AttentionConfig::SwitchHead(attention.switch_head());
            problems.extend(config.problems("model.attention"));
        }
        // Placements list the blocks that there are.
        if let (Some(moe), true) = (&self.moe, self.depth <= MAX_DEPTH) {
            problems.extend(self.moe_problems(moe));
        }
        if self.approximate_params() > MAX_PARAMS {
            problems
                .push(format!("the model has about {:.0e} parameters", self.approximate_params()));
        }
        if problems.is_empty() { Ok(()) } else { Err(Error::Config { problems }) }
    }

    /// In floating point, so that absurd sizes do not overflow before they are refused.
    fn approximate_params(&self) -> f64 {
        let (d, f) = (self.width as f64, self.mlp_width as f64);
        let experts = self.moe.as_ref();
        let experts = experts.map_or(1.0, |moe| moe.num_experts as f64 + moe.num_shared as f64);
        let patch = self.patch_size as f64 * self.patch_size as f64 * self.channels as f64 * d;
        let tokens = (self.image_size as f64 / self.patch_size.max(1) as f64).powi(2) * d;
        let features = self.pre_logits.unwrap_or(0) as f64;
        let attention = self.attention.as_ref().map_or(0.0, |attention| {
            AttentionConfig::SwitchHead(attention.switch_head()).approximate_columns() * d
        });
        let head = features * d + self.num_classes.unwrap_or(0) as f64 * features.max(d);
        self.depth as f64 * (attention + 4.0 * d * d + 2.0 * d * f * experts)
            + patch
            + tokens
            + head
    }

    /// What cannot work where whole images are routed.
    fn image_problems(&self, moe: &MoeConfig) -> Vec<String> {
        let Some(input) = moe.granularity.image_input() else { return Vec::new() };
        let LossWeights { importance, load, gshard, .. } = moe.router.loss_weights();
        let checks = [
            (
                !moe.router.chooses_alone(),
                "model.moe.router: whole images choose for themselves, by token_choice, loss_free, relu or random",
            ),
            (
                input == ImageInput::Cls && self.classifier != Classifier::Token,
                "model.moe.granularity.input `cls` needs a class token: set model.classifier=token",
            ),
            (
                importance + load + gshard > 0.0 && moe.group == Group::Images { n: 1 },
                "model.moe.router.loss balances the images of a group, and model.moe.group.n=1 leaves \
                 one: set it to train.batch_size, or the weights to 0",
            ),
        ];
        let told = checks.into_iter().filter(|(is_so, _)| *is_so).map(|(_, told)| told);
        told.chain(moe.group_problem(moe.group)).map(String::from).collect()
    }

    fn moe_problems(&self, moe: &MoeConfig) -> Vec<String> {
        let mut problems = Vec::new();
        if self.patch_size > 0 {
            problems.extend(moe.router.problems(&Asked {
                dial: &Dial::default(),
                num_experts: moe.num_experts,
                group_tokens: moe.group_size(self.length()),
                place: "model.moe.router",
            }));
        }
        if !(0.0..1.0).contains(&moe.expert_dropout) {
            problems
                .push(format!("model.moe.expert_dropout {} is not in [0, 1)", moe.expert_dropout));
        }
        problems.extend(moe.placement.resolve(self.depth).err());
        problems.extend(self.image_problems(moe));
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid() {
        ModelConfig::default().validate().unwrap();
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let config =
            ModelConfig { heads: 5, patch_size: 9, dropout: 1.0, ..ModelConfig::default() };
        assert_eq!(
            config.validate().unwrap_err().to_string(),
            "invalid configuration: model.patch_size 9 is larger than model.image_size 8; \
             model.width 64 is not a multiple of model.heads 5; model.dropout 1 is not in [0, 1); \
             capacity: expected at least one seat for each expert, got a factor of 1.05 for \
             0 choices among 8 experts"
        );
    }
}
