//! What an operation says when it is called with what it cannot take.

use std::path::PathBuf;

/// Result of the engine's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the engine. Panics are kept for the engine's own bugs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file whose values are not those that were written.
    #[error(
        "`{}`: expected checksum {expected:08x} of {what}, as its header says, got {got:08x}",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which of its values.
        what: String,
        /// CRC-32 of what was written.
        expected: u32,
        /// CRC-32 of what is there.
        got: u32,
    },
    /// Shapes that do not fit the operation.
    #[error("{op}: expected {expected}, got {got}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// The shape it takes.
        expected: String,
        /// The shape it was given.
        got: String,
    },
}

impl Error {
    /// A shape that does not fit `op`.
    pub fn shape(op: &'static str, expected: impl Into<String>, got: impl Into<String>) -> Error {
        Error::Shape { op, expected: expected.into(), got: got.into() }
    }
}
