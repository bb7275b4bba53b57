//! What can be asked of `sparsely cost`.

use super::DialArgs;
use clap::{Args, ValueEnum};

/// What is said about one model, and goes with no table of many.
const MODEL: [&str; 11] = [
    "model",
    "sets",
    "batch",
    "resolution",
    "devices",
    "k",
    "capacity",
    "priority",
    "group",
    "experts",
    "skip_moe",
];

#[derive(Args)]
pub(crate) struct CostArgs {
    /// A preset (`digits`, `vit-SIZE`, `vmoe-SIZE`, `soft-SIZE`, `mobile-SIZE`, `vmoe-15b`) or the folder of a run
    #[arg(value_name = "PRESET|RUN", required_unless_present = "paper")]
    pub(crate) model: Option<String>,
    /// Every model that a paper tells the cost of, counted
    #[arg(long, conflicts_with_all = MODEL)]
    pub(crate) paper: Option<PaperArg>,
    /// Change a setting, such as model.moe.num_experts=32 (may be repeated)
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub(crate) sets: Vec<String>,
    /// Images of a step or call, on all devices together [default: the batch that the preset or run
    /// trains with, on each device]
    #[arg(long, value_name = "N")]
    pub(crate) batch: Option<usize>,
    /// Height and width of the images
    #[arg(long, value_name = "PIXELS")]
    pub(crate) resolution: Option<usize>,
    #[command(flatten)]
    pub(crate) dial: DialArgs,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// One line of JSON instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// Plans expert- and data-parallel training instead; all rates are of one device.
#[derive(Args)]
pub(crate) struct ClusterArgs {
    /// Plan training on so many devices
    #[arg(long, value_name = "N", requires_all = ["memory", "link", "flops"])]
    pub(crate) devices: Option<usize>,
    /// Memory of a device, such as 80GB
    #[arg(long, value_name = "BYTES", requires = "devices")]
    pub(crate) memory: Option<String>,
    /// What a device sends to others, such as 50GB/s
    #[arg(long, value_name = "BYTES/S", requires = "devices")]
    pub(crate) link: Option<String>,
    /// What a device computes, such as 400T
    #[arg(long, value_name = "FLOPS", requires = "devices")]
    pub(crate) flops: Option<String>,
    /// What a device reads and writes of its own memory
    #[arg(long, value_name = "BYTES/S", default_value = "2TB/s", requires = "devices")]
    pub(crate) bandwidth: String,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum PaperArg {
    /// V-MoE and Soft MoE: parameters
    Vmoe,
    /// SwitchHead and its baselines: parameters, MACs and memory of attention
    Switchhead,
}
