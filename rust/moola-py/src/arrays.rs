//! Loads NumPy's C functions, which rust-numpy needs when it first sees an array.
//!
//! Without a GIL: an atomic flag records that they are loaded. Two threads that both find it unset do the
//! same work twice.

use std::sync::atomic::{AtomicBool, Ordering};

use numpy::npyffi::is_numpy_2;
use pyo3::prelude::*;

static READY: AtomicBool = AtomicBool::new(false);

/// Loads NumPy's functions, so that a later call cannot be interrupted while it loads them.
///
/// rust-numpy runs Python to find them, and panics if that fails. A Ctrl-C in that millisecond would cause a
/// panic. So SIGINT is blocked in this thread until they are loaded.
#[pyfunction]
pub fn load_numpy(py: Python<'_>) -> PyResult<()> {
    if READY.load(Ordering::Relaxed) {
        return Ok(());
    }
    let signal = py.import("signal")?;
    // This part takes long, and may be interrupted like any import.
    py.import("numpy.lib")?;
    let waiting = (signal.getattr("SIGINT")?,);
    let before = signal.call_method1("pthread_sigmask", (signal.getattr("SIG_BLOCK")?, waiting))?;
    // A signal that arrived just before is raised here, not later.
    let ready = py.check_signals().map(|()| is_numpy_2(py));
    signal.call_method1("pthread_sigmask", (signal.getattr("SIG_SETMASK")?, before))?;
    READY.store(ready.is_ok(), Ordering::Relaxed);
    ready.map(drop)
}
