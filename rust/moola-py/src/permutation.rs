//! Shuffling without a list.
//!
//! Without a GIL: there is no state.

use moola_core::permutation;
use numpy::{PyArray1, PyReadonlyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// The key of the permutation that belongs to these numbers.
#[pyfunction]
pub fn permutation_key(words: Vec<u64>) -> u64 {
    permutation::key(&words)
}

/// The number at each position of the permutation of 0 to count − 1 with this key.
#[pyfunction]
pub fn permute<'py>(
    py: Python<'py>,
    positions: PyReadonlyArray1<'py, i64>,
    count: i64,
    key: u64,
) -> PyResult<Bound<'py, PyArray1<u64>>> {
    let positions = positions.as_slice()?;
    if count > 1 << 62 || positions.iter().any(|&p| p < 0 || p >= count) {
        return Err(PyValueError::new_err(
            "positions must lie between 0 and their count, which is at most 2⁶²",
        ));
    }
    let mut numbers: Vec<u64> = positions.iter().map(|&p| p as u64).collect();
    py.detach(|| permutation::permute(&mut numbers, count as u64, key));
    Ok(PyArray1::from_vec(py, numbers))
}
