//! The embedded text: three novels by Jane Austen, in the public domain (`assets/NOTICE`).
//!
//! *Emma* and *Sense and Sensibility* are to learn from; the first volume of *Persuasion* validates and
//! its second is the test.

use super::split::TextSplit;
use flate2::read::GzDecoder;
use std::io::Read;

/// What the embedded text is called.
pub(super) const NAME: &str = "austen";

/// A document that the program carries with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Novel {
    pub(super) name: &'static str,
    pub(super) split: TextSplit,
    compressed: &'static [u8],
}

pub(super) const NOVELS: [Novel; 4] = [
    Novel {
        name: "Emma",
        split: TextSplit::Train,
        compressed: include_bytes!("../../../assets/austen/emma.txt.gz"),
    },
    Novel {
        name: "Sense and Sensibility",
        split: TextSplit::Train,
        compressed: include_bytes!("../../../assets/austen/sense-and-sensibility.txt.gz"),
    },
    Novel {
        name: "Persuasion, volume 1",
        split: TextSplit::Validation,
        compressed: include_bytes!("../../../assets/austen/persuasion-1.txt.gz"),
    },
    Novel {
        name: "Persuasion, volume 2",
        split: TextSplit::Test,
        compressed: include_bytes!("../../../assets/austen/persuasion-2.txt.gz"),
    },
];

impl Novel {
    pub(super) fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        GzDecoder::new(self.compressed).read_to_end(&mut text).expect("a stream of our own");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_novels_are_whole() {
        let lengths = NOVELS.map(|novel| novel.text().len());
        assert_eq!(lengths, [887_071, 673_022, 215_315, 250_977]);
        assert!(NOVELS[3].text().starts_with(b"Chapter 13"));
    }
}
