//! Shuffling without a list.

use moola_core::permutation;
use numpy::{PyArray1, PyReadonlyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// The key of the permutation that belongs to these numbers.
#[pyfunction]
pub fn permutation_key(words: Vec<u64>) -> u64 {
    permutation::key(&words)
}

/// For each place, the number there in the permutation of 0 to count − 1 with this key.
#[pyfunction]
pub fn permute<'py>(
    py: Python<'py>,
    positions: PyReadonlyArray1<'py, i64>,
    counts: PyReadonlyArray1<'py, i64>,
    keys: PyReadonlyArray1<'py, u64>,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let (positions, counts, keys) = (positions.as_slice()?, counts.as_slice()?, keys.as_slice()?);
    if [counts.len(), keys.len()] != [positions.len(); 2] {
        return Err(PyValueError::new_err("positions, counts and keys must have one length"));
    }
    if positions.iter().zip(counts).any(|(&p, &n)| p < 0 || p >= n || n > 1 << 62) {
        return Err(PyValueError::new_err("positions must lie between 0 and their count"));
    }
    let numbers = py.detach(|| {
        let places = positions.iter().zip(counts).zip(keys);
        places.map(|((&p, &n), &key)| permutation::at(p as u64, n as u64, key) as i64).collect::<Vec<_>>()
    });
    Ok(PyArray1::from_vec(py, numbers))
}
