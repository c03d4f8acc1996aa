//! NumPy's own functions, which rust-numpy asks for when an array is first seen.
//!
//! Without a GIL: an atomic flag says that they are there. Two threads that both find it unset do the same work twice.

use std::sync::atomic::{AtomicBool, Ordering};

use numpy::npyffi::is_numpy_2;
use pyo3::prelude::*;

static READY: AtomicBool = AtomicBool::new(false);

/// Loads NumPy's functions, so that a later call cannot be interrupted while it loads them.
///
/// rust-numpy panics where that fails, and it runs Python to find them: a Ctrl-C in that millisecond would end in a panic.
/// So SIGINT waits, in this thread, until they are there.
#[pyfunction]
pub fn load_numpy(py: Python<'_>) -> PyResult<()> {
    if READY.load(Ordering::Relaxed) {
        return Ok(());
    }
    let signal = py.import("signal")?;
    // What takes long, and may be interrupted like any import.
    py.import("numpy.lib")?;
    let waiting = (signal.getattr("SIGINT")?,);
    let before = signal.call_method1("pthread_sigmask", (signal.getattr("SIG_BLOCK")?, waiting))?;
    // A signal that came just before is raised here, not later.
    let ready = py.check_signals().map(|()| is_numpy_2(py));
    signal.call_method1("pthread_sigmask", (signal.getattr("SIG_SETMASK")?, before))?;
    READY.store(ready.is_ok(), Ordering::Relaxed);
    ready.map(drop)
}
