//! Router weights whose experts start with comparable rows.

/// What a row keeps when all rows are brought to norm 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renormalised {
    /// Its own standard deviation against that of all (SwitchHead).
    OwnStd,
    /// Nothing: all rows have one norm, and the whole its standard deviation (sigma-MoE).
    CommonStd,
}

/// Renormalises rows of length `d`; standard deviations are unbiased.
pub fn renormalise(rows: &mut [f32], d: usize, keeps: Renormalised) {
    let before = std_of(rows);
    let own: Vec<f64> = rows.chunks(d).map(std_of).collect();
    for row in rows.chunks_mut(d) {
        let norm = row.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>().sqrt();
        row.iter_mut().for_each(|w| *w = (f64::from(*w) / norm) as f32);
    }
    let after = std_of(rows);
    for (row, own) in rows.chunks_mut(d).zip(own) {
        let std = match keeps {
            Renormalised::OwnStd => own,
            Renormalised::CommonStd => before,
        };
        row.iter_mut().for_each(|w| *w = (f64::from(*w) * std / after) as f32);
    }
}

/// Scales `values` to a standard deviation of exactly `std`; a single value has none and stays.
pub(super) fn scale_to(values: &mut [f32], std: f32) {
    let own = std_of(values);
    if own > 0.0 {
        let factor = f64::from(std) / own;
        values.iter_mut().for_each(|w| *w = (f64::from(*w) * factor) as f32);
    }
}

/// Rows of length `d` as columns.
pub(super) fn transpose_into(rows: &[f32], d: usize, columns: &mut [f32]) {
    let count = rows.len() / d;
    for (i, row) in rows.chunks(d).enumerate() {
        row.iter().enumerate().for_each(|(j, w)| columns[j * count + i] = *w);
    }
}

/// Unbiased; 0 for fewer than two values.
fn std_of(values: &[f32]) -> f64 {
    let n = values.len() as f64;
    if n < 2.0 {
        return 0.0;
    }
    let mean = values.iter().map(|w| f64::from(*w)).sum::<f64>() / n;
    let squares = values.iter().map(|w| (f64::from(*w) - mean).powi(2)).sum::<f64>();
    (squares / (n - 1.0)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_rows_are_brought_to_one_norm() {
        // Norms 5 and 10; both become (.6, .8). Of all four the standard deviation before is that of
        // (3, 4, 6, 8): mean 5.25, squares 5.0625 + 1.5625 + .5625 + 7.5625 = 14.75, √(14.75/3) = 2.2174;
        // after that of (.6, .8, .6, .8): √(.04/3) = .11547. The factor is 19.203.
        let mut rows = [3.0, 4.0, 6.0, 8.0];
        renormalise(&mut rows, 2, Renormalised::CommonStd);
        for (w, want) in rows.iter().zip([11.522, 15.362, 11.522, 15.362]) {
            assert!((w - want).abs() < 2e-3, "{rows:?}");
        }
    }

    #[test]
    fn a_row_keeps_its_own_deviation_against_that_of_all() {
        // Deviations .7071 and 1.4142 over .11547: factors 6.1237 and 12.247.
        let mut rows = [3.0, 4.0, 6.0, 8.0];
        renormalise(&mut rows, 2, Renormalised::OwnStd);
        for (w, want) in rows.iter().zip([3.6742, 4.8990, 7.3485, 9.7980]) {
            assert!((w - want).abs() < 2e-3, "{rows:?}");
        }
    }
}
