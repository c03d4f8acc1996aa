//! Converts the engine's errors to Python exceptions, the classes of `moola.errors`. This happens only here.
//!
//! Without a GIL: there is no state.

use moola_core::error::Refusal;
use moola_core::refusals::{Refusals, Sample};
use moola_core::{Bar, Error};
use pyo3::exceptions::{PyIndexError, PyKeyboardInterrupt, PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

/// The Python exception for an engine error.
pub fn to_py(py: Python<'_>, error: Error) -> PyErr {
    match build(py, error) {
        Ok(error) => error,
        Err(error) => error,
    }
}

fn build(py: Python<'_>, error: Error) -> PyResult<PyErr> {
    let classes = py.import("moola.errors")?;
    let raise = |name: &str, args: Vec<Bound<'_, PyAny>>| -> PyResult<PyErr> {
        let args = pyo3::types::PyTuple::new(py, args)?;
        Ok(PyErr::from_value(classes.getattr(name)?.call1(args)?))
    };
    let text = |s: String| s.into_pyobject(py).map(Bound::into_any).map_err(PyErr::from);
    match error {
        Error::Bars(refusals) => {
            let (counts, problems) = refusals_to_py(py, &refusals)?;
            raise("BarError", vec![counts.into_any(), problems.into_any()])
        }
        Error::Config { name, problem } => raise("ConfigError", vec![text(name.into())?, text(problem)?]),
        Error::State(problem) => raise("StateError", vec![text(format!("stream state refused: {problem}"))?]),
        Error::Timestamp(problem) => raise("TimestampError", vec![text(problem.into_owned())?]),
        Error::Damaged { path, problem } => {
            let folder = path.parent().unwrap_or(&path).display().to_string();
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            raise("DamagedStoreError", vec![text(folder)?, text(name)?, text(problem)?])
        }
        Error::Publish { refusal, path, problem, advice } => {
            let class = match refusal {
                Refusal::Exists => "StoreExistsError",
                Refusal::Conflict => "BuildConflictError",
                Refusal::Unable => "StoreWriteError",
            };
            raise(class, vec![path.into_pyobject(py)?, text(problem)?, text(advice.into())?])
        }
        // The errno picks the subclass: FileNotFoundError, PermissionError, …
        Error::Io { path, source } => Ok(match source.raw_os_error() {
            Some(errno) => {
                let message = source.to_string();
                let message = message.split(" (os error").next().unwrap_or_default().to_owned();
                PyOSError::new_err((errno, message, path.display().to_string()))
            }
            None => PyOSError::new_err(format!("{}: {source}", path.display())),
        }),
        Error::Cancelled => Ok(PyKeyboardInterrupt::new_err(())),
        Error::NoWindow(..) => Ok(PyIndexError::new_err(error.to_string())),
        Error::Lengths { .. } | Error::Windows(_) => Ok(PyValueError::new_err(error.to_string())),
    }
}

/// As [`to_py`], with advice for bars that a stream refuses for their times. `any_sign`: the feature set also takes prices
/// that are zero or negative, where an option says so.
pub fn with_advice(py: Python<'_>, error: Error, on_times: Option<&str>, any_sign: bool) -> PyErr {
    let Error::Bars(refusals) = &error else { return to_py(py, error) };
    let built = (|| {
        let (counts, problems) = refusals_to_py(py, refusals)?;
        let room = py.import("moola.errors.bars")?;
        let better =
            any_sign.then(|| room.getattr("advice_on_nonpositive")?.call1((&problems,))).transpose()?;
        let class = room.getattr("BarError")?;
        let error = class.call1((counts, problems, on_times.unwrap_or_default(), better))?;
        Ok(PyErr::from_value(error))
    })();
    built.unwrap_or_else(|error| error)
}

/// The facts about a refused bar, as the fields of `moola.errors.Problem`.
pub fn facts<'py>(py: Python<'py>, sample: &Sample) -> PyResult<Bound<'py, PyDict>> {
    let facts = PyDict::new(py);
    facts.set_item("kind", sample.fault.name())?;
    facts.set_item("row", sample.row)?;
    facts.set_item("column", &sample.column)?;
    match sample.timestamp {
        // A float64 has too few digits for a time.
        Some(timestamp) if sample.column == "timestamp" => facts.set_item("value", timestamp)?,
        _ => facts.set_item("value", sample.value)?,
    }
    facts.set_item("timestamp", sample.timestamp)?;
    let Bar { open, high, low, close } = sample.bar;
    facts.set_item("bar", (open, high, low, close))?;
    facts.set_item("previous", sample.previous)?;
    Ok(facts)
}

/// The counts as a dict of kind to count, and the samples as `moola.errors.Problem`s.
pub fn refusals_to_py<'py>(
    py: Python<'py>,
    refusals: &Refusals,
) -> PyResult<(Bound<'py, PyDict>, Bound<'py, PyList>)> {
    let counts = PyDict::new(py);
    for (fault, count) in refusals.counts() {
        counts.set_item(fault.name(), count)?;
    }
    let class = py.import("moola.errors")?.getattr("Problem")?;
    let problems = PyList::empty(py);
    for sample in refusals.samples() {
        problems.append(class.call((), Some(&facts(py, sample)?))?)?;
    }
    Ok((counts, problems))
}
