//! What can be typed about super-classes and models of one expert an image.

use clap::{Args as ClapArgs, ValueEnum};
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// How classes are grouped.
#[derive(ClapArgs)]
pub(crate) struct GroupingArgs {
    /// Groups: one for each expert
    #[arg(long, value_name = "N", default_value = "10")]
    pub(crate) experts: NonZeroUsize,
    /// By what classes are grouped
    #[arg(long, default_value = "spectral")]
    pub(crate) method: MethodArg,
    /// Make the groups' sizes differ by at most 1
    #[arg(long)]
    pub(crate) balanced: bool,
    /// Add up probabilities instead of counting mistakes: for few images, or a model that makes few
    #[arg(long)]
    pub(crate) soft: bool,
    /// Random groups of equal sizes instead, as a control
    #[arg(long, conflicts_with_all = ["method", "balanced"])]
    pub(crate) random: bool,
    /// Groups by another label of the images, such as coarse_label: a column of their Parquet files
    #[arg(long, value_name = "COLUMN",
          conflicts_with_all = ["experts", "method", "balanced", "random"])]
    pub(crate) from_labels: Option<String>,
    /// Sizes of the random groups: those of this file
    #[arg(long, value_name = "JSON", requires = "random")]
    pub(crate) like: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum MethodArg {
    /// By the first eigenvectors of the graph of confusions
    Spectral,
    /// By communities of large modularity
    Modularity,
}

#[derive(ClapArgs)]
pub(crate) struct SuperclassesArgs {
    /// The folder of a run with a dense model, whose confusions are looked at
    pub(crate) run: PathBuf,
    #[command(flatten)]
    pub(crate) grouping: GroupingArgs,
    /// Decides starts and random groups [default: the run's]
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Where the groups go; their picture goes beside it [default: RUN/superclasses.json]
    #[arg(long, value_name = "JSON")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(ClapArgs)]
pub(crate) struct MobileArgs {
    /// A folder with IDX files, Parquet files, or one sub-folder of images per class; or `digits`
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data: String,
    /// Blocks, width and patch of both models
    #[arg(long, default_value = "6x96/4")]
    pub(crate) size: String,
    #[command(flatten)]
    pub(crate) grouping: GroupingArgs,
    /// Where all of it goes, and is gone on with
    #[arg(long, value_name = "FOLDER", default_value = "runs/mobile")]
    pub(crate) out: PathBuf,
    /// Change a setting of both models, such as train.length.n=60 (may be repeated)
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub(crate) sets: Vec<String>,
    /// Change a setting of the sparse model alone, such as model.moe.placement.n=3 (may be repeated)
    #[arg(long = "set-sparse", value_name = "PATH=VALUE")]
    pub(crate) sparse_sets: Vec<String>,
    /// Decides everything that is drawn
    #[arg(long, default_value = "0")]
    pub(crate) seed: u64,
}
