//! What an interval says about a prediction.

use super::Predicted;
use super::statistics::Interval;
use serde::{Deserialize, Serialize};
use std::fmt;

/// An interval of a difference held against what was predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Sign and size, by an interval no wider than the predicted difference; or none of a size
    /// that matters.
    AsPredicted,
    /// The sign is right, but the interval is wider than the predicted difference.
    CannotTellSize,
    /// The sign is right, and the whole interval is nearer to 0 than the prediction.
    SmallerOfThatSign,
    /// The sign is right, and the whole interval is farther from 0 than the prediction.
    LargerOfThatSign,
    /// The interval holds 0 and is narrower than the predicted difference, which it rules out.
    RuledOut,
    /// The whole interval has the other sign; or a difference that matters where none was
    /// predicted.
    AgainstPrediction,
    /// The interval cannot tell the predicted difference from none, or one that matters from one
    /// that does not.
    CannotTell,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::AsPredicted => "as predicted",
            Verdict::CannotTellSize => "cannot tell the size; sign as predicted",
            Verdict::SmallerOfThatSign => "sign as predicted, smaller",
            Verdict::LargerOfThatSign => "sign as predicted, larger",
            Verdict::RuledOut => "smaller than predicted, sign open",
            Verdict::AgainstPrediction => "against the prediction",
            Verdict::CannotTell => "cannot tell",
        })
    }
}

impl Verdict {
    /// Without an interval nothing can be told.
    pub fn of(predicted: Predicted, interval: Option<Interval>) -> Verdict {
        let Some(interval) = interval else { return Verdict::CannotTell };
        match predicted {
            Predicted::Negligible { below } => Verdict::of_none(below, interval),
            Predicted::Difference { points } if points < 0.0 => {
                let mirrored = Interval { low: -interval.high, high: -interval.low };
                Verdict::of_positive(-points, mirrored)
            }
            Predicted::Difference { points } => Verdict::of_positive(points, interval),
        }
    }

    fn of_positive(points: f64, interval: Interval) -> Verdict {
        let Interval { low, high } = interval;
        let is_narrow = interval.width() < points;
        if high < 0.0 {
            Verdict::AgainstPrediction
        } else if low > points {
            Verdict::LargerOfThatSign
        } else if low > 0.0 && high < points {
            Verdict::SmallerOfThatSign
        } else if low > 0.0 && is_narrow {
            Verdict::AsPredicted
        } else if low > 0.0 {
            Verdict::CannotTellSize
        } else if is_narrow {
            Verdict::RuledOut
        } else {
            Verdict::CannotTell
        }
    }

    fn of_none(below: f64, Interval { low, high }: Interval) -> Verdict {
        if low > -below && high < below {
            Verdict::AsPredicted
        } else if low >= below || high <= -below {
            Verdict::AgainstPrediction
        } else {
            Verdict::CannotTell
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(points: f64, low: f64, high: f64) -> Verdict {
        Verdict::of(Predicted::Difference { points }, Some(Interval { low, high }))
    }

    #[test]
    fn an_interval_with_0_that_is_as_wide_as_the_prediction_cannot_tell() {
        assert_eq!(verdict(2.0, -0.5, 2.5), Verdict::CannotTell);
        assert_eq!(verdict(2.0, 0.0, 2.0), Verdict::CannotTell);
        // 2 is not in it, but at 6 points of width it would hardly have been seen.
        assert_eq!(verdict(2.0, -5.0, 1.0), Verdict::CannotTell);
        assert_eq!(verdict(-2.0, -2.5, 0.5), Verdict::CannotTell);
        let unknown = Verdict::of(Predicted::Difference { points: 2.0 }, None);
        assert_eq!(unknown, Verdict::CannotTell);
        assert_eq!(unknown.to_string(), "cannot tell");
    }

    #[test]
    fn a_narrow_interval_around_0_rules_the_prediction_out() {
        assert_eq!(verdict(2.0, -0.5, 0.5), Verdict::RuledOut);
        assert_eq!(verdict(-2.0, -0.5, 0.5), Verdict::RuledOut);
    }

    #[test]
    fn an_interval_without_0_tells_the_sign_and_then_the_size() {
        assert_eq!(verdict(2.0, 1.5, 3.0), Verdict::AsPredicted);
        // As wide as the prediction or wider, and still apart from 0.
        for high in [2.5, 9.0] {
            let found = verdict(2.0, 0.5, high);
            assert_eq!(found, Verdict::CannotTellSize);
            assert!(found.to_string().starts_with("cannot tell"));
        }
        assert_eq!(verdict(2.0, 0.5, 1.5), Verdict::SmallerOfThatSign);
        assert_eq!(verdict(2.0, 2.5, 3.5), Verdict::LargerOfThatSign);
        assert_eq!(verdict(2.0, -3.0, -1.0), Verdict::AgainstPrediction);
        assert_eq!(verdict(-2.0, -3.0, -1.5), Verdict::AsPredicted);
        assert_eq!(verdict(-2.0, 1.0, 3.0), Verdict::AgainstPrediction);
    }

    #[test]
    fn none_is_confirmed_by_a_narrow_interval_only() {
        let none = |low, high| {
            Verdict::of(Predicted::Negligible { below: 0.5 }, Some(Interval { low, high }))
        };
        assert_eq!(none(-0.3, 0.4), Verdict::AsPredicted);
        // A difference, but too small to matter.
        assert_eq!(none(0.1, 0.4), Verdict::AsPredicted);
        assert_eq!(none(-0.3, 0.6), Verdict::CannotTell);
        assert_eq!(none(0.1, 0.9), Verdict::CannotTell);
        assert_eq!(none(0.5, 0.9), Verdict::AgainstPrediction);
        assert_eq!(none(-0.9, -0.6), Verdict::AgainstPrediction);
    }
}
