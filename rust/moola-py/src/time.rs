//! Reading columns of times. Texts come in Arrow's layout, without a copy.
//!
//! Without a GIL: there is no state.

use moola_core::Error;
use moola_core::time::{self, Notation, Order, Pattern, Texts, Zone};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::error;

type Bools<'py> = Option<PyReadonlyArray1<'py, bool>>;
type Longs<'py> = PyReadonlyArray1<'py, i64>;
type Bytes<'py> = PyReadonlyArray1<'py, u8>;

fn texts<'a>(offsets: &'a Longs<'_>, data: &'a Bytes<'_>, null: &'a Bools<'_>) -> PyResult<Texts<'a>> {
    let null = null.as_ref().map(|null| null.as_slice()).transpose()?;
    Texts::new(offsets.as_slice()?, data.as_slice()?, null)
        .ok_or_else(|| PyValueError::new_err("offsets do not describe texts within data"))
}

fn zone(py: Python<'_>, name: &str) -> PyResult<Zone> {
    name.parse().map_err(|_| {
        error::to_py(py, Error::Config { name: "tz", problem: format!("{name:?} is not a time zone") })
    })
}

/// UTC nanoseconds or a `TIME_*` reason for every text, and the number of times without an offset of their
/// own.
#[pyfunction]
#[pyo3(signature = (offsets, data, null, notation, tz))]
pub fn parse_times<'py>(
    py: Python<'py>,
    offsets: Longs<'py>,
    data: Bytes<'py>,
    null: Bools<'py>,
    notation: &str,
    tz: Option<&str>,
) -> PyResult<(Bound<'py, PyArray1<i64>>, usize)> {
    let texts = texts(&offsets, &data, &null)?;
    let zone = tz.map(|name| zone(py, name)).transpose()?;
    let notation = match notation {
        "iso" => Notation::Iso,
        "month_first" => Notation::Slashed(Order::MonthFirst),
        "day_first" => Notation::Slashed(Order::DayFirst),
        "year_first" => Notation::Slashed(Order::YearFirst),
        format => Notation::Pattern(Pattern::new(format).map_err(|e| error::to_py(py, e))?),
    };
    let (times, locals) = py.detach(|| time::parse(texts, &notation, zone));
    Ok((times.into_pyarray(py), locals))
}

/// Every text as a whole number, or a `TIME_*` reason.
#[pyfunction]
pub fn parse_epochs<'py>(
    py: Python<'py>,
    offsets: Longs<'py>,
    data: Bytes<'py>,
    null: Bools<'py>,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let texts = texts(&offsets, &data, &null)?;
    Ok(py.detach(|| time::parse_epochs(texts)).into_pyarray(py))
}

/// For each order (month, day or year first), the index of the first text that is a date only in another
/// order. Also the index of the first text that means different dates with the month first and with the day
/// first.
#[pyfunction]
pub fn fit_dates<'py>(
    py: Python<'py>,
    offsets: Longs<'py>,
    data: Bytes<'py>,
    null: Bools<'py>,
) -> PyResult<([Option<usize>; 3], Option<usize>)> {
    let texts = texts(&offsets, &data, &null)?;
    let fit = py.detach(|| time::fit_dates(texts));
    Ok((fit.misfits, fit.differs))
}

/// Converts nanoseconds of local time to UTC nanoseconds, or a `TIME_*` reason.
#[pyfunction]
pub fn localize<'py>(py: Python<'py>, local: Longs<'py>, tz: &str) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let zone = zone(py, tz)?;
    let local = local.as_slice()?;
    Ok(py.detach(|| time::localize(local, zone)).into_pyarray(py))
}

/// The first instant at which clocks of a zone show a local time, given in seconds. None if it does not fit
/// in int64 nanoseconds.
#[pyfunction]
pub fn first_instant(py: Python<'_>, local: i64, tz: &str) -> PyResult<Option<i64>> {
    Ok(time::first_instant(local, zone(py, tz)?))
}

/// The notation of a text: `"iso"`, `"slashed"`, `"epoch"`, or None if it fits none of them.
#[pyfunction]
pub fn time_notation(text: &str) -> Option<&'static str> {
    time::notation(text)
}

/// Whether times of this `strptime` pattern include their offset. ConfigError if it is not a pattern.
#[pyfunction]
pub fn time_format_has_offset(py: Python<'_>, time_format: &str) -> PyResult<bool> {
    let pattern = Pattern::new(time_format).map_err(|e| error::to_py(py, e))?;
    Ok(pattern.has_offset())
}

/// The names of all time zones.
#[pyfunction]
pub fn time_zones() -> Vec<&'static str> {
    time::zones().collect()
}

/// Whether a text names a zone of the IANA database, or is an offset such as `UTC+2`.
#[pyfunction]
pub fn is_time_zone(name: &str) -> bool {
    name.parse::<Zone>().is_ok()
}
