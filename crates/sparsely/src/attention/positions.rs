//! Where keys are, as the layers see it.

use super::RelativePositions;
use crate::Result;
use crate::nn::{Init, Initializer};
use rayon::prelude::*;
use sparsely_tensor::{Activation, Param, Rotary, Tape, Var};

/// The base of rotary angles and of the sinusoids' wavelengths.
const BASE: f64 = 1e4;

/// Fixed sinusoids of distances: what Transformer-XL's layers project, the same for all of them.
#[derive(Clone, Debug)]
pub struct Sinusoids<'t> {
    /// `[R, D]`, by ascending distance of key − query.
    pub table_rd: Var<'t>,
    /// The row of distance 0.
    pub zero: usize,
}

/// Rows of [`Sinusoids`] for distances from −`behind` to `ahead`, of width D: pe(r)[2i] = sin(r ωᵢ), pe(r)[2i+1] =
/// cos(r ωᵢ), ωᵢ = 10⁴^(−2i/D).
pub(crate) fn sinusoids([behind, ahead]: [usize; 2], d: usize) -> Vec<f32> {
    // One sine and cosine for as many distances, from a multiple of theirs: between them an angle turns by ω, which
    // loses less than 1e-13.
    const BLOCK: usize = 64;
    let mut table = vec![0.0; (behind + ahead + 1) * d];
    let fill = |rows: &mut [f32], first: i64| {
        let before = first.rem_euclid(BLOCK as i64);
        for c in (0..d).step_by(2) {
            let omega = BASE.powf(-(c as f64) / d as f64);
            let (turn_sin, turn_cos) = omega.sin_cos();
            let (mut sin, mut cos) = ((first - before) as f64 * omega).sin_cos();
            let mut turn = || {
                let now = [sin, cos];
                (sin, cos) = (sin * turn_cos + cos * turn_sin, cos * turn_cos - sin * turn_sin);
                now
            };
            for _ in 0..before {
                turn();
            }
            for row in rows.chunks_mut(d) {
                for (value, x) in row[c..].iter_mut().zip(turn()) {
                    *value = x as f32;
                }
            }
        }
    };
    let (head, rest) = table.split_at_mut(behind % BLOCK * d);
    fill(head, -(behind as i64));
    rest.par_chunks_mut(BLOCK * d).enumerate().for_each(|(block, rows)| {
        fill(rows, (block * BLOCK) as i64 - (behind - behind % BLOCK) as i64);
    });
    table
}

impl<'t> Sinusoids<'t> {
    /// Distances from −`behind` to `ahead`, of width D.
    ///
    /// # Errors
    /// If D is 0.
    pub fn new(tape: &'t Tape<'t>, [behind, ahead]: [usize; 2], d: usize) -> Result<Sinusoids<'t>> {
        let table_rd = tape.constant([behind + ahead + 1, d], &sinusoids([behind, ahead], d))?;
        Ok(Sinusoids { table_rd, zero: behind })
    }
}

/// Keys of distances `[R, Hk·A]` and the row of distance 0.
#[derive(Clone, Debug)]
pub struct DistanceKeys<'t> {
    /// By ascending distance.
    pub keys: Var<'t>,
    /// The row of distance 0.
    pub zero: usize,
}

/// A layer's part in positions.
#[derive(Clone, Copy, Debug)]
pub enum Positions {
    /// None.
    None,
    /// Projects sinusoids to keys: `[D, Hk·A]`.
    TransformerXl(Param),
    /// Turns channels of heads of width A.
    Rope {
        /// A.
        head_width: usize,
        /// How many channels of each.
        channels: usize,
    },
}

impl Positions {
    /// Fresh, for keys `[D, Hk·A]` of heads of width A; `kernel` is how a projection starts.
    pub(super) fn init(
        init: &mut Initializer,
        config: RelativePositions,
        [d, keys, head_width]: [usize; 3],
        kernel: Init,
    ) -> Positions {
        match config {
            RelativePositions::None => Positions::None,
            RelativePositions::TransformerXl => {
                Positions::TransformerXl(init.kernel("distances", [d, keys], kernel))
            }
            RelativePositions::Rope { .. } => {
                let channels = config.rotated_channels(head_width);
                Positions::Rope { head_width, channels }
            }
        }
    }

    /// The keys of distances, where they take part.
    ///
    /// # Errors
    /// If the sinusoids are of another width.
    pub fn distance_keys<'t>(&self, sinusoids: &Sinusoids<'t>) -> Result<Option<DistanceKeys<'t>>> {
        let Positions::TransformerXl(kernel) = self else { return Ok(None) };
        let keys = sinusoids.table_rd.linear(Activation::Identity, kernel, None, None)?;
        Ok(Some(DistanceKeys { keys, zero: sinusoids.zero }))
    }

    /// Queries or keys `[B, L, H·A]`, the first at place `first`.
    pub(super) fn turn<'t>(&self, x: Var<'t>, first: usize) -> Result<Var<'t>> {
        match *self {
            Positions::Rope { head_width, channels } => {
                Ok(x.rotary(&Rotary { head_width, channels, first, base: BASE })?)
            }
            _ => Ok(x),
        }
    }
}

impl RelativePositions {
    /// Channels of a head of width A that turn; 0 without rotary positions.
    pub fn rotated_channels(&self, head_width: usize) -> usize {
        match *self {
            RelativePositions::Rope { fraction } => (fraction * head_width as f32) as usize,
            _ => 0,
        }
    }

    /// Whether sinusoids of distances are needed.
    pub fn are_relative(&self) -> bool {
        *self == RelativePositions::TransformerXl
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sinusoids_are_those_of_their_distance_in_any_table() {
        for [behind, ahead, d] in [[0, 0, 2], [3, 70, 6], [64, 0, 5], [200, 130, 8]] {
            let table = sinusoids([behind, ahead], d);
            for (row, values) in table.chunks(d).enumerate() {
                let r = row as f64 - behind as f64;
                for (c, value) in values.iter().enumerate() {
                    let angle = r * BASE.powf(-((c / 2 * 2) as f64) / d as f64);
                    let want = if c % 2 == 0 { angle.sin() } else { angle.cos() };
                    assert!((f64::from(*value) - want).abs() < 6e-8, "{behind} {ahead} {r} {c}");
                }
            }
            let zero = &table[behind * d..][..d];
            assert!(zero.iter().enumerate().all(|(c, x)| *x == (c % 2) as f32), "{zero:?}");
            let wider = sinusoids([behind + 41, ahead + 7], d);
            assert!(wider[41 * d..][..table.len()] == table, "{behind} {ahead}");
        }
    }
}
