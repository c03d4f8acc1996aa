//! Features and swings over whole columns, and the live stream.
//!
//! Without a GIL: a stream has a lock, so that the calls of several threads come one after another. There is no other state.

use std::mem::MaybeUninit;
use std::sync::{Mutex, MutexGuard, PoisonError};

use moola_core::error::Error;
use moola_core::features::{self, Engine, FeatureSet, Feed, Given, Parameters, Stream, Unit};
use moola_core::{Bar, Bars, Cancel, Prices};
use numpy::{PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1};
use pyo3::Borrowed;
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::{PyBytes, PyInt};

use crate::error::{to_py, with_advice};
use crate::worker;

/// The fields of `moola.FeatureConfig`, in order; `None` means the defaults.
pub type ParameterTuple = (u32, u32, f64, f64, u32, u32);

type SwingArrays<'py> = (
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<i8>>,
    Bound<'py, PyArray1<f64>>,
);

/// Name, lowest and highest value.
type Described = (&'static str, Option<f64>, Option<f64>);

pub fn parameters(tuple: Option<ParameterTuple>) -> Parameters {
    let Some((range_ema_period, atr_period, zigzag_k, swing_time_scale, zscore_period, warmup_bars)) = tuple
    else {
        return Parameters::default();
    };
    Parameters { range_ema_period, atr_period, zigzag_k, swing_time_scale, zscore_period, warmup_bars }
}

fn as_tuple(p: &Parameters) -> ParameterTuple {
    (p.range_ema_period, p.atr_period, p.zigzag_k, p.swing_time_scale, p.zscore_period, p.warmup_bars)
}

pub fn feature_set(py: Python<'_>, name: &str) -> PyResult<FeatureSet> {
    FeatureSet::from_name(name).map_err(|e| to_py(py, e))
}

/// Which prices bars may have.
pub fn prices(allow_nonpositive: bool) -> Prices {
    if allow_nonpositive { Prices::AnySign } else { Prices::Positive }
}

/// Refuses the option where the formulas of the set need positive prices.
#[pyfunction]
pub fn check_nonpositive(py: Python<'_>, feature_set: &str, allow_nonpositive: bool) -> PyResult<()> {
    self::feature_set(py, feature_set)?.check_prices(prices(allow_nonpositive)).map_err(|e| to_py(py, e))
}

/// Whether prices of the set may be zero or negative.
#[pyfunction]
pub fn feature_set_allows_nonpositive(py: Python<'_>, feature_set: &str) -> PyResult<bool> {
    Ok(self::feature_set(py, feature_set)?.any_sign())
}

/// The names of the feature sets, the default first.
#[pyfunction]
pub fn feature_sets() -> Vec<&'static str> {
    FeatureSet::ALL.map(FeatureSet::name).to_vec()
}

/// The name and the lowest and highest value of every feature of a set. A feature without bounds has (None,
/// None).
#[pyfunction]
#[pyo3(signature = (feature_set, parameters=None))]
pub fn describe_features(
    py: Python<'_>,
    feature_set: &str,
    parameters: Option<ParameterTuple>,
) -> PyResult<Vec<Described>> {
    let parameters = self::parameters(parameters);
    parameters.check().map_err(|e| to_py(py, e))?;
    let features = self::feature_set(py, feature_set)?.features(&parameters);
    Ok(features.into_iter().map(|f| (f.name, f.range.map(|r| r.0), f.range.map(|r| r.1))).collect())
}

/// The names of the parameters, in the order of a tuple of parameters.
#[pyfunction]
pub fn parameter_names() -> Vec<&'static str> {
    Parameters::NAMES.to_vec()
}

/// The names of the parameters that the values of a set depend on, in the order of `parameter_names`.
#[pyfunction]
pub fn feature_set_depends_on(py: Python<'_>, feature_set: &str) -> PyResult<Vec<&'static str>> {
    Ok(self::feature_set(py, feature_set)?.depends_on().to_vec())
}

/// The default parameters.
#[pyfunction]
pub fn default_parameters() -> ParameterTuple {
    as_tuple(&Parameters::default())
}

#[pyfunction]
#[pyo3(signature = (
    open, high, low, close, feature_set, parameters=None, out=None, allow_nonpositive=false
))]
#[expect(clippy::too_many_arguments, reason = "four columns are four arguments")]
pub fn compute_features<'py>(
    py: Python<'py>,
    open: PyReadonlyArray1<'py, f64>,
    high: PyReadonlyArray1<'py, f64>,
    low: PyReadonlyArray1<'py, f64>,
    close: PyReadonlyArray1<'py, f64>,
    feature_set: &str,
    parameters: Option<ParameterTuple>,
    out: Option<Bound<'py, PyArray2<f32>>>,
    allow_nonpositive: bool,
) -> PyResult<Bound<'py, PyArray2<f32>>> {
    let set = self::feature_set(py, feature_set)?;
    let mut engine = Engine::new(set, self::parameters(parameters)).map_err(|e| to_py(py, e))?;
    engine.set_prices(prices(allow_nonpositive)).map_err(|e| to_py(py, e))?;
    let refused = |error| with_advice(py, error, None, set.any_sign());
    let bars = bars(py, &open, &high, &low, &close)?;
    let Some(out) = out else {
        let (out, rows) = new_rows(py, bars.len(), set.width());
        let work = |cancel: &Cancel| features::compute_new(&mut engine, bars, rows, cancel);
        worker::run_over_or(py, bars.len(), work, refused)?;
        return Ok(out);
    };
    let mut writable = out.try_readwrite()?;
    let rows = writable.as_slice_mut()?;
    if rows.len() != bars.len() * set.width() {
        return Err(pyo3::exceptions::PyValueError::new_err("out has the wrong shape"));
    }
    let work = |cancel: &Cancel| features::compute(&mut engine, bars, rows, cancel);
    worker::run_over_or(py, bars.len(), work, refused)?;
    Ok(out)
}

#[pyfunction]
#[pyo3(signature = (open, high, low, close, parameters=None, allow_nonpositive=false))]
pub fn compute_swings<'py>(
    py: Python<'py>,
    open: PyReadonlyArray1<'py, f64>,
    high: PyReadonlyArray1<'py, f64>,
    low: PyReadonlyArray1<'py, f64>,
    close: PyReadonlyArray1<'py, f64>,
    parameters: Option<ParameterTuple>,
    allow_nonpositive: bool,
) -> PyResult<SwingArrays<'py>> {
    let parameters = self::parameters(parameters);
    let bars = bars(py, &open, &high, &low, &close)?;
    let work =
        |cancel: &Cancel| features::swings::swings(bars, &parameters, prices(allow_nonpositive), cancel);
    let swings = worker::run_over_or(py, bars.len(), work, |error| with_advice(py, error, None, true))?;
    Ok((
        PyArray1::from_vec(py, swings.high_index),
        PyArray1::from_vec(py, swings.low_index),
        PyArray1::from_vec(py, swings.leg),
        PyArray1::from_vec(py, swings.atr),
    ))
}

/// A new array and its uninitialised memory. Zeroing it first would cost up to a sixth of the whole time.
/// After an error the array must be dropped.
fn new_rows<'py>(
    py: Python<'py>,
    rows: usize,
    width: usize,
) -> (Bound<'py, PyArray2<f32>>, &'py mut [MaybeUninit<f32>]) {
    // SAFETY: no value is read as a number before it is written.
    let array = unsafe { PyArray2::<f32>::new(py, [rows, width], false) };
    // SAFETY: the memory belongs to a new C-ordered array, which no other code can access. The callers use it
    // while they hold the array, and hand out the array after their last use of it.
    let memory = unsafe { std::slice::from_raw_parts_mut(array.data().cast(), rows * width) };
    (array, memory)
}

fn bars<'a>(
    py: Python<'_>,
    open: &'a PyReadonlyArray1<'_, f64>,
    high: &'a PyReadonlyArray1<'_, f64>,
    low: &'a PyReadonlyArray1<'_, f64>,
    close: &'a PyReadonlyArray1<'_, f64>,
) -> PyResult<Bars<'a>> {
    Bars::new(open.as_slice()?, high.as_slice()?, low.as_slice()?, close.as_slice()?)
        .map_err(|e| to_py(py, e))
}

/// The time of one bar: a whole number in the feed's unit, or what Python's `instant` reads as a date and time.
struct Time(Given);

impl<'py> FromPyObject<'_, 'py> for Time {
    type Error = PyErr;

    #[inline]
    fn extract(given: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        match given.extract::<i64>() {
            Ok(number) => Ok(Time(Given::Number(number))),
            Err(_) => other_time(given),
        }
    }
}

#[cold]
fn other_time(given: Borrowed<'_, '_, PyAny>) -> PyResult<Time> {
    let py = given.py();
    if given.is_instance_of::<PyInt>() {
        let number = given.str()?;
        let problem = format!("timestamp {number} lies outside the years 1678 to 2261 in every unit");
        return Err(to_py(py, Error::Timestamp(problem.into())));
    }
    let read = py.import("moola.features.feed_times")?.getattr("instant")?;
    Ok(Time(Given::Instant(read.call1((given,))?.extract()?)))
}

/// The engine's part of `moola.FeatureStream`.
#[pyclass(frozen, subclass, module = "moola._core")]
pub struct FeatureStream(Mutex<Stream>);

impl FeatureStream {
    /// Waits for another thread's call, without the GIL. A call that panicked left whole bars only.
    #[inline]
    fn lock(&self, py: Python<'_>) -> MutexGuard<'_, Stream> {
        match self.0.try_lock() {
            Ok(stream) => stream,
            Err(_) => self.0.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// The Python error. Making it runs Python, so the lock must be free.
    #[cold]
    fn refused(&self, py: Python<'_>, error: Error) -> PyErr {
        let (closes, set) = {
            let stream = self.lock(py);
            (stream.feed().stamped_at_close(), stream.engine().set())
        };
        let advice = closes.then_some(
            "this stream takes each time as the close of its bar; if yours are the open, give stamp='open'",
        );
        with_advice(py, error, advice, set.any_sign())
    }
}

#[pymethods]
impl FeatureStream {
    #[new]
    #[pyo3(signature = (feature_set, parameters=None, reset_on_gap=None, allow_nonpositive=false))]
    fn new(
        py: Python<'_>,
        feature_set: &str,
        parameters: Option<ParameterTuple>,
        reset_on_gap: Option<i64>,
        allow_nonpositive: bool,
    ) -> PyResult<Self> {
        let set = self::feature_set(py, feature_set)?;
        let mut stream =
            Stream::new(set, self::parameters(parameters), reset_on_gap).map_err(|e| to_py(py, e))?;
        stream.set_prices(prices(allow_nonpositive)).map_err(|e| to_py(py, e))?;
        Ok(FeatureStream(Mutex::new(stream)))
    }

    /// Sets what the times of the next bars mean.
    fn set_feed(
        &self,
        py: Python<'_>,
        stamped_at_close: bool,
        bar_interval: Option<i64>,
        unit: &str,
    ) -> PyResult<()> {
        let feed = Unit::from_name(unit)
            .and_then(|unit| Feed::new(stamped_at_close, bar_interval, unit))
            .map_err(|e| to_py(py, e))?;
        self.lock(py).set_feed(feed);
        Ok(())
    }

    #[pyo3(signature = (open, high, low, close, timestamp=None))]
    fn push<'py>(
        &self,
        py: Python<'py>,
        open: f64,
        high: f64,
        low: f64,
        close: f64,
        timestamp: Option<Time>,
    ) -> PyResult<Bound<'py, PyArray1<f32>>> {
        let mut stream = self.lock(py);
        let time = match timestamp {
            None => Ok(None),
            Some(Time(given)) => stream.open_of(given).map(Some),
        };
        let row = time.and_then(|time| stream.push_row(&Bar { open, high, low, close }, time));
        match row {
            Ok(row) => Ok(PyArray1::from_slice(py, row)),
            Err(error) => {
                drop(stream);
                Err(self.refused(py, error))
            }
        }
    }

    /// `instants`: the times are UTC nanoseconds; the feed's unit does not apply.
    #[pyo3(signature = (open, high, low, close, timestamp=None, instants=false))]
    #[expect(clippy::too_many_arguments, reason = "four columns are four arguments")]
    fn push_many<'py>(
        &self,
        py: Python<'py>,
        open: PyReadonlyArray1<'py, f64>,
        high: PyReadonlyArray1<'py, f64>,
        low: PyReadonlyArray1<'py, f64>,
        close: PyReadonlyArray1<'py, f64>,
        timestamp: Option<PyReadonlyArray1<'py, i64>>,
        instants: bool,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let bars = bars(py, &open, &high, &low, &close)?;
        let timestamps = timestamp.as_ref().map(|t| t.as_slice()).transpose()?;
        if timestamps.is_some_and(|t| t.len() != bars.len()) {
            return Err(pyo3::exceptions::PyValueError::new_err(
                "timestamp must be as long as the four columns",
            ));
        }
        let width = self.lock(py).engine().width();
        let (out, rows) = new_rows(py, bars.len(), width);
        // Locked after the GIL is released: a thread that waits for the lock never holds the GIL.
        let outcome = py.detach(|| {
            let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if stream.engine().width() != width {
                return Err(Error::State("another thread restored another feature set meanwhile"));
            }
            let times = timestamps.map(|times| stream.opens_of(times, instants)).transpose()?;
            stream.push_many_new(bars, times.as_deref(), rows)
        });
        outcome.map_err(|e| self.refused(py, e))?;
        Ok(out)
    }

    #[getter]
    fn valid(&self, py: Python<'_>) -> bool {
        self.lock(py).engine().is_valid()
    }

    #[getter]
    fn feature_set(&self, py: Python<'_>) -> &'static str {
        self.lock(py).engine().set().name()
    }

    #[getter]
    fn parameters(&self, py: Python<'_>) -> ParameterTuple {
        as_tuple(self.lock(py).engine().parameters())
    }

    #[getter]
    fn reset_on_gap(&self, py: Python<'_>) -> Option<i64> {
        self.lock(py).reset_on_gap()
    }

    #[getter]
    fn last_timestamp(&self, py: Python<'_>) -> Option<i64> {
        self.lock(py).last_timestamp()
    }

    /// Whether prices may be zero or negative.
    #[getter]
    fn allow_nonpositive(&self, py: Python<'_>) -> bool {
        self.lock(py).engine().prices() == Prices::AnySign
    }

    /// `open` or `close`.
    #[getter]
    fn stamp(&self, py: Python<'_>) -> &'static str {
        if self.lock(py).feed().stamped_at_close() { "close" } else { "open" }
    }

    #[getter]
    fn bar_interval(&self, py: Python<'_>) -> Option<i64> {
        self.lock(py).feed().bar_interval()
    }

    #[getter]
    fn unit(&self, py: Python<'_>) -> &'static str {
        self.lock(py).feed().unit().name()
    }

    /// Bars in the current segment.
    #[getter]
    fn bars(&self, py: Python<'_>) -> u64 {
        self.lock(py).engine().bars()
    }

    fn reset(&self, py: Python<'_>) {
        self.lock(py).reset();
    }

    fn state<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let state = self.lock(py).state();
        PyBytes::new(py, &state)
    }

    /// Replaces the stream's state with a saved state.
    fn restore(&self, py: Python<'_>, state: &[u8]) -> PyResult<()> {
        let restored = Stream::from_state(state).map_err(|e| to_py(py, e))?;
        *self.lock(py) = restored;
        Ok(())
    }
}
