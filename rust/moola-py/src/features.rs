//! Features and swings over whole columns, and the live stream.
//!
//! Without a GIL: while one thread pushes to a stream, a call from another thread raises a `RuntimeError`.
//! There is no other state.

use std::mem::MaybeUninit;

use moola_core::features::{self, Engine, FeatureSet, Parameters, Stream};
use moola_core::{Bar, Bars};
use numpy::{PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::to_py;
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
#[pyo3(signature = (open, high, low, close, feature_set, parameters=None, out=None))]
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
) -> PyResult<Bound<'py, PyArray2<f32>>> {
    let set = self::feature_set(py, feature_set)?;
    let mut engine = Engine::new(set, self::parameters(parameters)).map_err(|e| to_py(py, e))?;
    let bars = bars(py, &open, &high, &low, &close)?;
    let Some(out) = out else {
        let (out, rows) = new_rows(py, bars.len(), set.width());
        worker::run_over(py, bars.len(), |cancel| features::compute_new(&mut engine, bars, rows, cancel))?;
        return Ok(out);
    };
    let mut writable = out.try_readwrite()?;
    let rows = writable.as_slice_mut()?;
    if rows.len() != bars.len() * set.width() {
        return Err(pyo3::exceptions::PyValueError::new_err("out has the wrong shape"));
    }
    worker::run_over(py, bars.len(), |cancel| features::compute(&mut engine, bars, rows, cancel))?;
    Ok(out)
}

#[pyfunction]
#[pyo3(signature = (open, high, low, close, parameters=None))]
pub fn compute_swings<'py>(
    py: Python<'py>,
    open: PyReadonlyArray1<'py, f64>,
    high: PyReadonlyArray1<'py, f64>,
    low: PyReadonlyArray1<'py, f64>,
    close: PyReadonlyArray1<'py, f64>,
    parameters: Option<ParameterTuple>,
) -> PyResult<SwingArrays<'py>> {
    let parameters = self::parameters(parameters);
    let bars = bars(py, &open, &high, &low, &close)?;
    let swings =
        worker::run_over(py, bars.len(), |cancel| features::swings::swings(bars, &parameters, cancel))?;
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

/// The engine's part of `moola.FeatureStream`.
#[pyclass(subclass, module = "moola._core")]
pub struct FeatureStream(Stream);

#[pymethods]
impl FeatureStream {
    #[new]
    #[pyo3(signature = (feature_set, parameters=None, reset_on_gap=None))]
    fn new(
        py: Python<'_>,
        feature_set: &str,
        parameters: Option<ParameterTuple>,
        reset_on_gap: Option<i64>,
    ) -> PyResult<Self> {
        let set = self::feature_set(py, feature_set)?;
        let stream =
            Stream::new(set, self::parameters(parameters), reset_on_gap).map_err(|e| to_py(py, e))?;
        Ok(FeatureStream(stream))
    }

    #[pyo3(signature = (open, high, low, close, timestamp=None))]
    fn push<'py>(
        &mut self,
        py: Python<'py>,
        open: f64,
        high: f64,
        low: f64,
        close: f64,
        timestamp: Option<i64>,
    ) -> PyResult<Bound<'py, PyArray1<f32>>> {
        let row = self.0.push_row(&Bar { open, high, low, close }, timestamp).map_err(|e| to_py(py, e))?;
        Ok(PyArray1::from_slice(py, row))
    }

    #[pyo3(signature = (open, high, low, close, timestamp=None))]
    fn push_many<'py>(
        &mut self,
        py: Python<'py>,
        open: PyReadonlyArray1<'py, f64>,
        high: PyReadonlyArray1<'py, f64>,
        low: PyReadonlyArray1<'py, f64>,
        close: PyReadonlyArray1<'py, f64>,
        timestamp: Option<PyReadonlyArray1<'py, i64>>,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let bars = bars(py, &open, &high, &low, &close)?;
        let timestamps = timestamp.as_ref().map(|t| t.as_slice()).transpose()?;
        if timestamps.is_some_and(|t| t.len() != bars.len()) {
            return Err(pyo3::exceptions::PyValueError::new_err(
                "timestamp must be as long as the four columns",
            ));
        }
        let stream = &mut self.0;
        let (out, rows) = new_rows(py, bars.len(), stream.engine().width());
        py.detach(|| stream.push_many_new(bars, timestamps, rows)).map_err(|e| to_py(py, e))?;
        Ok(out)
    }

    #[getter]
    fn valid(&self) -> bool {
        self.0.engine().is_valid()
    }

    #[getter]
    fn feature_set(&self) -> &'static str {
        self.0.engine().set().name()
    }

    #[getter]
    fn parameters(&self) -> ParameterTuple {
        as_tuple(self.0.engine().parameters())
    }

    #[getter]
    fn reset_on_gap(&self) -> Option<i64> {
        self.0.reset_on_gap()
    }

    #[getter]
    fn last_timestamp(&self) -> Option<i64> {
        self.0.last_timestamp()
    }

    /// Bars in the current segment.
    #[getter]
    fn bars(&self) -> u64 {
        self.0.engine().bars()
    }

    fn reset(&mut self) {
        self.0.reset();
    }

    fn state<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.state())
    }

    /// Replaces the stream's state with a saved state.
    fn restore(&mut self, py: Python<'_>, state: &[u8]) -> PyResult<()> {
        self.0 = Stream::from_state(state).map_err(|e| to_py(py, e))?;
        Ok(())
    }
}
