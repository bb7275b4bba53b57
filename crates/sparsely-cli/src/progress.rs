//! What a person sees while a run goes on: a bar on a terminal, plain lines elsewhere.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use sparsely::moe::RouterStats;
use sparsely::train::{Beginning, Observer, StepReport};
use std::cell::Cell;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Time between plain lines.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Tells a person.
pub(crate) struct Progress {
    /// What lines begin with, where runs go on beside one another.
    prefix: String,
    bars: MultiProgress,
    bar: Option<ProgressBar>,
    folder: PathBuf,
    step_size: usize,
    unit: &'static str,
    steps: [u64; 2],
    begin: Instant,
    last_line: Instant,
    loss: Option<f64>,
}

impl Progress {
    pub(crate) fn new() -> Progress {
        Progress::of(String::new(), MultiProgress::new())
    }

    /// One of several.
    pub(crate) fn of(prefix: String, bars: MultiProgress) -> Progress {
        let now = Instant::now();
        Progress {
            prefix,
            bars,
            bar: None,
            folder: PathBuf::new(),
            step_size: 0,
            unit: "images",
            steps: [0, 0],
            begin: now,
            last_line: now,
            loss: None,
        }
    }

    /// The run's folder, once it is known.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes the bar, so that what follows stands on lines of its own.
    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn say(&self, line: &str) {
        self.bars.suspend(|| say!("{}{line}", self.prefix));
    }

    fn describe(&self, report: &StepReport) -> String {
        let done = report.step + 1 - self.steps[0];
        let rate = done as f64 * self.step_size as f64 / self.begin.elapsed().as_secs_f64();
        let mut text =
            format!("loss {:.4}  {rate:.0} {}/s", self.loss.unwrap_or(report.loss), self.unit);
        if !report.stats.is_empty() {
            let mean = |of| report.mean(of).unwrap_or(0.0);
            text += &format!("  imbalance {:.2}", mean(RouterStats::imbalance));
            // Not every router tells it.
            if let Some(entropy) = report.mean(RouterStats::entropy).filter(|mean| *mean > 0.0) {
                text += &format!("  entropy {entropy:.2}");
            }
            text += &format!("  dropped {:.1} %", 100.0 * mean(RouterStats::dropped_share));
        }
        text
    }

    fn plain(&mut self, report: &StepReport) {
        let is_last = report.step + 1 == self.steps[1];
        if self.last_line.elapsed() < LINE_EVERY && !is_last {
            return;
        }
        self.last_line = Instant::now();
        let done = (report.step + 1 - self.steps[0]) as f64;
        let left =
            (self.steps[1] - report.step - 1) as f64 * self.begin.elapsed().as_secs_f64() / done;
        self.say(&format!(
            "step {}/{}  {}  {} left",
            report.step + 1,
            self.steps[1],
            self.describe(report),
            indicatif::HumanDuration(Duration::from_secs(left as u64))
        ));
    }
}

impl Observer for Progress {
    fn begin(&mut self, run: &Beginning, folder: &Path, from: u64, to: u64) {
        self.say(&run.data);
        if let Some(notice) = &run.notice {
            eprintln!("sparsely: {notice}");
        }
        self.say(&format!("run {}", folder.display()));
        if from > 0 {
            self.say(&format!("resumed after step {from} of {to}"));
        }
        self.folder = folder.to_path_buf();
        (self.step_size, self.unit) = (run.step_size, run.unit);
        self.steps = [from, to];
        self.begin = Instant::now();
        self.last_line = self.begin;
        if std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template(
                "{prefix}{wide_bar} step {pos}/{len}  {msg}  {eta} left",
            );
            let bar = self.bars.add(ProgressBar::new(to).with_position(from));
            bar.set_prefix(self.prefix.clone());
            self.bar = Some(bar.with_style(style.expect("a template of our own")));
        }
    }

    fn step(&mut self, report: &StepReport) {
        // A mean over about the last twenty steps: single batches jump.
        self.loss = Some(self.loss.map_or(report.loss, |loss| 0.95 * loss + 0.05 * report.loss));
        match &self.bar {
            Some(bar) => {
                bar.set_message(self.describe(report));
                bar.set_position(report.step + 1);
            }
            None => self.plain(report),
        }
    }

    fn validated(&mut self, step: u64, found: &str, is_best: bool) {
        if self.bar.is_none() && !is_best && step != self.steps[1] {
            return;
        }
        self.say(&format!(
            "step {step}  validation {found}{}",
            if is_best { "  (best so far, saved)" } else { "" }
        ));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Tells of a known number of steps on stderr, so that stdout is the answer alone.
pub(crate) struct Steps {
    bar: Option<ProgressBar>,
    count: u64,
    last_line: Cell<Instant>,
}

impl Steps {
    pub(crate) fn new(count: u64) -> Steps {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{wide_bar} {pos}/{len}  {msg}  {elapsed}");
            let bar = ProgressBar::new(count).with_style(style.expect("a template of our own"));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Steps { bar, count, last_line: Cell::new(Instant::now()) }
    }

    /// Before a step, with `done` behind it.
    pub(crate) fn at(&self, done: u64, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(what.to_string());
            bar.set_position(done);
        } else if self.last_line.get().elapsed() >= LINE_EVERY {
            self.last_line.set(Instant::now());
            eprintln!("{done}/{}  {what}", self.count);
        }
    }

    /// Removes the bar.
    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
