//! Dense attention with relative positions: the baselines of SwitchHead's paper.

use super::positions::Positions;
use super::scene::{KeysValues, Scene};
use super::{DenseAttentionConfig, RelativePositions};
use crate::Result;
use crate::nn::{Init, Initializer};
use sparsely_tensor::{Activation, Param, Var};

/// H dense heads.
#[derive(Clone, Debug)]
pub struct DenseAttention {
    /// `[D, H·A]`.
    pub queries: Param,
    /// `[D, H·A]`.
    pub keys: Param,
    /// `[D, H·A]`.
    pub values: Param,
    /// `[H·A, D]`.
    pub outputs: Param,
    /// Where keys are.
    pub positions: Positions,
    /// Of Transformer-XL.
    pub learned: Option<LearnedScore>,
    head_width: usize,
}

/// score = ((q + u)·k + (q + v)·k_pos) · scale (Dai et al. 2019, arXiv 1901.02860), with a learned scale.
#[derive(Clone, Debug)]
pub struct LearnedScore {
    /// u `[H·A]`.
    pub content_bias: Param,
    /// v `[H·A]`.
    pub distance_bias: Param,
    /// `[1]`.
    pub scale: Param,
}

impl DenseAttention {
    /// Fresh, for width D in a model of `depth` layers: truncated normals of standard deviation
    /// exactly √(2 / (depth·fan_in)), biases 0, scale 1/√A.
    pub fn init(
        init: &mut Initializer,
        config: &DenseAttentionConfig,
        [d, depth]: [usize; 2],
    ) -> DenseAttention {
        let &DenseAttentionConfig { heads, head_width: a, positions } = config;
        let width = heads * a;
        let kernel = |fan_in: usize| truncated(depth, fan_in);
        let learned = positions == RelativePositions::TransformerXl;
        DenseAttention {
            queries: init.kernel("queries", [d, width], kernel(d)),
            keys: init.kernel("keys", [d, width], kernel(d)),
            values: init.kernel("values", [d, width], kernel(d)),
            outputs: init.kernel("outputs", [width, d], kernel(width)),
            positions: Positions::init(init, positions, [d, width, a], kernel(d)),
            learned: learned.then(|| LearnedScore {
                content_bias: init.vector("content_bias", [width], Init::Constant(0.0)),
                distance_bias: init.vector("distance_bias", [width], Init::Constant(0.0)),
                scale: init.vector("scale", [1], Init::Constant(1.0 / (a as f32).sqrt())),
            }),
            head_width: a,
        }
    }

    /// Keys and values of `[B, L, D]`, the first at place `first`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn source<'t>(&self, x: &Var<'t>, first: usize) -> Result<KeysValues<'t>> {
        KeysValues::dense(x, [&self.keys, &self.values], &self.positions, first)
    }

    /// Queries of `[B, Q, D]` over a source: `[B, Q, D]`, plus the residual.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn attend<'t>(
        &self,
        x: &Var<'t>,
        source: &KeysValues<'t>,
        scene: &Scene<'_, 't>,
        residual: Option<&Var<'t>>,
    ) -> Result<Var<'t>> {
        let queries = x.linear(Activation::Identity, &self.queries, None, None)?;
        let a = self.head_width;
        let (pair, scale) = match &self.learned {
            Some(learned) => (learned.queries(&queries)?, 1.0),
            None => ([queries.clone(), queries], 1.0 / (a as f32).sqrt()),
        };
        let mixed = scene.attend(&self.positions, pair, source, (a, scale))?;
        Ok(mixed.linear(Activation::Identity, &self.outputs, None, residual)?)
    }
}

impl LearnedScore {
    /// (q + u) · scale and (q + v) · scale.
    fn queries<'t>(&self, queries: &Var<'t>) -> Result<[Var<'t>; 2]> {
        let shape = queries.shape();
        let rows = queries.reshape([shape.rows(), 1, shape.width()])?;
        let biased = |bias: &Param| -> Result<Var<'t>> {
            Ok(rows.add_positions(bias)?.scaled(&self.scale)?.reshape(shape)?)
        };
        Ok([biased(&self.content_bias)?, biased(&self.distance_bias)?])
    }
}

/// The reference's dense layers.
pub(crate) fn truncated(depth: usize, fan_in: usize) -> Init {
    Init::TruncatedExactly { std: (2.0 / (depth as f32 * fan_in as f32)).sqrt() }
}
