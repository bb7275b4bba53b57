//! Which token comes next.

use crate::rng::{Purpose, stream};
use crate::{Error, Result};
use rand::Rng as _;

/// How the next token is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// What logits are divided by; 0 takes the likeliest token.
    pub temperature: f64,
    /// Draws from the fewest tokens whose probabilities sum to this (Holtzman et al. 2020).
    pub top_p: f64,
    /// Decides the draws.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling { temperature: 1.0, top_p: 1.0, seed: 0 }
    }
}

impl Sampling {
    /// Refuses what cannot work.
    ///
    /// # Errors
    /// If a number is outside its range.
    pub fn validate(&self) -> Result<()> {
        let Sampling { temperature, top_p, .. } = *self;
        let works = temperature >= 0.0 && temperature.is_finite() && top_p > 0.0 && top_p <= 1.0;
        if works {
            return Ok(());
        }
        Err(Error::Argument {
            op: "generate",
            expected: "a temperature from 0 and a top-p in (0, 1]".into(),
            got: format!("temperature {temperature} and top-p {top_p}"),
        })
    }

    /// The token after `index` others of the answer.
    pub fn draw(&self, logits_v: &[f32], index: u64) -> u32 {
        // By falling logit, equal ones by index.
        let mut order: Vec<usize> = (0..logits_v.len()).collect();
        order.sort_by(|a, b| logits_v[*b].total_cmp(&logits_v[*a]).then(a.cmp(b)));
        if self.temperature == 0.0 {
            return order[0] as u32;
        }
        let max = f64::from(logits_v[order[0]]);
        let weight = |v: &usize| ((f64::from(logits_v[*v]) - max) / self.temperature).exp();
        let weights: Vec<f64> = order.iter().map(weight).collect();
        let mass = self.top_p * weights.iter().sum::<f64>();
        let (mut kept, mut sum) = (0, 0.0);
        while kept < weights.len() && (kept == 0 || sum < mass) {
            sum += weights[kept];
            kept += 1;
        }
        let mut left = sum * stream(self.seed, Purpose::Sampling, index).random::<f64>();
        let drawn = weights[..kept].iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        order[drawn.unwrap_or(kept - 1)] as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Probabilities ½, ¼, ⅛, ⅛ of the tokens 2, 0, 1, 3.
    fn logits_v() -> Vec<f32> {
        [0.25_f32, 0.125, 0.5, 0.125].map(f32::ln).to_vec()
    }

    fn counts(sampling: Sampling) -> [u32; 4] {
        let mut counts = [0; 4];
        (0..4000).for_each(|index| counts[sampling.draw(&logits_v(), index) as usize] += 1);
        counts
    }

    #[test]
    fn tokens_are_drawn_by_their_probabilities() {
        let [a, b, c, d] = counts(Sampling::default());
        // Standard deviations of 4000 draws: at most 32.
        assert!(a.abs_diff(1000) < 130 && c.abs_diff(2000) < 130, "{a} {c}");
        assert!(b.abs_diff(500) < 100 && d.abs_diff(500) < 100, "{b} {d}");
    }

    #[test]
    fn the_nucleus_holds_the_fewest_tokens_of_its_mass() {
        let nucleus = |top_p| counts(Sampling { top_p, ..Sampling::default() });
        assert_eq!(nucleus(0.5), [0, 0, 4000, 0]);
        assert_eq!(nucleus(0.7)[1], 0);
        assert!(nucleus(0.76)[1] > 0 && nucleus(0.76)[3] == 0);
    }

    #[test]
    fn without_temperature_the_likeliest_token_is_taken() {
        let cold = Sampling { temperature: 0.0, ..Sampling::default() };
        assert_eq!(counts(cold), [0, 0, 4000, 0]);
        assert_eq!(cold.draw(&[1.0, 1.0], 0), 0);
    }

    #[test]
    fn a_seed_draws_the_same_again() {
        let draws = |seed| {
            let sampling = Sampling { seed, ..Sampling::default() };
            (0..50).map(|index| sampling.draw(&logits_v(), index)).collect::<Vec<_>>()
        };
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
    }
}
