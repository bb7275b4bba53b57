//! What a router did, for people to read.

/// Counts of one MoE layer on one batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouterStats {
    /// How often each expert was asked, seated or not.
    pub asked_e: Vec<u64>,
    /// How many choices each expert computed.
    pub seated_e: Vec<u64>,
    /// Tokens that were routed.
    pub tokens: u64,
    /// Tokens that no expert kept.
    pub unserved_tokens: u64,
    /// Buffer positions of all experts in all groups.
    pub seats: u64,
}

impl RouterStats {
    /// Share of the choices that found no seat, in [0, 1].
    pub fn dropped_share(&self) -> f64 {
        let asked: u64 = self.asked_e.iter().sum();
        let seated: u64 = self.seated_e.iter().sum();
        if asked == 0 { 0.0 } else { 1.0 - seated as f64 / asked as f64 }
    }

    /// Largest load of an expert over the mean load: 1 is balance, E is collapse.
    pub fn imbalance(&self) -> f64 {
        let total: u64 = self.asked_e.iter().sum();
        let max = self.asked_e.iter().max().copied().unwrap_or(0);
        if total == 0 { 1.0 } else { max as f64 * self.asked_e.len() as f64 / total as f64 }
    }

    /// Seats per choice: the capacity factor after rounding; E where nothing is dropped.
    pub fn actual_capacity_factor(&self) -> f64 {
        self.seats as f64 / self.asked_e.iter().sum::<u64>().max(1) as f64
    }

    /// Adds another batch's counts of the same layer.
    pub fn merge(&mut self, other: &RouterStats) {
        let add = |sums: &mut Vec<u64>, counts: &[u64]| {
            sums.resize(counts.len(), 0);
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        };
        add(&mut self.asked_e, &other.asked_e);
        add(&mut self.seated_e, &other.seated_e);
        self.tokens += other.tokens;
        self.unserved_tokens += other.unserved_tokens;
        self.seats += other.seats;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_of_four_seated_is_a_quarter_dropped() {
        let stats = RouterStats { asked_e: vec![3, 1], seated_e: vec![2, 1], ..Default::default() };
        assert_eq!(stats.dropped_share(), 0.25);
        // Mean load 2, largest 3.
        assert_eq!(stats.imbalance(), 1.5);
    }
}
