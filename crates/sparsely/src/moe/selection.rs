//! Choosing the largest scores: experts of a token, tokens of an expert.

/// Experts `[S, K]` of largest score, largest first, ties to the lower index; and their scores, from
/// `[S, E]`. K is at most E.
pub fn top_k(scores_se: &[f32], e: usize, k: usize) -> (Vec<u32>, Vec<f32>) {
    let tokens = scores_se.len() / e;
    let (mut choices, mut scores) =
        (Vec::with_capacity(tokens * k), Vec::with_capacity(tokens * k));
    let mut best: Vec<(f32, u32)> = Vec::with_capacity(k + 1);
    for scores_e in scores_se.chunks(e) {
        best.clear();
        for (expert, score) in scores_e.iter().enumerate() {
            // Only a larger score displaces one that came before.
            let is_ahead = |other: &(f32, u32)| score.total_cmp(&other.0).is_gt();
            if best.len() == k && !best.last().is_some_and(is_ahead) {
                continue;
            }
            let place = best.iter().position(is_ahead).unwrap_or(best.len());
            best.insert(place, (*score, expert as u32));
            best.truncate(k);
        }
        choices.extend(best.iter().map(|(_, expert)| *expert));
        scores.extend(best.iter().map(|(score, _)| *score));
    }
    (choices, scores)
}

/// For each expert the `capacity` tokens of largest score in its column of `[S, E]`, ties to
/// the lower index; in the order of the tokens.
pub fn top_tokens(scores_se: &[f32], e: usize, capacity: usize) -> Vec<Vec<u32>> {
    let s = scores_se.len() / e;
    let capacity = capacity.min(s);
    let mut keys = vec![0; s];
    let of_expert = |expert: usize| {
        for (token, key) in keys.iter_mut().enumerate() {
            *key = descending(scores_se[token * e + expert]) << 32 | token as u64;
        }
        if capacity < s {
            keys.select_nth_unstable(capacity);
        }
        let mut tokens: Vec<u32> = keys[..capacity].iter().map(|key| *key as u32).collect();
        tokens.sort_unstable();
        tokens
    };
    (0..e).map(of_expert).collect()
}

/// A number that is smaller for larger `score`, in the order of [`f32::total_cmp`].
fn descending(score: f32) -> u64 {
    let bits = score.to_bits();
    let ascending = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
    u64::from(!ascending)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tie_goes_to_the_lower_index() {
        let scores_se = [0.3, 0.4, 0.3, 0.5, 0.0, 0.5];
        assert_eq!(top_k(&scores_se, 3, 2), (vec![1, 0, 0, 2], vec![0.4, 0.3, 0.5, 0.5]));
        assert_eq!(top_k(&scores_se, 3, 3).0, [1, 0, 2, 0, 2, 1]);
    }

    #[test]
    fn each_expert_takes_its_two_best_of_three_tokens() {
        // Columns (.1, .6, .3), (.5, .2, .5), (0, 0, 0).
        let scores_se = [0.1, 0.5, 0.0, 0.6, 0.2, 0.0, 0.3, 0.5, 0.0];
        assert_eq!(top_tokens(&scores_se, 3, 2), [[1, 2], [0, 2], [0, 1]]);
        assert_eq!(top_tokens(&scores_se, 3, 9)[0], [0, 1, 2]);
        assert_eq!(top_tokens(&[-1.0, 2.0, -3.0, 0.0], 1, 2), [[1, 3]]);
    }
}
