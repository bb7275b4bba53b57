//! What a mixture-of-experts layer is made of, as a value.

use super::{Granularity, RouterConfig};
use serde::{Deserialize, Serialize};

/// The MoE layers of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MoeConfig {
    /// E.
    pub num_experts: usize,
    /// Which blocks have experts instead of a dense MLP.
    pub placement: Placement,
    /// Whether each token is routed by itself or each image.
    pub granularity: Granularity,
    /// Which tokens compete for the same seats; which images, where images are routed.
    pub group: Group,
    /// Who chooses whom.
    #[serde(deserialize_with = "super::router::of_kind")]
    pub router: RouterConfig,
    /// Experts more that every token visits, with weight 1.
    pub num_shared: usize,
    /// Whether tokens on their way to experts, and experts' outputs on their way back, are rounded
    /// through bf16, forward and backward. The reference does so in Soft MoE, and elsewhere on request.
    pub through_bf16: bool,
    /// Dropout inside the experts, after the activation and after the second layer.
    pub expert_dropout: f32,
    /// Whether experts start as copies of one another.
    pub expert_init: ExpertInit,
}

impl Default for MoeConfig {
    fn default() -> MoeConfig {
        MoeConfig {
            num_experts: 8,
            placement: Placement::LastN { n: 2 },
            granularity: Granularity::Token,
            group: Group::Images { n: 1 },
            router: RouterConfig::default(),
            num_shared: 0,
            through_bf16: false,
            expert_dropout: 0.0,
            expert_init: ExpertInit::Different,
        }
    }
}

impl MoeConfig {
    /// S, for images of L tokens: tokens of a group, or images where images are routed.
    pub fn group_size(&self, length: usize) -> usize {
        self.group_size_of(self.group, length)
    }

    /// Why a group does not go with what is routed, if so.
    pub fn group_problem(&self, group: Group) -> Option<&'static str> {
        let is_cut =
            self.granularity != Granularity::Token && matches!(group, Group::Tokens { .. });
        is_cut.then_some("whole images are routed in groups of images, not of tokens")
    }

    /// As [`MoeConfig::group_size`], of another group.
    pub fn group_size_of(&self, group: Group, length: usize) -> usize {
        group.tokens(self.granularity.routed_length(length))
    }
}

/// Which blocks get experts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Placement {
    /// Blocks n−1, 2n−1, … (0-based): every second block for n = 2.
    Every {
        /// Distance.
        n: usize,
    },
    /// The last `n` of the odd blocks 1, 3, 5, …, as in V-MoE.
    LastN {
        /// How many.
        n: usize,
    },
    /// The last `n` blocks, as in Soft MoE.
    LastBlocks {
        /// How many.
        n: usize,
    },
    /// These blocks, 0-based.
    Blocks {
        /// Indices.
        blocks: Vec<usize>,
    },
}

impl Placement {
    /// Indices of the MoE blocks of a model of `depth` blocks, ascending; or what is wrong.
    ///
    /// # Errors
    /// One sentence.
    pub fn resolve(&self, depth: usize) -> Result<Vec<usize>, String> {
        match self {
            Placement::Every { n: 0 } => Err("`every` needs n of at least 1".into()),
            Placement::Every { n } => Ok((n - 1..depth).step_by(*n).collect()),
            Placement::LastN { n } => {
                let odd: Vec<usize> = (1..depth).step_by(2).collect();
                if *n > odd.len() {
                    return Err(format!(
                        "last {n} of the odd blocks of {depth} blocks: there are {}",
                        odd.len()
                    ));
                }
                Ok(odd[odd.len() - n..].to_vec())
            }
            Placement::LastBlocks { n } if *n > depth => {
                Err(format!("last {n} blocks of {depth} blocks"))
            }
            Placement::LastBlocks { n } => Ok((depth - n..depth).collect()),
            Placement::Blocks { blocks } => {
                let mut sorted = blocks.clone();
                sorted.sort_unstable();
                sorted.dedup();
                match sorted.last() {
                    Some(last) if *last >= depth => {
                        Err(format!("there is no block {last} among {depth}"))
                    }
                    _ if sorted.len() != blocks.len() => Err("a block is listed twice".into()),
                    _ => Ok(sorted),
                }
            }
        }
    }
}

/// Which tokens are routed together: consecutive ones of the batch, image after image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Group {
    /// Those of `n` images.
    Images {
        /// How many.
        n: usize,
    },
    /// `n` tokens.
    Tokens {
        /// How many.
        n: usize,
    },
}

impl Group {
    /// Tokens of a group, S, for sequences of `length` tokens.
    pub fn tokens(&self, length: usize) -> usize {
        match *self {
            Group::Images { n } => n * length,
            Group::Tokens { n } => n,
        }
    }

    /// The smallest number of images of `length` tokens that make whole groups; 0 for groups of no
    /// tokens.
    pub(crate) fn whole_images(&self, length: usize) -> usize {
        let tokens = self.tokens(length);
        tokens / gcd(tokens, length).max(1)
    }
}

pub(crate) fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl std::fmt::Display for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Group::Images { n } => write!(f, "{n} images"),
            Group::Tokens { n } => write!(f, "{n} tokens"),
        }
    }
}

/// How experts start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpertInit {
    /// All the same, as in the reference.
    Equal,
    /// Each drawn on its own.
    Different,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_two_odd_ones_of_eight_blocks_are_five_and_seven() {
        assert_eq!(Placement::LastN { n: 2 }.resolve(8).unwrap(), [5, 7]);
        assert_eq!(Placement::LastBlocks { n: 2 }.resolve(8).unwrap(), [6, 7]);
        assert_eq!(Placement::Every { n: 2 }.resolve(6).unwrap(), [1, 3, 5]);
        assert_eq!(Placement::Blocks { blocks: vec![3, 0] }.resolve(4).unwrap(), [0, 3]);
    }

    #[test]
    fn blocks_that_do_not_exist_are_refused() {
        let refused = Placement::Blocks { blocks: vec![9] }.resolve(4).unwrap_err();
        assert_eq!(refused, "there is no block 9 among 4");
        let refused = Placement::LastN { n: 3 }.resolve(4).unwrap_err();
        assert_eq!(refused, "last 3 of the odd blocks of 4 blocks: there are 2");
        let refused = Placement::LastBlocks { n: 5 }.resolve(4).unwrap_err();
        assert_eq!(refused, "last 5 blocks of 4 blocks");
    }
}
