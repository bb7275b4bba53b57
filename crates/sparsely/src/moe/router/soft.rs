//! Soft MoE (arXiv 2308.00951): each expert computes slots, and a slot is a mixture of all tokens of
//! a group. Nothing is dropped, nothing is chosen, and there is no auxiliary loss.

use super::affinity::with_noise;
use super::config::{SoftConfig, SoftMixing};
use super::{RouteSettings, Router, columns_of};
use crate::moe::stats::softmax_entropy_sum;
use crate::moe::{Mixing, RouterStats, Routing};
use crate::nn::{Init, Initializer, Mode};
use crate::{Error, Result};
use sparsely_tensor::{Param, RowGroups, Var};

/// Added to the squared norms of tokens and slots.
const NORM_EPS: f32 = 1e-6;

/// Dispatch D = softmax over tokens and combine W = softmax over slots of scale · cosine(x, μ).
pub struct Soft {
    /// `[D, E, P]`.
    mu: Param,
    /// `[1]`.
    scale: Param,
    mixing: SoftMixing,
    noise_std: f32,
    /// E, P.
    extents: [usize; 2],
}

impl Soft {
    /// μ LeCun-normal with a fan-in of D·E, the scale 1.
    pub(super) fn init(init: &mut Initializer, config: SoftConfig, [d, e, p]: [usize; 3]) -> Soft {
        let mu = Init::LecunNormal { fan_in: d * e };
        Soft {
            mu: init.kernel("mu", [d, e, p], mu),
            scale: init.vector("scale", [1], Init::Constant(1.0)),
            mixing: config.mixing,
            noise_std: config.noise_std,
            extents: [e, p],
        }
    }

    /// The slots of each expert in all groups: expert e has rows g·E·P + e·P … of each group g.
    fn rows([e, p]: [usize; 2], groups: usize) -> Result<RowGroups> {
        let of_expert = |expert: usize| -> Vec<u32> {
            let first = |group: usize| (group * e + expert) * p;
            (0..groups)
                .flat_map(|group| first(group)..first(group) + p)
                .map(|row| row as u32)
                .collect()
        };
        Ok(RowGroups::new(groups * e * p, &(0..e).map(of_expert).collect::<Vec<_>>())?)
    }

    fn stats([e, p]: [usize; 2], [tokens, groups]: [usize; 2]) -> RouterStats {
        let slots_e = vec![(groups * p) as u64; e];
        let seats = slots_e.iter().sum();
        let (asked_e, seated_e) = (slots_e.clone(), slots_e);
        RouterStats { asked_e, seated_e, tokens: tokens as u64, seats, ..RouterStats::default() }
    }
}

impl Router for Soft {
    fn route<'t>(
        &self,
        x_td: &Var<'t>,
        settings: &RouteSettings,
        mode: &mut Mode<'_>,
    ) -> Result<Routing<'t>> {
        let [t, _] = x_td.dims("Soft::route")?;
        let [e, p] = self.extents;
        let (e, s) = (settings.dial.num_experts(e), settings.group_tokens);
        let (n, groups) = (e * p, t / s);
        let (rows, mut stats) = (Soft::rows([e, p], groups)?, Soft::stats([e, p], [t, groups]));
        if self.mixing == SoftMixing::Identity {
            return identity(x_td, rows, stats, [s, n]);
        }
        let logits_tn = x_td.cosine_logits(&self.mu, &self.scale, NORM_EPS)?;
        let logits_tn = columns_of(logits_tn, settings.dial.experts.as_ref(), p)?;
        let logits_tn = with_noise(&logits_tn, self.noise_std, mode)?.unwrap_or(logits_tn);
        let uniform = |share: usize| x_td.tape().constant([t, n], &vec![1.0 / share as f32; t * n]);
        let dispatch_tp = match self.mixing {
            SoftMixing::UniformDispatch | SoftMixing::Uniform => uniform(s)?,
            _ => logits_tn.softmax_columns(s)?,
        };
        let combine_tp = match self.mixing {
            SoftMixing::UniformCombine | SoftMixing::Uniform => uniform(n)?,
            _ => logits_tn.softmax(),
        };
        stats.entropy_sum = match self.mixing {
            SoftMixing::UniformCombine | SoftMixing::Uniform => t as f64 * (n as f64).ln(),
            _ => softmax_entropy_sum(logits_tn.values(), combine_tp.values(), n),
        };
        let mixing = Mixing::Slots { dispatch_tp, combine_tp, group_tokens: s };
        Ok(Routing::new(rows, mixing, stats))
    }
}

/// Slot i is token i of its group.
fn identity<'t>(
    x_td: &Var<'t>,
    rows: RowGroups,
    stats: RouterStats,
    [s, n]: [usize; 2],
) -> Result<Routing<'t>> {
    if s != n {
        return Err(Error::Argument {
            op: "Soft MoE with identity mixing",
            expected: format!("as many slots as tokens in a group, {s}"),
            got: format!("{n}"),
        });
    }
    let tokens = rows.num_entries();
    let ones_n = x_td.tape().constant([tokens], &vec![1.0; tokens])?;
    Ok(Routing::new(rows, Mixing::Tokens(ones_n), stats))
}
