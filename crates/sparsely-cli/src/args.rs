//! What can be typed.

mod cost;
mod language;
mod mobile;
mod precision;
mod sweep;

pub(crate) use cost::{ClusterArgs, CostArgs, PaperArg};
pub(crate) use language::{GenerateArgs, ScoreArgs};
pub(crate) use mobile::{GroupingArgs, MethodArg, MobileArgs, SuperclassesArgs};
pub(crate) use precision::PrecisionArgs;
pub(crate) use sweep::{BudgetArgs, SweepArgs};

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum, value_parser};
use sparsely::moe::{Capacity, Dial, Group, Priority, Subset};
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Sparse mixture-of-experts transformers, trained and run on the machine you have.
#[derive(Parser)]
#[command(name = "sparsely", version, arg_required_else_help = true)]
pub(crate) struct Args {
    /// Threads to compute with [default: all cores]
    #[arg(long, global = true, value_name = "N", value_parser = value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Train a model, or go on with a run
    Train(TrainArgs),
    /// Group the classes that a run's model takes for one another, on images held out of its training
    Superclasses(SuperclassesArgs),
    /// Dense model, super-classes, sparse model with one expert for each: in one go, or go on with it
    Mobile(MobileArgs),
    /// Evaluate a run's best model
    Eval(EvalArgs),
    /// Name what is in images
    Predict(PredictArgs),
    /// How often a language model finds the right one of several texts likeliest
    Score(ScoreArgs),
    /// Write on from a prompt with a language model
    Generate(GenerateArgs),
    /// Logits of an array of images, for comparison with other implementations: routed in the
    /// groups and with the capacity that the model was trained with, unless flags say otherwise
    Logits(LogitsArgs),
    /// What a model costs, without running it: parameters, FLOPs, memory, bytes; or a plan to train
    /// it on many devices
    Cost(CostArgs),
    /// Make a run folder of another program's model
    Import(ImportArgs),
    /// Write a run's model for another program
    Export(ExportArgs),
    /// Measure this machine
    Bench(BenchArgs),
    /// Compare fairly: run a study, or go on with it; without a name, list what there is
    Study(StudyArgs),
}

#[derive(ClapArgs)]
pub(crate) struct TrainArgs {
    /// What to train: `digits`, or `vit-`, `vmoe-`, `soft-` or `mobile-` and a size such as `ti4`, `s32` or
    /// `6x96/4`; or a language model such as `switchhead-1m` (docs/language.md lists them)
    #[arg(long, default_value = "digits", conflicts_with = "resume")]
    pub(crate) preset: String,
    /// `digits`, or a folder: IDX files, Parquet files, or one sub-folder of images per class. For language
    /// models `austen`, a text file, a Parquet file, or a folder of either
    #[arg(long, value_name = "PATH", conflicts_with = "resume")]
    pub(crate) data: Option<String>,
    /// Where the run goes [default: the next number in runs/]
    #[arg(long, value_name = "FOLDER", conflicts_with = "resume")]
    pub(crate) out: Option<PathBuf>,
    /// Change a setting, such as model.moe.num_experts=8 (may be repeated)
    #[arg(long = "set", value_name = "PATH=VALUE", conflicts_with = "resume")]
    pub(crate) sets: Vec<String>,
    /// Decides everything that is drawn
    #[arg(long, conflicts_with = "resume")]
    pub(crate) seed: Option<u64>,
    #[command(flatten)]
    pub(crate) precision: PrecisionArgs,
    /// Teach the router of whole images these super-classes, one for each expert
    #[arg(long, value_name = "JSON", conflicts_with = "resume")]
    pub(crate) superclasses: Option<PathBuf>,
    /// Teach it another label of the images, one for each expert, such as coarse_label: a column of their Parquet
    /// files
    #[arg(long, value_name = "COLUMN", conflicts_with_all = ["resume", "superclasses"])]
    pub(crate) superclass_labels: Option<String>,
    /// Go on with the run in this folder
    #[arg(long, value_name = "RUN", conflicts_with = "precision")]
    pub(crate) resume: Option<PathBuf>,
}

/// Routing that differs from the run's own; each image is routed alone unless `--group` says otherwise.
#[derive(ClapArgs)]
pub(crate) struct DialArgs {
    /// Selected experts per token
    #[arg(long, value_name = "K")]
    k: Option<usize>,
    /// Capacity factor (such as 1.05), `exact:SEATS` or `unlimited`
    #[arg(long, value_parser = parse_capacity, allow_negative_numbers = true)]
    capacity: Option<Capacity>,
    /// Which tokens are seated first
    #[arg(long)]
    priority: Option<PriorityArg>,
    /// Images that are routed together (such as 8), or `tokens:N`
    #[arg(long, value_parser = parse_group)]
    group: Option<Group>,
    /// Experts that take part, such as 0-3,5
    #[arg(long, value_name = "EXPERTS")]
    experts: Option<Subset>,
    /// Blocks whose MoE layer is left out, such as 5 (the first block is 0)
    #[arg(long, value_name = "BLOCKS")]
    skip_moe: Option<Subset>,
}

#[derive(Clone, Copy, ValueEnum)]
enum PriorityArg {
    /// By position in the group
    #[value(alias = "vanilla")]
    Position,
    /// Batch prioritized, by the largest gate
    #[value(alias = "bpr", alias = "max")]
    MaxGate,
    /// Batch prioritized, by the sum of the K gates
    #[value(alias = "sum")]
    SumGates,
    /// By the router's learned score
    Learned,
}

impl DialArgs {
    /// Whether any routing was asked for.
    pub(crate) fn is_empty(&self) -> bool {
        self.asked() == Dial::default()
    }

    /// What was asked for.
    pub(crate) fn asked(&self) -> Dial {
        let priority = self.priority.map(|priority| match priority {
            PriorityArg::Position => Priority::Position,
            PriorityArg::MaxGate => Priority::MaxGate,
            PriorityArg::SumGates => Priority::SumGates,
            PriorityArg::Learned => Priority::Learned,
        });
        Dial {
            num_selected: self.k,
            capacity: self.capacity,
            priority,
            group: self.group,
            experts: self.experts.clone(),
            skip_moe: self.skip_moe.clone(),
        }
    }
}

fn parse_capacity(text: &str) -> Result<Capacity, String> {
    if text == "unlimited" {
        return Ok(Capacity::Unlimited);
    }
    if let Some(seats) = text.strip_prefix("exact:") {
        let seats = seats.parse().ok().filter(|seats| *seats > 0);
        return seats
            .map(|seats| Capacity::Exact { seats })
            .ok_or("exact: needs a whole number of seats, at least 1".into());
    }
    let factor = text.parse().ok().filter(|factor: &f64| factor.is_finite() && *factor > 0.0);
    factor.map(Capacity::factor).ok_or("expected a factor above 0, exact:SEATS or unlimited".into())
}

fn parse_group(text: &str) -> Result<Group, String> {
    let number = |text: &str| text.parse().ok().filter(|n| *n > 0);
    match text.strip_prefix("tokens:") {
        Some(tokens) => number(tokens).map(|n| Group::Tokens { n }),
        None => number(text).map(|n| Group::Images { n }),
    }
    .ok_or("expected a number of images, or tokens:N".into())
}

#[derive(ClapArgs)]
pub(crate) struct EvalArgs {
    /// The run's folder
    pub(crate) run: PathBuf,
    /// Which images [default: test; validation for --sweep]
    #[arg(long)]
    pub(crate) split: Option<SplitArg>,
    /// Another data set with the same classes
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data: Option<String>,
    #[command(flatten)]
    pub(crate) dial: DialArgs,
    #[command(flatten)]
    pub(crate) sweep: SweepArgs,
    #[command(flatten)]
    pub(crate) precision: PrecisionArgs,
    /// Images that are computed together
    #[arg(long, value_name = "N")]
    pub(crate) batch: Option<NonZeroUsize>,
    /// Watts of a busy core, where the processor does not tell its energy [default: the run's, 5]
    #[arg(long, value_name = "WATTS", value_parser = parse_watts)]
    pub(crate) watts_per_core: Option<f64>,
    /// Where to write which experts of each head of a language model read which kinds of tokens
    #[arg(long, value_name = "CSV")]
    pub(crate) usage: Option<PathBuf>,
    /// One line of JSON instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

fn parse_watts(text: &str) -> Result<f64, String> {
    let watts = text.parse().ok().filter(|watts: &f64| watts.is_finite() && *watts > 0.0);
    watts.ok_or("expected a number above 0".into())
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum SplitArg {
    /// Training images
    Train,
    /// Images held out for decisions
    Validation,
    /// Images held out for reports
    Test,
}

#[derive(ClapArgs)]
pub(crate) struct PredictArgs {
    /// The run's folder
    pub(crate) run: PathBuf,
    /// Image files
    #[arg(required = true)]
    pub(crate) images: Vec<PathBuf>,
    /// How many classes to name
    #[arg(long, default_value = "3", value_name = "N")]
    pub(crate) top: NonZeroUsize,
    #[command(flatten)]
    pub(crate) dial: DialArgs,
    #[command(flatten)]
    pub(crate) budget: BudgetArgs,
    #[command(flatten)]
    pub(crate) precision: PrecisionArgs,
    /// Tell on stderr how much of the model was read, and how much memory is resident
    #[arg(long)]
    pub(crate) memory: bool,
    /// One line of JSON per image instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(ClapArgs)]
pub(crate) struct LogitsArgs {
    /// A run's folder, in place of --config and --params
    #[arg(conflicts_with_all = ["config", "params"], required_unless_present_all = ["config", "params"])]
    pub(crate) run: Option<PathBuf>,
    /// The reference's configuration of a model (JSON)
    #[arg(long, value_name = "JSON", requires = "params")]
    pub(crate) config: Option<PathBuf>,
    /// The reference's parameters (npz, safetensors or the prefix of a checkpoint)
    #[arg(long, value_name = "FILE", requires = "config")]
    pub(crate) params: Option<PathBuf>,
    /// Images [B, H, W, C], f32 in [-1, 1] (npy)
    #[arg(long, value_name = "NPY")]
    pub(crate) input: PathBuf,
    /// Where the logits [B, V] go (npy)
    #[arg(long, value_name = "NPY")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) dial: DialArgs,
    #[command(flatten)]
    pub(crate) precision: PrecisionArgs,
}

#[derive(ClapArgs)]
pub(crate) struct ImportArgs {
    #[command(subcommand)]
    pub(crate) format: ImportFormat,
}

#[derive(Subcommand)]
pub(crate) enum ImportFormat {
    /// V-MoE, Soft MoE and ViT models of google-research (docs/checkpoints.md)
    Vmoe(ImportVmoeArgs),
}

#[derive(ClapArgs)]
pub(crate) struct ImportVmoeArgs {
    /// What PREFIX.index and PREFIX.data-00000-of-00001 begin with, or a flat .npz
    #[arg(value_name = "PREFIX")]
    pub(crate) source: PathBuf,
    /// The reference's configuration of the model (JSON)
    #[arg(long, value_name = "JSON")]
    pub(crate) config: PathBuf,
    /// Where the run goes; it must not exist
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: PathBuf,
    /// Height and width of the images; learned positions are resized [default: what they are for]
    #[arg(long, value_name = "PIXELS")]
    pub(crate) image_size: Option<usize>,
    /// One name for each class, one a line [default: those of --data, or `class 0`, `class 1`, …]
    #[arg(long, value_name = "FILE")]
    pub(crate) class_names: Option<PathBuf>,
    /// The images that `eval` takes unless it is told others
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data: Option<String>,
    /// What the model was trained with: decides the loss and the probabilities that are told
    #[arg(long, default_value = "softmax")]
    pub(crate) loss: LossArg,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum LossArg {
    /// One class an image
    Softmax,
    /// Each class yes or no, as V-MoE is pre-trained
    Sigmoid,
}

#[derive(ClapArgs)]
pub(crate) struct ExportArgs {
    #[command(subcommand)]
    pub(crate) format: ExportFormat,
}

#[derive(Subcommand)]
pub(crate) enum ExportFormat {
    /// A checkpoint that google-research/vmoe restores, with its configuration (PREFIX.json)
    Vmoe(ExportVmoeArgs),
}

#[derive(ClapArgs)]
pub(crate) struct ExportVmoeArgs {
    /// The run's folder
    pub(crate) run: PathBuf,
    /// What the files begin with; none of them may exist
    #[arg(required_unless_present = "npz")]
    pub(crate) prefix: Option<PathBuf>,
    /// Files that the arrays are spread over
    #[arg(long, default_value = "1", value_name = "N")]
    pub(crate) shards: NonZeroUsize,
    /// One flat file for NumPy, with the reference's names
    #[arg(long, value_name = "FILE")]
    pub(crate) npz: Option<PathBuf>,
}

#[derive(ClapArgs)]
pub(crate) struct BenchArgs {
    /// What to measure
    #[arg(default_value = "train")]
    pub(crate) what: BenchKind,
    /// Only this model, router, size or kind of product (as printed); decode: any language preset; moe: `experts` or `dropless`
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// Images of a step, 64 if not told; sequences of attention, 4 if not told
    #[arg(long, value_name = "N")]
    pub(crate) batch: Option<NonZeroUsize>,
    /// infer: measure this run's model alone, in this process, at --batch
    #[arg(long, value_name = "RUN")]
    pub(crate) run: Option<PathBuf>,
    /// infer, growth: put their JSON lines and picture here; infer keeps what was measured before of other sizes and precisions
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) precision: PrecisionArgs,
    /// Steps or tokens that are timed, after some that are not
    #[arg(long, default_value = "12", value_name = "N")]
    pub(crate) steps: NonZeroUsize,
    /// JSON lines instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchKind {
    /// Whole training steps
    Train,
    /// Routers alone, and within a MoE layer
    Routers,
    /// The matrix product alone
    Gemm,
    /// Experts beside a dense MLP of as many rows
    Moe,
    /// Time and memory of inference: dense, an expert an image, an expert a token, at equal FLOPs
    Infer,
    /// Attention with experts against dense attention
    Attention,
    /// Token after token of a language model, beside the memory's bandwidth
    Decode,
    /// Time against tokens, blocks, threads and experts, beside the ideal
    Growth,
}

impl BenchArgs {
    /// The batch that is asked for, or `usual`.
    pub(crate) fn batch_or(&self, usual: usize) -> usize {
        self.batch.map_or(usual, NonZeroUsize::get)
    }
}

#[derive(ClapArgs)]
pub(crate) struct StudyArgs {
    /// Which study
    pub(crate) name: Option<String>,
    /// Another place of its data: a folder, `digits`, or `austen` for text
    #[arg(long, value_name = "FOLDER")]
    pub(crate) data: Option<String>,
    /// Where it goes, and is gone on with [default: studies/NAME]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) out: Option<PathBuf>,
    /// Make it small enough for this time, such as 60m, and say what that took away
    #[arg(long, value_name = "TIME")]
    pub(crate) budget: Option<String>,
    /// Tell arms, their cost and the expected time; run and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Watts of a busy core, where the processor does not tell its energy [default: 5]
    #[arg(long, value_name = "WATTS", value_parser = parse_watts)]
    pub(crate) watts_per_core: Option<f64>,
}
