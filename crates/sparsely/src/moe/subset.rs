//! Which experts take part, or which blocks are meant: indices, as `0-3,5`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Beyond this an index is a typing error.
const MAX_INDEX: usize = 1 << 16;

/// Indices from 0, ascending and each once; at least one. Serialised as a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<usize>", into = "Vec<usize>")]
pub struct Subset(Vec<usize>);

impl Subset {
    /// In any order.
    ///
    /// # Errors
    /// One sentence, if there are none, or one is there twice.
    pub fn new(mut indices: Vec<usize>) -> Result<Subset, String> {
        indices.sort_unstable();
        if let Some(twice) = indices.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("{} is there twice", twice[0]));
        }
        if indices.is_empty() {
            return Err("expected at least one index, got none".into());
        }
        Ok(Subset(indices))
    }

    /// The indices, ascending.
    pub fn indices(&self) -> &[usize] {
        &self.0
    }

    /// How many there are, at least one.
    #[allow(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether `index` is one of them.
    pub fn contains(&self, index: usize) -> bool {
        self.0.binary_search(&index).is_ok()
    }

    /// The first one that is not below `limit`.
    pub fn beyond(&self, limit: usize) -> Option<usize> {
        self.0.iter().copied().find(|index| *index >= limit)
    }
}

impl TryFrom<Vec<usize>> for Subset {
    type Error = String;

    fn try_from(indices: Vec<usize>) -> Result<Subset, String> {
        Subset::new(indices)
    }
}

impl From<Subset> for Vec<usize> {
    fn from(subset: Subset) -> Vec<usize> {
        subset.0
    }
}

impl FromStr for Subset {
    type Err = String;

    /// Indices and ranges that contain their ends, between commas: `0-3,5`.
    fn from_str(text: &str) -> Result<Subset, String> {
        let mut indices = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (index(first, part)?, index(last, part)?);
            if first > last {
                return Err(format!("`{part}` ends before it begins: try `{last}-{first}`"));
            }
            indices.extend(first..=last);
        }
        Subset::new(indices)
    }
}

fn index(text: &str, part: &str) -> Result<usize, String> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(index) if is_number && index < MAX_INDEX => Ok(index),
        _ => Err(format!(
            "expected indices below {MAX_INDEX} or ranges such as `0-3,5`, got `{part}`"
        )),
    }
}

impl fmt::Display for Subset {
    /// As it is read: runs of three and more as ranges.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for run in self.0.chunk_by(|a, b| a + 1 == *b) {
            match run {
                [first, _, .., last] => write!(f, "{comma}{first}-{last}")?,
                [first, last] => write!(f, "{comma}{first},{last}")?,
                run => write!(f, "{comma}{}", run[0])?,
            }
            comma = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for (text, indices, written) in [
            ("0-3,5", &[0, 1, 2, 3, 5][..], "0-3,5"),
            ("7,0-1", &[0, 1, 7], "0,1,7"),
            ("5", &[5], "5"),
            ("4-4,2-3", &[2, 3, 4], "2-4"),
        ] {
            let subset: Subset = text.parse().unwrap();
            assert_eq!((subset.indices(), &*subset.to_string()), (indices, written));
            assert_eq!(written.parse(), Ok(subset.clone()));
            let json = serde_json::to_string(&subset).unwrap();
            assert_eq!(serde_json::from_str::<Subset>(&json).unwrap(), subset);
        }
    }

    #[test]
    fn what_is_no_list_of_indices_is_refused() {
        let refused = |text: &str| text.parse::<Subset>().unwrap_err();
        assert_eq!(refused("3-0"), "`3-0` ends before it begins: try `0-3`");
        assert_eq!(refused("0-3,2"), "2 is there twice");
        for wrong in ["", "1,", "a", "-1", "1-", "1-2-3", "+1", "0..3", "0-99999999999999999999"] {
            let told = refused(wrong);
            assert!(told.starts_with("expected indices below 65536 or ranges"), "{wrong}: {told}");
        }
        assert!(serde_json::from_str::<Subset>("[]").is_err());
    }
}
