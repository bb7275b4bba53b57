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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::fs;

    /// Bytes of the mapping that are in this process's memory, by the system's own count.
    fn resident(mapping: &Mapping) -> usize {
        let start = format!("{:x}-", mapping.bytes().as_ptr().addr());
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        let own = maps.lines().skip_while(|line| !line.starts_with(&start));
        let line = own.into_iter().find(|line| line.starts_with("Rss:")).unwrap();
        let kibibytes: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kibibytes << 10
    }

    #[test]
    fn released_pages_leave_memory_and_come_back() {
        const MIB: usize = 1 << 20;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        fs::write(&path, vec![3_u8; 8 * MIB]).unwrap();
        let mapping = Mapping::open(&path).unwrap();
        assert!(resident(&mapping) <= 2 * AROUND, "{}", resident(&mapping));
        let sum = |range: Range<usize>| -> u64 {
            mapping.bytes()[range].iter().map(|byte| u64::from(*byte)).sum()
        };
        let middle = 3 * MIB..6 * MIB;
        assert_eq!(sum(middle.clone()), 3 * middle.len() as u64);
        assert!(resident(&mapping) >= middle.len());
        // The last third may stay; a system with large pages may take it along.
        mapping.release(middle.start..5 * MIB);
        let left = resident(&mapping);
        assert!(left <= MIB + 2 * AROUND, "{left}");
        assert_eq!(sum(middle.clone()), 3 * middle.len() as u64);
        assert!(resident(&mapping) >= middle.len());
    }
}
