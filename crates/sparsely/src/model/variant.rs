//! Sizes by name: `Ti/4`, `S/32`, `B/16`, `L/16`, `H/14`, `15B/14`.

use super::ModelConfig;
use crate::{Error, Result};
use std::str::FromStr;

/// A named size with its patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    /// Number of blocks.
    pub depth: usize,
    /// D.
    pub width: usize,
    /// F.
    pub mlp_width: usize,
    /// H.
    pub heads: usize,
    /// Height and width of a patch in pixels.
    pub patch_size: usize,
}

impl Variant {
    /// The name of the size and its patch. `S` at patch 32 is V-MoE's (8 blocks of width 512);
    /// at other patches it is the ViT-S that Soft MoE uses (12 blocks of width 384).
    fn named(size: &str, patch_size: usize) -> Option<Variant> {
        if let Some([depth, width]) = extents(size) {
            // As wide as heads are elsewhere, or the next that divides the width.
            let head = [64, 32, 16, 8].into_iter().find(|head| width % head == 0).unwrap_or(width);
            let (mlp_width, heads) = (4 * width, width / head);
            return Some(Variant { depth, width, mlp_width, heads, patch_size });
        }
        let (depth, width, mlp_width, heads) = match size.to_ascii_lowercase().as_str() {
            "ti" => (12, 192, 768, 3),
            "s" if patch_size == 32 => (8, 512, 2048, 8),
            "s" => (12, 384, 1536, 6),
            "b" => (12, 768, 3072, 12),
            "l" => (24, 1024, 4096, 16),
            "h" => (32, 1280, 5120, 16),
            "15b" => (48, 1408, 6400, 16),
            _ => return None,
        };
        Some(Variant { depth, width, mlp_width, heads, patch_size })
    }

    /// The patch of a size that has only ever been used with one, so that its name may end there.
    fn only_patch(size: &str) -> Option<usize> {
        size.eq_ignore_ascii_case("15b").then_some(14).or(extents(size).map(|_| 32))
    }

    /// Sets the size of a model, leaving everything else.
    pub fn apply(&self, config: &mut ModelConfig) {
        config.depth = self.depth;
        config.width = self.width;
        config.mlp_width = self.mlp_width;
        config.heads = self.heads;
        config.patch_size = self.patch_size;
    }
}

/// Blocks and width of `6x96`, which are told by number (Mobile V-MoE, arXiv 2309.04354, table 1).
fn extents(size: &str) -> Option<[usize; 2]> {
    let (depth, width) = size.split_once('x')?;
    let extents = [depth.parse().ok()?, width.parse().ok()?];
    (extents.iter().all(|extent| (1..=65_536).contains(extent))).then_some(extents)
}

impl FromStr for Variant {
    type Err = Error;

    /// `S/32`; the slash may be left out: `s32`. So may the patch of 15B, and that of `6x96`, which is 32.
    fn from_str(name: &str) -> Result<Variant> {
        let (size, patch) = match name.split_once('/') {
            Some((size, patch)) => (size, patch.parse().ok()),
            None if extents(name).is_some() => (name, Variant::only_patch(name)),
            None => {
                // The patch is the digits at the end; no size ends in one.
                let (size, patch) =
                    name.split_at(name.trim_end_matches(|c: char| c.is_ascii_digit()).len());
                let only = patch.is_empty().then(|| Variant::only_patch(size)).flatten();
                (size, only.or_else(|| patch.parse().ok()))
            }
        };
        let patch = patch.filter(|patch| *patch > 0);
        patch.and_then(|patch| Variant::named(size, patch)).ok_or_else(|| Error::Argument {
            op: "variant",
            expected:
                "a size Ti, S, B, L, H or 15B and a patch, such as `S/32`, or blocks and width, \
                       such as `6x96/4`"
                    .into(),
            got: format!("`{name}`"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_with_and_without_slash() {
        let small: Variant = "S/32".parse().unwrap();
        assert_eq!((small.depth, small.width, small.heads, small.patch_size), (8, 512, 8, 32));
        assert_eq!("s32".parse::<Variant>().unwrap(), small);
        assert_eq!("15b14".parse::<Variant>().unwrap().depth, 48);
        assert_eq!("15B".parse::<Variant>().unwrap(), "15B/14".parse().unwrap());
        assert_eq!("S/16".parse::<Variant>().unwrap().width, 384);
        let told = |name: &str| {
            let variant: Variant = name.parse().unwrap();
            [variant.depth, variant.width, variant.mlp_width, variant.heads, variant.patch_size]
        };
        assert_eq!(told("6x96"), [6, 96, 384, 3, 32]);
        assert_eq!(told("12x192/4"), [12, 192, 768, 3, 4]);
    }

    #[test]
    fn an_unknown_name_is_refused() {
        for name in ["0x96", "6x", "6x96/0", "X/16", "S", "S/0", "", "S/x", "15B/", "ü4"] {
            assert_eq!(
                name.parse::<Variant>().unwrap_err().to_string(),
                format!(
                    "variant: expected a size Ti, S, B, L, H or 15B and a patch, such as `S/32`, or blocks \
                     and width, such as `6x96/4`, got `{name}`"
                )
            );
        }
    }
}
