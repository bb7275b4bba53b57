//! A whole run: steps, validation, checkpoints, the final evaluation.

use super::task::{Beginning, Task};
use super::{Interval, Learner, StepReport};
use crate::checkpoint::{MetricsWriter, RunFolder, State};
use crate::eval::{Evaluation, with_arrays};
use crate::{Error, Result};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Prefixes of the slabs in a saved state.
const PARAMS: &str = "params/";
const FIRST: &str = "first/";
const SECOND: &str = "second/";

/// Whom a run tells what it does.
pub trait Observer {
    /// Before the first step.
    fn begin(&mut self, _run: &Beginning, _folder: &Path, _from: u64, _to: u64) {}
    /// After each step.
    fn step(&mut self, _report: &StepReport) {}
    /// After each look at the validation data: what it found, and whether it was the best so far.
    fn validated(&mut self, _step: u64, _found: &str, _is_best: bool) {}
}

/// How a run ended.
#[derive(Clone, Debug)]
pub enum Outcome<E = Evaluation> {
    /// With all its steps; the best model by validation, on the test data.
    Finished(E),
    /// Early, because it was asked to, with its state saved after that many steps.
    Stopped {
        /// Steps that are done.
        step: u64,
    },
}

/// Bytes of memory of this machine.
pub(super) fn machine_memory() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// A task, and how far it has come.
pub(super) struct Run<T: Task> {
    task: T,
    total_steps: u64,
    best: Option<T::Best>,
}

impl<T: Task> Run<T> {
    pub(super) fn new(task: T) -> Run<T> {
        let total_steps = task.train().length.steps(task.steps_per_epoch());
        Run { task, total_steps, best: None }
    }

    pub(super) fn train(
        mut self,
        folder: &RunFolder,
        state: Option<State>,
        (stop, observer): (&AtomicBool, &mut dyn Observer),
    ) -> Result<Outcome<T::Evaluation>> {
        let from = state.as_ref().map_or(0, |state| state.step);
        if let Some(state) = state {
            self.restore(&state, folder)?;
        }
        folder.truncate_metrics_after(from)?;
        let mut metrics = folder.metrics()?;
        observer.begin(&self.task.beginning(), folder.path(), from, self.total_steps);
        let config = self.task.train().clone();
        let validate_steps = config.validate_every.steps(self.task.steps_per_epoch());
        let mut last_save = Instant::now();
        if from < self.total_steps && stop.load(Ordering::Relaxed) {
            return Ok(Outcome::Stopped { step: from });
        }
        for (step, batch) in (from..self.total_steps).zip(self.task.batches(from, self.total_steps))
        {
            let begin = Instant::now();
            let report = self.task.step(step, &batch?)?;
            let done = step + 1;
            if done % config.log_steps == 0 || done == self.total_steps {
                let line = self.task.line(&report, begin.elapsed().as_secs_f64());
                metrics.append(&at_step(done, line))?;
            }
            observer.step(&report);
            if done % validate_steps == 0 || done == self.total_steps {
                self.validate(done, folder, (&mut metrics, observer))?;
            }
            let stops = stop.load(Ordering::Relaxed) && done < self.total_steps;
            let due = match config.checkpoint_every {
                Interval::Steps { n } => done % n == 0,
                Interval::Seconds { n } => last_save.elapsed().as_secs() >= n,
            };
            if due || stops || done == self.total_steps {
                self.save_state(done, folder)?;
                last_save = Instant::now();
            }
            if stops {
                return Ok(Outcome::Stopped { step: done });
            }
        }
        let (evaluation, line) = self.task.finish(folder)?;
        // A run that had finished before has its last line.
        if from < self.total_steps {
            metrics.append(&at_step(self.total_steps, line))?;
        }
        Ok(Outcome::Finished(evaluation))
    }

    fn validate(
        &mut self,
        step: u64,
        folder: &RunFolder,
        (metrics, observer): (&mut MetricsWriter, &mut dyn Observer),
    ) -> Result<()> {
        let evaluation = self.task.validate()?;
        let now = self.task.best(&evaluation, step);
        let is_best = self.task.is_best(&evaluation, &now, self.best.as_ref());
        if is_best {
            self.best = Some(now);
            self.task.save_model(step, folder)?;
        }
        metrics.append(&at_step(step, self.task.validation_line(&evaluation, is_best)))?;
        observer.validated(step, &self.task.summary(&evaluation), is_best);
        Ok(())
    }

    fn save_state(&self, step: u64, folder: &RunFolder) -> Result<()> {
        let Learner { params, moments, .. } = self.task.learner();
        let slabs = [(PARAMS, params), (FIRST, &moments.first), (SECOND, &moments.second)];
        with_arrays(&slabs, |learned| {
            self.task.with_carried(&mut |carried| {
                folder.save_state(step, &[learned, carried].concat(), json!({ "best": self.best }))
            })
        })
    }

    fn restore(&mut self, state: &State, folder: &RunFolder) -> Result<()> {
        let damaged =
            |got: String| Error::format(&folder.path().join("state"), "the state of this run", got);
        self.best = serde_json::from_value(state.extra["best"].clone())
            .map_err(|e| damaged(e.to_string()))?;
        let Learner { params, moments, .. } = self.task.learner_mut();
        for (prefix, slab) in
            [(PARAMS, params), (FIRST, &mut moments.first), (SECOND, &mut moments.second)]
        {
            for view in slab.layout().clone().views() {
                let name = format!("{prefix}{}", view.name);
                let array =
                    state.arrays.get(&name).ok_or_else(|| damaged(format!("none of `{name}`")))?;
                let target = slab.view_mut(&view.param);
                if array.values.len() != target.len() {
                    return Err(damaged(format!("`{name}` of shape {:?}", array.shape)));
                }
                target.copy_from_slice(&array.values);
            }
        }
        self.task.restore_carried(state).map_err(damaged)
    }
}

fn at_step(step: u64, mut line: Value) -> Value {
    line["step"] = step.into();
    line
}
