//! The context manager under which a store is built.
//!
//! Without a GIL: a call while another thread is in the object is refused with a `RuntimeError`.

use std::path::{Path, PathBuf};

use moola_core::{Cancel, publish};
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;

use crate::{error, worker};

/// A temporary directory that becomes a store when the `with` block ends well, and is removed when it does not.
///
/// All of it is here, and not in Python, because Ctrl-C may arrive between any two lines of Python: the directory is
/// removed by whatever ends this object's life.
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

    /// The temporary directory, in which everything is written.
    #[getter]
    fn path(&self) -> &Path {
        self.inner.path()
    }

    /// Where the store will stand.
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
        // A user who presses Ctrl-C, before or during this call, should not wait until gigabytes are freed.
        if error.is_instance_of::<PyKeyboardInterrupt>(py) {
            py.detach(|| inner.discard(&Cancel::raised()));
        } else {
            worker::run(py, |cancel| {
                inner.discard(cancel);
                Ok(())
            })?;
        }
        if !inner.is_published() {
            // An OSError about one of the files becomes one about the store, which says what to do.
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
    // The last moment at which Ctrl-C still finds a build to stop.
    py.check_signals()?;
    py.detach(|| staging.commit()).map_err(|error| error::to_py(py, error))
}
