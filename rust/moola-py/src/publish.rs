//! The context manager that builds a store.
//!
//! Without a GIL: a call while another thread uses the object raises a `RuntimeError`.

use std::path::{Path, PathBuf};

use moola_core::{Cancel, publish};
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;

use crate::{error, worker};

/// A temporary directory. It becomes a store if the `with` block ends without an error, and is removed
/// otherwise.
///
/// This is Rust and not Python because Ctrl-C may arrive between any two lines of Python. Here the end of
/// this object's life always removes the directory.
#[pyclass(module = "moola._core")]
pub struct Staging {
    inner: publish::Staging,
}

#[pymethods]
impl Staging {
    #[new]
    #[pyo3(signature = (store, overwrite=false))]
    fn new(py: Python<'_>, store: PathBuf, overwrite: bool) -> PyResult<Self> {
        let inner = worker::run(py, |cancel| publish::Staging::begin(&store, overwrite, cancel))?;
        Ok(Staging { inner })
    }

    /// The temporary directory. Everything is written there.
    #[getter]
    fn path(&self) -> &Path {
        self.inner.path()
    }

    /// The final path of the store.
    #[getter]
    fn store(&self) -> &Path {
        self.inner.store()
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (_kind, error, _traceback))]
    fn __exit__(
        &mut self,
        py: Python<'_>,
        _kind: Option<Bound<'_, PyAny>>,
        error: Option<Bound<'_, PyAny>>,
        _traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let inner = &mut self.inner;
        let of_the_block = error.is_some();
        let error = match error {
            Some(error) => PyErr::from_value(error),
            None => match publish(py, inner) {
                Ok(()) => return Ok(false),
                Err(error) => error,
            },
        };
        // A user who presses Ctrl-C before or during this call should not wait until gigabytes are freed.
        if error.is_instance_of::<PyKeyboardInterrupt>(py) {
            py.detach(|| inner.discard(&Cancel::raised()));
        } else {
            worker::run(py, |cancel| {
                inner.discard(cancel);
                Ok(())
            })?;
        }
        if !inner.is_published() {
            // An OSError about one of the files becomes an error about the store, with advice.
            let explain = py.import("moola.files.publishing")?.getattr("explain")?;
            let explained = explain.call1((error.value(py), inner.path(), inner.store()))?;
            if !explained.is(error.value(py)) {
                let explained = PyErr::from_value(explained);
                explained.set_cause(py, Some(error));
                return Err(explained);
            }
        }
        // False lets the exception that ended the block propagate.
        if of_the_block { Ok(false) } else { Err(error) }
    }
}

fn publish(py: Python<'_>, staging: &mut publish::Staging) -> PyResult<()> {
    worker::run(py, |cancel| staging.sync(cancel))?;
    // The last point at which Ctrl-C can stop the build.
    py.check_signals()?;
    py.detach(|| staging.commit()).map_err(|error| error::to_py(py, error))
}
