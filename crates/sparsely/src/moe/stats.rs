//! What a router did, for people to read.

use rayon::prelude::*;

/// Rows of a task; part of the bits of a sum.
const ROWS: usize = 64;

/// Counts of one MoE layer on one batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouterStats {
    /// How often each expert was asked, seated or not; slots in Soft MoE. Experts that a dial leaves
    /// out have 0.
    pub asked_e: Vec<u64>,
    /// How many choices each expert computed.
    pub seated_e: Vec<u64>,
    /// Experts that a dial leaves out: they count for nothing in means over experts.
    pub left_out: usize,
    /// Tokens that were routed.
    pub tokens: u64,
    /// Tokens that no expert kept.
    pub unserved_tokens: u64,
    /// Buffer positions of all experts in all groups.
    pub seats: u64,
    /// Entropy of each token's gates, as shares of their sum, in nats; summed over tokens.
    pub entropy_sum: f64,
    /// How many experts the tokens of each image went to, image after image.
    pub experts_b: Vec<u32>,
    /// The largest distance of a transport plan's sum over a token or an expert from what it should be, as
    /// a share of that; none without a plan.
    pub marginal_error: Option<f64>,
}

impl RouterStats {
    /// Share of the choices that found no seat, in [0, 1].
    pub fn dropped_share(&self) -> f64 {
        let asked: u64 = self.asked_e.iter().sum();
        let seated: u64 = self.seated_e.iter().sum();
        if asked == 0 { 0.0 } else { 1.0 - seated as f64 / asked as f64 }
    }

    /// Share of the tokens that no expert kept, in [0, 1].
    pub fn unserved_share(&self) -> f64 {
        self.unserved_tokens as f64 / self.tokens.max(1) as f64
    }

    /// Largest load of an expert over the mean load: 1 is balance, E is collapse.
    pub fn imbalance(&self) -> f64 {
        let total: u64 = self.asked_e.iter().sum();
        let max = self.asked_e.iter().max().copied().unwrap_or(0);
        if total == 0 { 1.0 } else { max as f64 * self.num_experts() as f64 / total as f64 }
    }

    /// Standard deviation of the experts' loads over their mean: 0 is balance, √(E − 1) is collapse.
    pub fn load_variation(&self) -> f64 {
        let experts = self.num_experts().max(1) as f64;
        let mean = self.asked_e.iter().sum::<u64>() as f64 / experts;
        if mean == 0.0 {
            return 0.0;
        }
        let squares = self.asked_e.iter().map(|load| (*load as f64 - mean).powi(2));
        let of_left_out = self.left_out as f64 * mean.powi(2);
        ((squares.sum::<f64>() - of_left_out) / experts).max(0.0).sqrt() / mean
    }

    /// Experts that take part.
    fn num_experts(&self) -> usize {
        self.asked_e.len() - self.left_out
    }

    /// The counts of experts `indices` among `num_experts`, of which the others were left out.
    pub(super) fn among(self, indices: &[usize], num_experts: usize) -> RouterStats {
        let spread = |counts: &[u64]| {
            let mut all = vec![0; num_experts];
            indices.iter().zip(counts).for_each(|(index, count)| all[*index] = *count);
            all
        };
        let (asked_e, seated_e) = (spread(&self.asked_e), spread(&self.seated_e));
        RouterStats { asked_e, seated_e, left_out: num_experts - indices.len(), ..self }
    }

    /// Mean entropy of a token's gates in nats, in [0, ln E]; over slots in Soft MoE.
    pub fn entropy(&self) -> f64 {
        self.entropy_sum / self.tokens.max(1) as f64
    }

    /// Seats per choice: the capacity factor after rounding; E where nothing is dropped.
    pub fn actual_capacity_factor(&self) -> f64 {
        self.seats as f64 / self.asked_e.iter().sum::<u64>().max(1) as f64
    }

    /// Mean number of experts that the tokens of an image went to, in [0, E].
    pub fn experts_per_image(&self) -> f64 {
        let sum: u64 = self.experts_b.iter().map(|experts| u64::from(*experts)).sum();
        sum as f64 / self.experts_b.len().max(1) as f64
    }

    /// The counts of decisions that each hold for `times` tokens.
    pub(super) fn repeated(self, times: u64) -> RouterStats {
        let all = |counts: Vec<u64>| counts.into_iter().map(|count| count * times).collect();
        RouterStats {
            asked_e: all(self.asked_e),
            seated_e: all(self.seated_e),
            tokens: self.tokens * times,
            unserved_tokens: self.unserved_tokens * times,
            seats: self.seats * times,
            entropy_sum: self.entropy_sum * times as f64,
            ..self
        }
    }

    /// Adds another batch's counts of the same layer.
    pub fn merge(&mut self, other: &RouterStats) {
        let add = |sums: &mut Vec<u64>, counts: &[u64]| {
            sums.resize(counts.len(), 0);
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        };
        add(&mut self.asked_e, &other.asked_e);
        add(&mut self.seated_e, &other.seated_e);
        self.left_out = other.left_out;
        self.tokens += other.tokens;
        self.unserved_tokens += other.unserved_tokens;
        self.seats += other.seats;
        self.entropy_sum += other.entropy_sum;
        self.experts_b.extend_from_slice(&other.experts_b);
        self.marginal_error = match (self.marginal_error, other.marginal_error) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
    }
}

/// Σ over rows of the entropy of softmax(logits) in nats: with any l, p of a row, log Σ eˡ is
/// l − log p, so that a row takes one logarithm.
pub(super) fn softmax_entropy_sum(logits: &[f32], gates: &[f32], width: usize) -> f64 {
    sum_rows([logits, gates], width, |logits, gates| {
        let largest = (1..width).fold(0, |best, i| if gates[i] > gates[best] { i } else { best });
        let log_sum = f64::from(logits[largest]) - f64::from(gates[largest]).ln();
        let mean: f32 = logits.iter().zip(gates).map(|(l, p)| l * p).sum();
        log_sum - f64::from(mean)
    })
}

/// Σ over rows of the entropy in nats of gates from 0, as shares of their sum.
pub(crate) fn entropy_sum(gates: &[f32], width: usize) -> f64 {
    sum_rows([gates, gates], width, |gates, _| {
        let total: f64 = gates.iter().map(|g| f64::from(*g)).sum();
        let shares = gates.iter().map(|g| f64::from(*g) / total).filter(|p| *p > 0.0);
        -shares.map(|p| p * p.ln()).sum::<f64>()
    })
}

fn sum_rows(
    [a, b]: [&[f32]; 2],
    width: usize,
    of_row: impl Fn(&[f32], &[f32]) -> f64 + Sync,
) -> f64 {
    let task = ROWS * width;
    let tasks = a
        .par_chunks(task)
        .zip(b.par_chunks(task))
        .map(|(a, b)| a.chunks(width).zip(b.chunks(width)).map(|(a, b)| of_row(a, b)).sum::<f64>());
    tasks.collect::<Vec<f64>>().iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_of_four_seated_is_a_quarter_dropped() {
        let stats = RouterStats { asked_e: vec![3, 1], seated_e: vec![2, 1], ..Default::default() };
        assert_eq!(stats.dropped_share(), 0.25);
        // Mean load 2, largest 3, each 1 away.
        assert_eq!(stats.imbalance(), 1.5);
        assert_eq!(stats.load_variation(), 0.5);
    }

    #[test]
    fn all_on_one_of_five_experts_is_a_load_variation_of_two() {
        // Mean 1, deviations 4 and four times −1: variance 20/5 = 4.
        let stats = RouterStats { asked_e: vec![5, 0, 0, 0, 0], ..Default::default() };
        assert_eq!(stats.load_variation(), 2.0);
    }

    #[test]
    fn the_entropy_of_even_gates_is_the_logarithm_of_their_number() {
        let even = softmax_entropy_sum(&[3.0; 8], &[0.25; 8], 4);
        assert!((even - 2.0 * 4.0_f64.ln()).abs() < 1e-6);
        // 2 and 2 of 4 are halves; zeros do not count.
        assert!((entropy_sum(&[2.0, 0.0, 2.0], 3) - 2.0_f64.ln()).abs() < 1e-12);
        assert_eq!(entropy_sum(&[0.0, 0.0], 2), 0.0);
    }
}
