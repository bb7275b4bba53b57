//! One training step on text after another. Knows neither files nor clocks.

use crate::Result;
use crate::data::text::Block;
use crate::model::language::{LanguageModel, Memory, RoutedPart, Tokens};
use crate::nn::Mode;
use crate::rng::{Purpose, stream};
use crate::train::{Learner, StepReport, TrainConfig};
use sparsely_tensor::{Slab, Tape};

/// A language model while it learns.
pub struct LanguageTrainer {
    /// The model.
    pub model: LanguageModel,
    /// Its parameters.
    pub learner: Learner,
    /// What the next block attends to, if it follows the last one.
    pub memory: Option<Memory>,
    seed: u64,
}

impl LanguageTrainer {
    /// A fresh model for a run of `total_steps`.
    pub fn new(
        (model, params): (LanguageModel, Slab),
        config: TrainConfig,
        seed: u64,
        total_steps: u64,
    ) -> LanguageTrainer {
        let learner = Learner::new(params, config, total_steps);
        LanguageTrainer { model, learner, memory: None, seed }
    }

    /// Learns from one block of each row. The outcome is a function of parameters, moments, memory,
    /// block, seed and `step`, and of nothing else.
    ///
    /// # Errors
    /// If the loss or the gradient is not finite; the parameters are then as before.
    pub fn step(&mut self, step: u64, block: &Block) -> Result<StepReport> {
        let (mut report, parts) = self.differentiate(step, block)?;
        self.learner.update(&mut report)?;
        self.model.adapt(&mut self.learner.params, &parts);
        Ok(report)
    }

    fn differentiate(&mut self, step: u64, block: &Block) -> Result<(StepReport, Vec<RoutedPart>)> {
        let Learner { params, grads, pool, config, .. } = &mut self.learner;
        grads.values_mut().fill(0.0);
        let tape = Tape::recording(params, pool);
        let mut rng = stream(self.seed, Purpose::Model, step);
        let tokens = Tokens { ids: &block.inputs, batch: config.batch_size };
        let memory = self.memory.as_ref().filter(|_| !block.is_first);
        let output = self.model.forward(&tape, tokens, memory, &mut Mode::Train(&mut rng))?;
        let task = output.logits_tv.token_cross_entropy(&block.targets)?;
        let task_loss = f64::from(task.values()[0]);
        let mut terms = output.losses;
        terms.push((task, 1.0));
        let loss = tape.weighted_sum(&terms)?;
        tape.backward(&loss, grads)?;
        self.memory = output.memory;
        let report = StepReport {
            step,
            loss: f64::from(loss.values()[0]),
            task_loss,
            router_loss: None,
            lr: f64::NAN,
            grad_norm: f64::NAN,
            stats: output.stats.iter().map(|part| (part.block, part.stats.clone())).collect(),
        };
        Ok((report, output.stats))
    }
}
