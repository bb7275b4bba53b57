//! Learning rates by step. Step 0 is the first, so a warm-up's first rate is 0.

use serde::{Deserialize, Serialize};

/// A linear warm-up from 0, then a decay.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// The rate at the end of the warm-up.
    pub lr_peak: f64,
    /// Steps of the warm-up.
    pub warmup_steps: u64,
    /// What follows.
    pub decay: Decay,
}

/// How the rate goes on after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Decay {
    /// It stays.
    Constant,
    /// A line to `lr_end` at the last step.
    Linear {
        /// The last rate.
        lr_end: f64,
    },
    /// Half a cosine to `lr_end` at the last step.
    Cosine {
        /// The last rate.
        lr_end: f64,
    },
    /// (peak − end) · (1 − progress)^power + end.
    Polynomial {
        /// The last rate.
        lr_end: f64,
        /// The exponent.
        power: f64,
    },
    /// peak · rate^(steps since the warm-up / `transition_steps`).
    Exponential {
        /// Factor for each `transition_steps`.
        rate: f64,
        /// See `rate`.
        transition_steps: u64,
    },
    /// peak · √(τ / (steps since the warm-up + τ)), then a line to 0 over the last steps.
    Rsqrt {
        /// τ.
        timescale: u64,
        /// Steps of the line.
        cooldown_steps: u64,
    },
}

impl Schedule {
    /// The learning rate at `step` of `total_steps`.
    pub fn at(&self, step: u64, total_steps: u64) -> f64 {
        if step < self.warmup_steps {
            return self.lr_peak * step as f64 / self.warmup_steps as f64;
        }
        let since = (step - self.warmup_steps) as f64;
        let span = total_steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let left = 1.0 - (since / span).min(1.0);
        let between = |lr_end: f64, share: f64| lr_end + (self.lr_peak - lr_end) * share;
        match self.decay {
            Decay::Constant => self.lr_peak,
            Decay::Linear { lr_end } => between(lr_end, left),
            Decay::Cosine { lr_end } => {
                between(lr_end, 0.5 * (1.0 - (std::f64::consts::PI * left).cos()))
            }
            Decay::Polynomial { lr_end, power } => between(lr_end, left.powf(power)),
            Decay::Exponential { rate, transition_steps } => {
                self.lr_peak * rate.powf(since / transition_steps as f64)
            }
            Decay::Rsqrt { timescale, cooldown_steps } => {
                let rsqrt = |since: f64| {
                    self.lr_peak * (timescale as f64 / (since + timescale as f64)).sqrt()
                };
                let cooldown_start = total_steps.saturating_sub(cooldown_steps);
                if step < cooldown_start || cooldown_steps == 0 {
                    return rsqrt(since);
                }
                let top = rsqrt(cooldown_start.saturating_sub(self.warmup_steps) as f64);
                top * total_steps.saturating_sub(step) as f64 / cooldown_steps as f64
            }
        }
    }

    /// What cannot work, one sentence each.
    pub fn problems(&self) -> Vec<String> {
        let rates = match self.decay {
            Decay::Constant | Decay::Rsqrt { .. } => vec![self.lr_peak],
            Decay::Linear { lr_end } | Decay::Cosine { lr_end } => vec![self.lr_peak, lr_end],
            Decay::Polynomial { lr_end, power } => vec![self.lr_peak, lr_end, power],
            Decay::Exponential { rate, .. } => vec![self.lr_peak, rate],
        };
        let zero_scale = match self.decay {
            Decay::Rsqrt { timescale, .. } => timescale == 0,
            Decay::Exponential { transition_steps, .. } => transition_steps == 0,
            _ => false,
        };
        let mut problems = Vec::new();
        if rates.iter().any(|rate| !(rate.is_finite() && *rate >= 0.0)) {
            problems.push("train.schedule needs finite numbers from 0".into());
        }
        if zero_scale {
            problems.push("train.schedule.decay needs a time scale of at least 1 step".into());
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_decay_is_half_way_at_half_time() {
        let schedule =
            Schedule { lr_peak: 1.0, warmup_steps: 10, decay: Decay::Linear { lr_end: 0.0 } };
        assert_eq!(schedule.at(0, 30), 0.0);
        assert_eq!(schedule.at(5, 30), 0.5);
        assert_eq!(schedule.at(10, 30), 1.0);
        assert_eq!(schedule.at(20, 30), 0.5);
        assert_eq!(schedule.at(30, 30), 0.0);
    }
}
