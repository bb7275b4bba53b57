//! A file in the address space: its pages come into memory as they are read, and go when they are
//! released.

use memmap2::{Mmap, UncheckedAdvice};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Bytes on either side of a read that the system may have mapped along with it (its fault-around).
const AROUND: usize = 64 << 10;

/// A file that is read where it lies. It must not be written or cut while it is mapped: whoever replaces it
/// renames another file over it, as this project does, and the mapping keeps the old one.
#[derive(Debug)]
pub struct Mapping {
    map: Mmap,
    path: PathBuf,
}

impl Mapping {
    /// Maps the whole file; nothing is read yet.
    ///
    /// # Errors
    /// If the file cannot be opened or mapped.
    pub fn open(path: &Path) -> io::Result<Mapping> {
        let file = File::open(path)?;
        // SAFETY: the mapping is never written through, and its bytes are plain numbers, any pattern of
        // which is valid. That nobody cuts the file in place is this type's documented condition.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Mapping { map, path: path.to_path_buf() })
    }

    /// Its bytes; reading brings their pages into memory.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Where the file was when it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tells the system that a range's pages, and those that came with them, may leave memory. They come
    /// back with the next read.
    pub fn release(&self, range: Range<usize>) {
        let start = range.start.saturating_sub(AROUND);
        let end = (range.end + AROUND).min(self.map.len());
        if start >= end {
            return;
        }
        // SAFETY: the pages of a file that is mapped for reading alone have no content of their own to lose. A
        // system that does not take the advice keeps them, which changes nothing else.
        let _ = unsafe {
            self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, end - start)
        };
    }
}
