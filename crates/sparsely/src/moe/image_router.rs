//! Per-image routing: one decision for all tokens of an image and all MoE layers of a model
//! (Mobile V-MoE, arXiv 2309.04354, section 2.1).

use super::group_router::GroupRouter;
use super::router::Learned;
use super::{Dial, ImageInput, MoeConfig, Routing};
use crate::Result;
use crate::nn::{Init, Initializer, Mode};
use sparsely_tensor::{Param, Slab, Var};

/// A router in which each image chooses by itself, routing images instead of tokens.
pub struct ImageRouter {
    input: Input,
    router: GroupRouter,
}

enum Input {
    Mean,
    Cls,
    /// Score of a token `[D, 1]`.
    Pooled(Param),
}

impl ImageRouter {
    /// A fresh router for tokens of width D. The pooled input starts as the mean.
    pub fn init(
        init: &mut Initializer,
        config: &MoeConfig,
        input: ImageInput,
        d: usize,
    ) -> ImageRouter {
        init.scope("image", |init| ImageRouter {
            input: match input {
                ImageInput::Mean => Input::Mean,
                ImageInput::Cls => Input::Cls,
                ImageInput::Pooled => {
                    Input::Pooled(init.kernel("score", [d, 1], Init::Constant(0.0)))
                }
            },
            router: GroupRouter::init(init, config, [d, 1]),
        })
    }

    /// Decides for each image of `[B, L, D]`: the routing of its B·L tokens, with the logits of its images
    /// `[B, E]`.
    ///
    /// # Errors
    /// If the groups do not divide the images, or the router does not have what the dial asks for.
    pub fn route<'t>(
        &self,
        x_bld: &Var<'t>,
        dial: &Dial,
        mode: &mut Mode<'_>,
    ) -> Result<Routing<'t>> {
        let [b, l, d] = x_bld.dims("ImageRouter::route")?;
        let r_b1d = self.input.of(x_bld)?.reshape([b, 1, d])?;
        self.router.route(&r_b1d, dial, mode)?.spread_over(l)
    }

    /// See [`super::router::Router::adapt`].
    pub fn adapt(&self, params: &mut Slab, learned: &Learned<'_>) {
        self.router.adapt(params, learned);
    }
}

impl Input {
    /// `[B, L, D]` → `[B, D]`.
    fn of<'t>(&self, x_bld: &Var<'t>) -> Result<Var<'t>> {
        match self {
            Input::Mean => Ok(x_bld.mean_tokens()?),
            Input::Cls => Ok(x_bld.select_token(0)?),
            Input::Pooled(score) => {
                let [b, l, d] = x_bld.dims("pooled input of the image router")?;
                let x_td = x_bld.reshape([b * l, d])?;
                let score_t1 = x_td.linear_f32(score, None)?;
                Ok(x_td.gather_mix(&score_t1.softmax_columns(l)?, l)?)
            }
        }
    }
}
