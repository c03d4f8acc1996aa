//! The error type of the engine. Each variant holds its facts; the Python binding converts it to an
//! exception.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

use crate::refusals::Refusals;

/// Everything that can go wrong in the engine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The columns of the same bars differ in length.
    #[error("open, high, low and close must have the same length, not {open}, {high}, {low} and {close}")]
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
    /// The check has refused bars.
    #[error("{} bars refused", .0.total())]
    Bars(Refusals),
    /// A parameter lies outside its range, or a name does not exist.
    #[error("{name}: {problem}")]
    Config {
        /// The parameter.
        name: &'static str,
        /// What is wrong with it, and what is allowed.
        problem: String,
    },
    /// A saved stream state cannot be used.
    #[error("stream state refused: {0}")]
    State(&'static str),
    /// A timestamp is missing or cannot be used.
    #[error("{0}")]
    Timestamp(Cow<'static, str>),
    /// The operating system refused to read or write a file.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file of a store is damaged.
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
        /// The kind of refusal.
        refusal: Refusal,
        /// The store's name.
        path: PathBuf,
        /// Why it cannot be published.
        problem: String,
        /// What to do about it.
        advice: &'static str,
    },
    /// Arrays, windows or batches do not fit together.
    #[error("{0}")]
    Windows(&'static str),
    /// A window does not exist: its number, and the number of windows.
    #[error("there is no window {0}; the last of {1} is {last}", last = i128::from(*.1) - 1)]
    NoWindow(u64, u64),
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
}

/// Why a store cannot be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Something already has the store's name.
    Exists,
    /// Another build published first.
    Conflict,
    /// The file system does not support or does not permit it.
    Unable,
}

impl Error {
    /// An [`Error::Io`] about `path`, for `map_err`.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { path, source }
    }
}
