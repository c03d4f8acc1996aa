//! The plan of a pass over a store, and the record of a file that it wrote.

use std::path::PathBuf;

use crate::bar::Prices;
use crate::features::{FeatureSet, Parameters};
use crate::npy::{Element, HEADER};

/// Everything that determines the rows of a store.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The folder of the store, finished or being built.
    pub folder: PathBuf,
    /// Number of bars in all segments.
    pub rows: u64,
    /// First row and number of rows of every segment, in order and without gaps.
    pub segments: Vec<(u64, u64)>,
    /// The feature set.
    pub set: FeatureSet,
    /// Its parameters.
    pub parameters: Parameters,
    /// Which prices bars may have.
    pub prices: Prices,
    /// Number of computing threads.
    pub threads: usize,
}

/// A file of a store: its name, its array, its size and its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The file's name.
    pub name: String,
    /// The shape of its array.
    pub shape: Vec<u64>,
    /// NumPy's name for the type of the values.
    pub dtype: &'static str,
    /// The file's size in bytes.
    pub bytes: u64,
    /// The file's BLAKE3 hash in hex.
    pub blake3: String,
}

impl Written {
    /// A `.npy` file of this shape.
    pub(super) fn array<T: Element>(name: &str, shape: &[u64], hash: blake3::Hash) -> Self {
        Written {
            name: name.to_owned(),
            shape: shape.to_vec(),
            dtype: T::DESCR,
            bytes: HEADER as u64 + shape.iter().product::<u64>() * size_of::<T>() as u64,
            blake3: hash.to_hex().to_string(),
        }
    }
}
