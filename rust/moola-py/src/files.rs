//! Hashes and headers of a store's files.
//!
//! Without a GIL: there is no state.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use moola_core::{hash, npy};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::to_py;
use crate::worker;

/// The BLAKE3 hash of a file, as 64 hexadecimal digits. A relative path starts at the open directory
/// `dir_fd`.
#[pyfunction]
#[pyo3(signature = (path, *, dir_fd=None))]
pub fn hash_file(py: Python<'_>, path: PathBuf, dir_fd: Option<i32>) -> PyResult<String> {
    if dir_fd.is_some_and(|fd| fd < 0) {
        return Err(PyValueError::new_err("dir_fd must be an open directory"));
    }
    // SAFETY: it is not -1, and the caller keeps it open, as with every `dir_fd` in Python's os module. A
    // closed one only gives an error from the system.
    let directory = dir_fd.map(|fd| unsafe { BorrowedFd::borrow_raw(fd) });
    let size = hash::size(&path, directory).map_err(|e| to_py(py, e))?;
    // A bar is 32 bytes.
    worker::run_over(py, size as usize / 32, |cancel| hash::hash_file(&path, directory, cancel))
        .map(|hash| hash.to_hex().to_string())
}

/// The first 128 bytes of the `.npy` file of a C-ordered array, as `np.save` writes them. A store accepts no
/// other header.
#[pyfunction]
pub fn npy_header<'py>(py: Python<'py>, descr: &str, shape: Vec<u64>) -> PyResult<Bound<'py, PyBytes>> {
    if descr.len() > 3 || shape.len() > 3 {
        return Err(PyValueError::new_err(
            "stores have arrays of plain numbers and at most three dimensions",
        ));
    }
    let header = npy::header(descr, &shape).map_err(|e| to_py(py, e))?;
    Ok(PyBytes::new(py, &header))
}
