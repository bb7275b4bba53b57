//! Attention: dense, with experts inside heads, with heads as experts.

mod check;
mod choice;
mod config;
mod context;
mod dense;
mod layer;
mod moa;
mod multi_head;
mod positions;
mod projection;
mod router;
mod scene;
mod switch_head;

pub use config::{
    AttentionConfig, DenseAttentionConfig, ExpertProjections, HeadGate, MoaConfig, MoaGate,
    MoaLossWeights, RelativePositions, SwitchHeadConfig,
};
pub use context::{ContextReader, GateContext};
pub(crate) use dense::truncated;
pub use dense::{DenseAttention, LearnedScore};
pub use layer::AttentionLayer;
pub use moa::{Moa, moa_cv_loss, moa_switch_loss};
pub use multi_head::{AttentionPool, MultiHeadAttention};
pub(crate) use positions::sinusoids;
pub use positions::{DistanceKeys, Positions, Sinusoids};
pub use projection::{IntoHeads, OutOfHeads};
pub use router::{HeadRouter, HeadRouters};
pub use scene::{HeadChoices, HeadRouting, KeysValues, Reading, Report, Scene};
pub use switch_head::SwitchHead;
