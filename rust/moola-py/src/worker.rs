//! Runs long work on its own thread, while the calling thread releases the GIL and watches for Ctrl-C.
//!
//! Without a GIL: there is no state beyond the call.

use std::sync::mpsc;
use std::time::Duration;

use moola_core::{Cancel, Error};
use pyo3::prelude::*;

use crate::error;

/// How often the caller checks for signals: well below the half second that Ctrl-C may take.
const LOOK: Duration = Duration::from_millis(20);

/// The engine finishes this many bars before a user could press Ctrl-C.
const SMALL: usize = 50_000;

/// [`run`] for work that grows with the number of bars. Work of a few milliseconds runs on the calling thread.
pub fn run_over<T: Send>(
    py: Python<'_>,
    bars: usize,
    work: impl FnOnce(&Cancel) -> Result<T, Error> + Send,
) -> PyResult<T> {
    run_over_or(py, bars, work, |e| error::to_py(py, e))
}

/// [`run_over`], with the Python exception that `refused` makes of an error.
pub fn run_over_or<T: Send>(
    py: Python<'_>,
    bars: usize,
    work: impl FnOnce(&Cancel) -> Result<T, Error> + Send,
    refused: impl FnOnce(Error) -> PyErr,
) -> PyResult<T> {
    if bars < SMALL {
        return py.detach(|| work(&Cancel::new())).map_err(refused);
    }
    watched(py, work)?.map_err(refused)
}

/// Runs `work` on another thread and returns its result. If a signal handler raises (Ctrl-C), this cancels
/// the work, waits until it stops, and raises the handler's exception.
pub fn run<T: Send>(py: Python<'_>, work: impl FnOnce(&Cancel) -> Result<T, Error> + Send) -> PyResult<T> {
    watched(py, work)?.map_err(|e| error::to_py(py, e))
}

fn watched<T: Send>(
    py: Python<'_>,
    work: impl FnOnce(&Cancel) -> Result<T, Error> + Send,
) -> PyResult<Result<T, Error>> {
    let cancel = Cancel::new();
    py.detach(|| {
        let (sender, receiver) = mpsc::channel();
        std::thread::scope(|scope| {
            let cancel = &cancel;
            let worker = scope.spawn(move || {
                let outcome = work(cancel);
                let _ = sender.send(());
                outcome
            });
            let mut interrupted = None;
            // A panicking worker drops its sender, which ends the loop too.
            while let Err(mpsc::RecvTimeoutError::Timeout) = receiver.recv_timeout(LOOK) {
                if interrupted.is_none()
                    && let Err(raised) = Python::attach(|py| py.check_signals())
                {
                    cancel.cancel();
                    interrupted = Some(raised);
                }
            }
            match (worker.join(), interrupted) {
                (Ok(_), Some(raised)) => Err(raised),
                (Ok(outcome), None) => Ok(outcome),
                (Err(panic), _) => std::panic::resume_unwind(panic),
            }
        })
    })
}
