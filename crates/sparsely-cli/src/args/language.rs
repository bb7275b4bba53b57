//! What can be asked of a language model.

use super::PrecisionArgs;
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct ScoreArgs {
    /// The run's folder
    pub(crate) run: PathBuf,
    /// Questions, one JSON object a line: {"good": …, "bad": …}, or {"context": …, "choices": […],
    /// "answer": i} with "after" for text that follows the choice
    #[arg(long, value_name = "JSONL")]
    pub(crate) pairs: PathBuf,
    #[command(flatten)]
    pub(crate) precision: PrecisionArgs,
    /// A line of JSON for each question too: its log-probabilities in nats
    #[arg(long)]
    pub(crate) each: bool,
    /// One line of JSON instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct GenerateArgs {
    /// The run's folder
    pub(crate) run: PathBuf,
    /// What the text begins with
    #[arg(default_value = "")]
    pub(crate) prompt: String,
    /// What logits are divided by; 0 takes the likeliest token
    #[arg(long, default_value = "1", value_name = "T", allow_negative_numbers = true)]
    pub(crate) temperature: f64,
    /// Draw from the fewest tokens whose probabilities sum to this
    #[arg(long, default_value = "1", value_name = "P", allow_negative_numbers = true)]
    pub(crate) top_p: f64,
    /// Decides the draws
    #[arg(long, default_value = "0")]
    pub(crate) seed: u64,
    /// Most tokens that are written
    #[arg(long, default_value = "200", value_name = "N")]
    pub(crate) max_tokens: usize,
    #[command(flatten)]
    pub(crate) precision: PrecisionArgs,
    /// A text that ends the answer and is no part of it (may be repeated)
    #[arg(long = "stop", value_name = "STRING", allow_hyphen_values = true)]
    pub(crate) stops: Vec<String>,
}
