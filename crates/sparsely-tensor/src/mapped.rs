//! Files as memory.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

/// The bytes of a file, read from the disk where they are looked at.
///
/// Whoever changes or shortens the file meanwhile changes the bytes, or ends the program with a bus
/// error: it is for files that this program wrote and keeps.
#[derive(Debug)]
pub struct MappedFile {
    map: memmap2::Mmap,
}

impl MappedFile {
    /// Maps a file.
    ///
    /// # Errors
    /// If it cannot be opened or mapped.
    pub fn open(path: &Path) -> io::Result<MappedFile> {
        let file = File::open(path)?;
        // SAFETY: the map is read only, and its bytes are taken as plain numbers of which every value
        // is valid; a file that shrinks ends the program, as the type says, without touching memory
        // that is not its own.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        Ok(MappedFile { map })
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_its_bytes_and_an_empty_one_is_none() {
        let path = std::env::temp_dir().join(format!("sparsely-mapped-{}", std::process::id()));
        std::fs::write(&path, b"abc").unwrap();
        assert_eq!(&*MappedFile::open(&path).unwrap(), b"abc");
        std::fs::write(&path, b"").unwrap();
        assert_eq!(&*MappedFile::open(&path).unwrap(), b"");
        std::fs::remove_file(&path).unwrap();
        assert!(MappedFile::open(&path).is_err());
    }
}
