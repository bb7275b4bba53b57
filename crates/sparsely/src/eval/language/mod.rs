//! What language models do: how well they predict text, which of two texts they find likelier, and text
//! that they write.

mod config;
mod evaluate;
mod generate;
mod likelihood;
mod sample;
mod saved;
mod score;
mod usage;

pub use config::LanguageEvalConfig;
pub use evaluate::{
    BlockLoss, PartLoad, TextEvaluation, evaluate_blocks, evaluate_text, evaluate_usage,
};
pub use generate::{Ending, Generated, Generation, generate};
pub use likelihood::{ScoredText, log_probabilities};
pub use sample::Sampling;
pub use saved::SavedLanguageModel;
pub use score::{Accuracy, Item, ItemScore, Scores, read_items, score};
pub use usage::{HeadUsage, KindUsage, usage_csv};

#[cfg(test)]
mod tests;
