//! What the targets share: the readers take files, so there is a folder in memory for them.

use sparsely::Error;
use sparsely::checkpoint::Arrays;
use tempfile::TempDir;

thread_local! {
    /// The folder of this process.
    pub static FOLDER: TempDir =
        tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().expect("a folder"));
}

/// Writes a file anew.
pub fn write(folder: &TempDir, name: &str, bytes: &[u8]) {
    std::fs::write(folder.path().join(name), bytes).expect("a file");
}

/// Arrays are whole, and errors a line without control codes.
///
/// # Panics
/// If not.
pub fn check(read: Result<Arrays, Error>) {
    match read {
        Ok(arrays) => arrays.values().for_each(|array| {
            assert_eq!(array.shape.iter().product::<usize>(), array.values.len());
        }),
        Err(error) => {
            let line = error.to_string();
            assert!(!line.chars().any(char::is_control), "{line:?}");
        }
    }
}
