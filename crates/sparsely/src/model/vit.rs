//! The vision transformer of the reference, with experts in the blocks that ask for them.

use super::attention::{AttentionStats, BlockAttention};
use super::{Classifier, ModelConfig, Positions};
use crate::attention::AttentionPool;
use crate::moe::router::Learned;
use crate::moe::{Dial, ImageRouter, Mixture, MoeConfig, MoeLayer, RouterStats, Routing};
use crate::nn::{Init, Initializer, LayerNorm, Linear, Mlp, Mode, Precision, dropout};
use crate::{Error, Result};
use sparsely_tensor::{Activation, Layout, Param, Slab, Tape, Var};
use std::sync::{Arc, OnceLock};

/// A ViT or V-MoE: where its parameters lie, and what it computes.
pub struct Vit {
    config: ModelConfig,
    embedding: Linear,
    cls: Option<Param>,
    positions: PositionTable,
    blocks: Vec<Block>,
    image_router: Option<ImageRouter>,
    norm: LayerNorm,
    pool: Option<AttentionPool>,
    pre_logits: Option<Linear>,
    head: Option<Linear>,
}

enum PositionTable {
    Learned(Param),
    /// Made when it is first needed: a configuration costs nothing until its parameters are there.
    Fixed(OnceLock<Vec<f32>>),
    None,
}

struct Block {
    norm_0: LayerNorm,
    attention: BlockAttention,
    norm_1: LayerNorm,
    feed_forward: FeedForward,
}

enum FeedForward {
    Dense(Mlp),
    Moe(MoeLayer),
    /// Experts under the decision of the image's router.
    Decided(Mixture),
}

/// What the model returns.
pub struct Output<'t> {
    /// `[B, V]`; `[B, D]` for a model without classes.
    pub logits_bv: Var<'t>,
    /// What the head reads, `[B, D]` (or the width of `pre_logits`).
    pub features_bd: Var<'t>,
    /// Auxiliary losses with their weights, summed over MoE layers by the caller.
    pub losses: Vec<(Var<'t>, f32)>,
    /// One for each MoE layer that was not left out, with its block's index.
    pub stats: Vec<(usize, RouterStats)>,
    /// The logits `[B, E]` of the router of whole images, if there is one that has them.
    pub image_logits_be: Option<Var<'t>>,
    /// One for each block, where attention has experts.
    pub attention_stats: Vec<AttentionStats>,
}

impl Vit {
    /// The model and the fresh parameters that `seed` stands for.
    ///
    /// # Errors
    /// If the configuration cannot work; all problems at once.
    pub fn init(config: &ModelConfig, seed: u64) -> Result<(Vit, Slab)> {
        let (vit, init) = Vit::planned(config)?;
        Ok((vit, init.finish(seed)))
    }

    /// Names, shapes and places of the parameters, without memory for their values: for models
    /// of any size.
    ///
    /// # Errors
    /// As [`Vit::init`].
    pub fn layout(config: &ModelConfig) -> Result<Layout> {
        Ok(Vit::planned(config)?.1.into_layout())
    }

    /// The model and where its parameters lie, for parameters that come from elsewhere.
    ///
    /// # Errors
    /// As [`Vit::init`].
    pub fn new(config: &ModelConfig) -> Result<(Vit, Arc<Layout>)> {
        let (vit, init) = Vit::planned(config)?;
        Ok((vit, Arc::new(init.into_layout())))
    }

    fn planned(config: &ModelConfig) -> Result<(Vit, Initializer)> {
        config.validate()?;
        let moe_blocks = config.moe_blocks()?;
        let mut init = Initializer::default();
        let vit = Vit::lay_out(&mut init, config, &moe_blocks);
        Ok((vit, init))
    }

    fn lay_out(init: &mut Initializer, config: &ModelConfig, moe_blocks: &[usize]) -> Vit {
        let (d, f, zero) = (config.width, config.mlp_width, Init::Constant(0.0));
        let pixels = config.patch_size.pow(2) * config.channels;
        let patch = Init::LecunNormal { fan_in: pixels };
        let embedding = Linear::init(init, "embedding", [pixels, d], patch, zero);
        let cls =
            (config.classifier == Classifier::Token).then(|| init.vector("cls", [1, d], zero));
        let positions = PositionTable::init(init, config);
        let blocks = (0..config.depth).map(|i| {
            let moe = config.moe.as_ref().filter(|_| moe_blocks.contains(&i));
            init.scope(format!("blocks/{i}"), |init| Block {
                norm_0: LayerNorm::init(init, "norm_0", d),
                attention: BlockAttention::init(init, config),
                norm_1: LayerNorm::init(init, "norm_1", d),
                feed_forward: FeedForward::init(init, config, moe),
            })
        });
        let blocks = blocks.collect();
        let routed = config.moe.as_ref().filter(|_| !moe_blocks.is_empty());
        let image_router = routed.and_then(|moe| {
            let input = moe.granularity.image_input()?;
            Some(ImageRouter::init(init, moe, input, d))
        });
        let features = config.pre_logits.unwrap_or(d);
        Vit {
            embedding,
            cls,
            positions,
            blocks,
            image_router,
            norm: LayerNorm::init(init, "norm", d),
            pool: (config.classifier == Classifier::Map)
                .then(|| AttentionPool::init(init, "pool", [d, f], config.heads, config.qk_norm)),
            pre_logits: config.pre_logits.map(|width| {
                Linear::init(init, "pre_logits", [d, width], Init::LecunNormal { fan_in: d }, zero)
            }),
            head: config.num_classes.map(|v| {
                Linear::init(init, "head", [features, v], zero, Init::Constant(config.head_bias))
            }),
            config: config.clone(),
        }
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The same model with products of another precision.
    pub fn with_precision(mut self, precision: Precision) -> Vit {
        self.config.precision = precision;
        self
    }

    /// Classifies images `[B, H, W, C]` in [−1, 1], row-major.
    ///
    /// # Errors
    /// If the images are not of the model's size, or the routing of `dial` cannot work.
    pub fn forward<'t>(
        &self,
        tape: &'t Tape<'t>,
        images_bhwc: &[f32],
        dial: &Dial,
        mode: &mut Mode<'_>,
    ) -> Result<Output<'t>> {
        self.config.check_skipped(dial)?;
        tape.compute_in(self.config.precision.into());
        let mut x_bld = self.embed(tape, images_bhwc, mode)?;
        let mut routed = Routed {
            dial,
            decided: None,
            losses: Vec::new(),
            stats: Vec::new(),
            attention: Vec::new(),
        };
        for (i, block) in self.blocks.iter().enumerate() {
            let is_left_out = dial.skips(i);
            if let (Some(router), FeedForward::Decided(_), None, false) =
                (&self.image_router, &block.feed_forward, &routed.decided, is_left_out)
            {
                let mut decision = router.route(&x_bld, dial, mode)?;
                routed.losses.append(&mut decision.losses);
                routed.decided = Some(decision);
            }
            x_bld = block.forward(&x_bld, self.config.dropout, (i, &mut routed), mode)?;
        }
        let Routed { decided, losses, stats, attention: attention_stats, .. } = routed;
        let image_logits_be = decided.and_then(|decision| decision.logits);
        let features_bd = self.features(&self.norm.forward(&x_bld)?)?;
        let logits_bv = match &self.head {
            Some(head) => head.forward(&features_bd)?,
            None => features_bd.clone(),
        };
        Ok(Output { logits_bv, features_bd, losses, stats, image_logits_be, attention_stats })
    }

    /// Moves after a training step what routers adapt by rule, given what the step's output told.
    pub fn adapt(&self, params: &mut Slab, stats: &[(usize, RouterStats)]) {
        let mut model = RouterStats::default();
        stats.iter().for_each(|(_, layer)| model.merge(layer));
        for (i, layer) in stats {
            if let FeedForward::Moe(moe) = &self.blocks[*i].feed_forward {
                moe.adapt(params, &Learned { layer, model: &model });
            }
        }
        if let (Some(router), Some((_, layer))) = (&self.image_router, stats.first()) {
            router.adapt(params, &Learned { layer, model: &model });
        }
    }

    /// Patches to tokens, with class token and positions: `[B, L, D]`.
    fn embed<'t>(
        &self,
        tape: &'t Tape<'t>,
        images: &[f32],
        mode: &mut Mode<'_>,
    ) -> Result<Var<'t>> {
        let (size, channels) = (self.config.image_size, self.config.channels);
        let pixels = size * size * channels;
        if images.is_empty() || !images.len().is_multiple_of(pixels) {
            return Err(Error::Argument {
                op: "Vit::forward",
                expected: format!("images of {size}×{size}×{channels}"),
                got: format!("{} values", images.len()),
            });
        }
        let batch = images.len() / pixels;
        let patches = patchify(images, size, channels, self.config.patch_size);
        let shape =
            [batch, self.config.num_patches(), patches.len() / batch / self.config.num_patches()];
        let mut x_bld = self.embedding.forward(&tape.constant(shape, &patches)?)?;
        if let Some(cls) = &self.cls {
            x_bld = x_bld.prepend(cls)?;
        }
        x_bld = match &self.positions {
            PositionTable::Learned(table) => x_bld.add_positions(table)?,
            PositionTable::Fixed(table) => {
                x_bld.add_constant(table.get_or_init(|| self.config.fixed_positions()))?
            }
            PositionTable::None => x_bld,
        };
        dropout(x_bld, self.config.dropout, mode)
    }

    /// What the head reads.
    fn features<'t>(&self, x_bld: &Var<'t>) -> Result<Var<'t>> {
        let pooled_bd = match (&self.pool, self.config.classifier) {
            (Some(pool), _) => pool.forward(x_bld)?,
            (None, Classifier::Token) => x_bld.select_token(0)?,
            (None, _) => x_bld.mean_tokens()?,
        };
        match &self.pre_logits {
            Some(layer) => Ok(layer.forward(&pooled_bd)?.activation(Activation::Tanh)),
            None => Ok(pooled_bd),
        }
    }
}

/// The routing of a forward pass, and what came of it so far.
struct Routed<'a, 't> {
    dial: &'a Dial,
    /// Of the image's router, once it was asked.
    decided: Option<Routing<'t>>,
    losses: Vec<(Var<'t>, f32)>,
    stats: Vec<(usize, RouterStats)>,
    attention: Vec<AttentionStats>,
}

impl FeedForward {
    fn init(init: &mut Initializer, config: &ModelConfig, moe: Option<&MoeConfig>) -> FeedForward {
        let (d, f) = (config.width, config.mlp_width);
        match moe {
            None => FeedForward::Dense(Mlp::init(init, "mlp", [d, f], config.dropout)),
            Some(moe) if moe.granularity.image_input().is_some() => {
                FeedForward::Decided(init.scope("moe", |init| Mixture::init(init, moe, [d, f])))
            }
            Some(moe) => FeedForward::Moe(MoeLayer::init(init, moe, [d, f, config.length()])),
        }
    }
}

impl Block {
    /// x += MHA(LN(x)); x += MLP-or-MoE(LN(x)), as block `i`. A MoE layer that the dial skips is left out.
    fn forward<'t>(
        &self,
        x_bld: &Var<'t>,
        rate: f32,
        (i, routed): (usize, &mut Routed<'_, 't>),
        mode: &mut Mode<'_>,
    ) -> Result<Var<'t>> {
        let (x_bld, stats) = {
            let normed_bld = self.attention.normed(&self.norm_0, x_bld)?;
            self.attention.forward([&normed_bld, x_bld], rate, i, mode)?
        };
        routed.attention.extend(stats);
        let normed_bld = || self.norm_1.forward(&x_bld);
        match &self.feed_forward {
            FeedForward::Dense(mlp) => mlp.forward(&self.norm_1.rounded(&x_bld)?, &x_bld, mode),
            _ if routed.dial.skips(i) => Ok(x_bld),
            FeedForward::Moe(moe) => {
                let output = moe.forward(&normed_bld()?, &x_bld, routed.dial, mode)?;
                routed.losses.extend(output.losses);
                routed.stats.push((i, output.stats));
                Ok(output.y_bld)
            }
            FeedForward::Decided(mixture) => {
                let decision = routed.decided.as_ref().expect("made before the first of them");
                routed.stats.push((i, decision.stats.clone()));
                mixture.forward(&normed_bld()?, &x_bld, decision, mode)
            }
        }
    }
}

impl PositionTable {
    fn init(init: &mut Initializer, config: &ModelConfig) -> PositionTable {
        match config.positions {
            Positions::None => PositionTable::None,
            Positions::Learned => PositionTable::Learned(init.vector(
                "positions",
                [config.length(), config.width],
                Init::Normal { std: 0.02 },
            )),
            Positions::Sincos2d => PositionTable::Fixed(OnceLock::new()),
        }
    }
}

impl ModelConfig {
    /// Positions `[L, D]` of [`Positions::Sincos2d`].
    fn fixed_positions(&self) -> Vec<f32> {
        let skip = self.length() - self.num_patches();
        sincos2d(self.image_size / self.patch_size, self.width, skip)
    }
}

/// `[skip + n·n, D]`: sin x, cos x, sin y, cos y of column x and row y at ω_i = 10000^(−i/(D/4−1));
/// the first `skip` rows are 0.
fn sincos2d(n: usize, d: usize, skip: usize) -> Vec<f32> {
    let quarter = d / 4;
    let omega = |i: usize| 10_000_f64.powf(-(i as f64) / (quarter as f64 - 1.0));
    let mut table = vec![0.0; skip * d];
    for token in 0..n * n {
        let (y, x) = ((token / n) as f64, (token % n) as f64);
        table.extend((0..quarter).map(|i| (x * omega(i)).sin() as f32));
        table.extend((0..quarter).map(|i| (x * omega(i)).cos() as f32));
        table.extend((0..quarter).map(|i| (y * omega(i)).sin() as f32));
        table.extend((0..quarter).map(|i| (y * omega(i)).cos() as f32));
    }
    table
}

/// `[B, H, W, C]` → `[B, N, P·P·C]`, patches row-major, the pixels of a patch row-major.
fn patchify(images: &[f32], size: usize, channels: usize, patch: usize) -> Vec<f32> {
    let n = size / patch;
    let mut patches = Vec::with_capacity(images.len());
    for image in images.chunks(size * size * channels) {
        for (row, col) in (0..n * n).map(|token| (token / n * patch, token % n * patch)) {
            for y in row..row + patch {
                let start = (y * size + col) * channels;
                patches.extend_from_slice(&image[start..start + patch * channels]);
            }
        }
    }
    patches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_of_a_4_by_4_image_are_its_quarters() {
        let image: Vec<f32> = (0..16).map(|i| i as f32).collect();
        let patches = patchify(&image, 4, 1, 2);
        assert_eq!(patches[..8], [0., 1., 4., 5., 2., 3., 6., 7.]);
    }

    #[test]
    fn dense_and_sparse_models_of_a_seed_start_with_the_same_shared_weights() {
        let sparse = ModelConfig::default();
        let dense = ModelConfig { moe: None, ..sparse.clone() };
        let ((_, dense), (_, sparse)) =
            (Vit::init(&dense, 5).unwrap(), Vit::init(&sparse, 5).unwrap());
        let mut shared = 0;
        for view in dense.layout().views() {
            if let Some(twin) = sparse.layout().find(&view.name) {
                assert_eq!(dense.view(&view.param), sparse.view(&twin.param), "{}", view.name);
                shared += 1;
            }
        }
        // All but the two layers, each kernel and bias, of the MLPs in blocks 1 and 3.
        assert_eq!(shared, dense.layout().views().len() - 2 * 4);
    }

    #[test]
    fn pixels_beyond_the_last_whole_patch_are_not_seen() {
        let image: Vec<f32> = (0..9).map(|i| i as f32).collect();
        assert_eq!(patchify(&image, 3, 1, 2), [0., 1., 3., 4.]);
    }
}
