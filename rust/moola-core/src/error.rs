//! The one error type of the engine. Each variant carries its facts; the binding turns them into Python's.

use std::io;
use std::path::PathBuf;

use crate::refusals::Refusals;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Columns that should describe the same bars differ in length.
    #[error("open, high, low and close must have one length, not {open}, {high}, {low} and {close}")]
    Lengths {
        /// Length of the open column.
        open: usize,
        /// Length of the high column.
        high: usize,
        /// Length of the low column.
        low: usize,
        /// Length of the close column.
        close: usize,
    },
    /// Bars that validation refuses.
    #[error("{} bars refused", .0.total())]
    Bars(Refusals),
    /// A parameter outside its range, or a name that does not exist.
    #[error("{name}: {problem}")]
    Config {
        /// The parameter.
        name: &'static str,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// Saved stream state that cannot be used.
    #[error("stream state refused: {0}")]
    State(&'static str),
    /// A timestamp is needed, or one was given that cannot be used.
    #[error("{0}")]
    Timestamp(&'static str),
    /// The operating system refused to read or write a file.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of a store is not what it should be.
    #[error("{}: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A store cannot be published under this name.
    #[error("{}: {problem}. {advice}", path.display())]
    Publish {
        /// Which of the reasons it is.
        refusal: Refusal,
        /// The store's name.
        path: PathBuf,
        /// What stands in the way.
        problem: String,
        /// What to do about it.
        advice: &'static str,
    },
    /// Arrays, windows or batches that do not fit together.
    #[error("{0}")]
    Windows(&'static str),
    /// There is no such window.
    #[error("there is no window {0}; the last of {1} is {last}", last = i128::from(*.1) - 1)]
    NoWindow(u64, u64),
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
}

/// Why a store cannot be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Something stands where the store should go.
    Exists,
    /// Another builder came first.
    Conflict,
    /// The file system cannot do it, or does not let us.
    Unable,
}

impl Error {
    /// An [`Error::Io`] about `path`, for `map_err`.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { path, source }
    }
}
