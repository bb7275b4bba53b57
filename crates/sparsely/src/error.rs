//! What can go wrong in the library, told once: the operation, what was expected, what it got.

use std::path::{Path, PathBuf};

/// Result of the library's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the library. Each variant carries the facts; the message is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor operation was called with shapes or sizes that do not fit.
    #[error(transparent)]
    Tensor(#[from] sparsely_tensor::Error),
    /// The operating system refused a file operation.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried, as a verb: `read`, `write`, `create`, …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file's content is not what its format asks for.
    #[error("`{}`: expected {expected}, got {got}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What the format asks for.
        expected: String,
        /// What the file holds.
        got: String,
    },
    /// One or more settings cannot work; all problems of a configuration are told at once.
    #[error("invalid configuration: {}", problems.join("; "))]
    Config {
        /// One sentence per problem.
        problems: Vec<String>,
    },
    /// An operation's argument is outside what it accepts.
    #[error("{op}: expected {expected}, got {got}")]
    Argument {
        /// The operation.
        op: &'static str,
        /// What it accepts.
        expected: String,
        /// What it was given.
        got: String,
    },
}

impl Error {
    /// For `map_err` on a file operation: `fs::read(path).map_err(Error::io("read", path))`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io { action, path, source }
    }

    /// A file that does not hold what its format asks for.
    pub fn format(path: &Path, expected: impl Into<String>, got: impl Into<String>) -> Error {
        Error::Format { path: path.to_path_buf(), expected: expected.into(), got: got.into() }
    }

    /// A configuration with a single problem.
    pub fn config(problem: impl Into<String>) -> Error {
        Error::Config { problems: vec![problem.into()] }
    }
}
