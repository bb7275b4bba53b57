//! Dense multi-head attention, and the head that pools tokens by attention.

use crate::Result;
use crate::nn::{Init, Initializer, LayerNorm, Linear, Mlp, Mode, dropout};
use sparsely_tensor::{Activation, Param, Var};

/// Added to the variance of a head in qk-norm.
const HEAD_NORM_EPS: f32 = 1e-6;

/// Softmax self-attention with biases; optionally queries and keys are normalised per head.
#[derive(Clone, Debug)]
pub struct MultiHeadAttention {
    /// `[D, 3·D]`: queries, keys, values, each by head.
    pub qkv: Linear,
    /// `[D, D]`.
    pub out: Linear,
    /// Scales `[A]` of queries and keys.
    pub qk_norm: Option<[Param; 2]>,
    /// H.
    pub heads: usize,
}

impl MultiHeadAttention {
    /// Xavier-uniform over D×D for each of the four kernels.
    pub fn init(init: &mut Initializer, name: &str, d: usize, heads: usize, qk_norm: bool) -> Self {
        init.scope(name, |init| MultiHeadAttention {
            qkv: Linear::init(init, "qkv", [d, 3 * d], square(d), Init::Constant(0.0)),
            out: Linear::init(init, "out", [d, d], square(d), Init::Constant(0.0)),
            qk_norm: qk_norm.then(|| head_scales(init, d / heads)),
            heads,
        })
    }

    /// residual + Dropout(MHA(x)): `[B, L, D]` → `[B, L, D]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn forward<'t>(
        &self,
        x_bld: &Var<'t>,
        residual_bld: &Var<'t>,
        rate: f32,
        mode: &mut Mode<'_>,
    ) -> Result<Var<'t>> {
        let qkv = match &self.qk_norm {
            None => self.qkv.rounded(x_bld)?,
            Some([q, k]) => {
                self.qkv.forward(x_bld)?.head_norm(self.heads, &[q, k], HEAD_NORM_EPS)?
            }
        };
        let mixed_bld = qkv.self_attention(self.heads)?;
        if rate == 0.0 || matches!(mode, Mode::Eval) {
            return self.out.activated(&mixed_bld, Activation::Identity, Some(residual_bld));
        }
        Ok(dropout(self.out.forward(&mixed_bld)?, rate, mode)?.add(residual_bld)?)
    }
}

fn square(d: usize) -> Init {
    Init::XavierUniform { fan_in: d, fan_out: d }
}

fn head_scales(init: &mut Initializer, a: usize) -> [Param; 2] {
    ["query_norm", "key_norm"].map(|name| init.vector(name, [a], Init::Constant(1.0)))
}

/// The attention-pool head (`map`): z = MHA(probe, x); y = z + MLP(LN(z)).
#[derive(Clone, Debug)]
pub struct AttentionPool {
    /// The learned query `[1, D]`.
    pub probe: Param,
    /// `[D, D]`.
    pub q: Linear,
    /// `[D, 2·D]`.
    pub kv: Linear,
    /// `[D, D]`.
    pub out: Linear,
    /// Scales `[A]` of queries and keys.
    pub qk_norm: Option<[Param; 2]>,
    /// Of the MLP's input.
    pub norm: LayerNorm,
    /// `[D, F, D]`.
    pub mlp: Mlp,
    /// H.
    pub heads: usize,
}

impl AttentionPool {
    /// Probe and kernels Xavier-uniform.
    pub fn init(
        init: &mut Initializer,
        name: &str,
        [d, f]: [usize; 2],
        heads: usize,
        qk_norm: bool,
    ) -> Self {
        let zero = Init::Constant(0.0);
        init.scope(name, |init| AttentionPool {
            probe: init.vector("probe", [1, d], Init::XavierUniform { fan_in: 1, fan_out: d }),
            q: Linear::init(init, "q", [d, d], square(d), zero),
            kv: Linear::init(init, "kv", [d, 2 * d], square(d), zero),
            out: Linear::init(init, "out", [d, d], square(d), zero),
            qk_norm: qk_norm.then(|| head_scales(init, d / heads)),
            norm: LayerNorm::init(init, "norm", d),
            mlp: Mlp::init(init, "mlp", [d, f], 0.0),
            heads,
        })
    }

    /// `[B, L, D]` → `[B, D]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn forward<'t>(&self, x_bld: &Var<'t>) -> Result<Var<'t>> {
        let [b, _, d] = x_bld.dims("AttentionPool::forward")?;
        let mut q = self.q.forward(&x_bld.tape().param(&self.probe))?; // [1, D]
        let mut kv = self.kv.forward(x_bld)?;
        if let Some([q_scale, k_scale]) = &self.qk_norm {
            q = q.head_norm(self.heads, &[q_scale], HEAD_NORM_EPS)?;
            kv = kv.head_norm(self.heads, &[k_scale], HEAD_NORM_EPS)?;
        }
        let mixed_b1d = q.repeat(b)?.cross_attention(&kv, self.heads)?;
        let z_bd = self.out.forward(&mixed_b1d.reshape([b, d])?)?;
        self.mlp.forward(&self.norm.rounded(&z_bd)?, &z_bd, &mut Mode::Eval)
    }
}
