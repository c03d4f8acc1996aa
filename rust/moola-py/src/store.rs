//! Writes batches of bars as the files of a store, and verifies such files.
//!
//! Without a GIL: a call while another thread uses an `Ingest` raises a `RuntimeError`. There is no other
//! state.

use std::path::PathBuf;

use moola_core::Bars;
use moola_core::ingest::{self, Batch, OddBar, Options};
use moola_core::interval::{self, Rule};
use moola_core::refusals::Refusals;
use moola_core::store::{self, Difference, Plan, Sample, Written};
use numpy::PyReadonlyArray1;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::error::{facts, to_py};
use crate::features::{ParameterTuple, feature_set, parameters, prices};
use crate::worker;

/// Takes batches of bars and writes `bars.npy`, `timestamps.npy` and `extra.npy`.
#[pyclass(module = "moola._core")]
pub struct Ingest {
    inner: Option<ingest::Ingest>,
}

const FINISHED: &str = "this Ingest is finished";

#[pymethods]
impl Ingest {
    #[new]
    #[pyo3(signature = (
        folder, *, extra, drop_bad_bars, dedup_identical, sort, reset_on_gap, stamped_at_close, bar_interval=None,
        of_each_symbol=false, collect_rejects=false, allow_nonpositive=false
    ))]
    #[expect(clippy::too_many_arguments, reason = "keywords, each an option of the same name")]
    fn new(
        py: Python<'_>,
        folder: PathBuf,
        extra: Vec<String>,
        drop_bad_bars: bool,
        dedup_identical: bool,
        sort: bool,
        reset_on_gap: Option<i64>,
        stamped_at_close: bool,
        bar_interval: Option<i64>,
        of_each_symbol: bool,
        collect_rejects: bool,
        allow_nonpositive: bool,
    ) -> PyResult<Self> {
        let options = Options {
            drop_bad_bars,
            collect_rejects,
            dedup_identical,
            sort,
            reset_on_gap,
            stamped_at_close,
            bar_interval: rule(bar_interval, of_each_symbol)?,
            prices: prices(allow_nonpositive),
            extra,
        };
        let inner = ingest::Ingest::new(folder, options).map_err(|e| to_py(py, e))?;
        Ok(Ingest { inner: Some(inner) })
    }

    #[pyo3(signature = (file, first_row, timestamp, open, high, low, close, extra, rows=None, symbol=None, contract=None))]
    #[expect(clippy::too_many_arguments, reason = "a batch is that many columns")]
    fn push<'py>(
        &mut self,
        py: Python<'py>,
        file: u32,
        first_row: u64,
        timestamp: PyReadonlyArray1<'py, i64>,
        open: PyReadonlyArray1<'py, f64>,
        high: PyReadonlyArray1<'py, f64>,
        low: PyReadonlyArray1<'py, f64>,
        close: PyReadonlyArray1<'py, f64>,
        extra: Vec<PyReadonlyArray1<'py, f64>>,
        rows: Option<PyReadonlyArray1<'py, i64>>,
        symbol: Option<PyReadonlyArray1<'py, i32>>,
        contract: Option<PyReadonlyArray1<'py, i32>>,
    ) -> PyResult<()> {
        let inner = self.inner.as_mut().ok_or_else(|| PyValueError::new_err(FINISHED))?;
        let bars = Bars::new(open.as_slice()?, high.as_slice()?, low.as_slice()?, close.as_slice()?)
            .map_err(|e| to_py(py, e))?;
        let batch = Batch {
            file,
            first_row,
            rows: rows.as_ref().map(|x| x.as_slice()).transpose()?,
            timestamps: timestamp.as_slice()?,
            bars,
            extra: extra.iter().map(|x| x.as_slice()).collect::<Result<_, _>>()?,
            symbols: symbol.as_ref().map(|x| x.as_slice()).transpose()?,
            contracts: contract.as_ref().map(|x| x.as_slice()).transpose()?,
        };
        let lengths =
            [Some(batch.timestamps.len()), batch.rows.map(<[_]>::len), batch.symbols.map(<[_]>::len)];
        let others = batch.contracts.map(<[_]>::len).into_iter().chain(batch.extra.iter().map(|x| x.len()));
        if lengths.into_iter().flatten().chain(others).any(|n| n != bars.len()) {
            return Err(PyValueError::new_err("the columns of a batch must have the same length"));
        }
        py.detach(|| inner.push(&batch)).map_err(|e| to_py(py, e))
    }

    /// The count of each kind of refusal, and the first refusals as (file, symbol, facts for a `Problem`).
    /// Kind to count, and of the first refusals the file, the symbol, and the facts for a `Problem` (rows from 0).
    fn refusals<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyDict>, Bound<'py, PyList>)> {
        described(py, self.inner.as_ref().map(ingest::Ingest::refusals))
    }

    /// The same of bars with impossible prices that were left out.
    fn impossible<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyDict>, Bound<'py, PyList>)> {
        described(py, self.inner.as_ref().map(ingest::Ingest::impossible))
    }

    /// The bars left out since the last call, each as file, symbol and the facts for a `Problem`.
    fn take_rejects<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let rejects = PyList::empty(py);
        for s in self.inner.as_mut().map(ingest::Ingest::take_rejects).unwrap_or_default() {
            rejects.append((s.file, s.symbol, facts(py, &s)?))?;
        }
        Ok(rejects)
    }

    /// Sorts and checks the rows that `sort` held back.
    fn settle(&mut self, py: Python<'_>, order: Vec<u32>) -> PyResult<()> {
        let inner = self.inner.as_mut().ok_or_else(|| PyValueError::new_err(FINISHED))?;
        worker::run(py, |cancel| inner.settle(&order, cancel))
    }

    /// Segments as (symbol, first_row, rows, first_timestamp, last_timestamp, bar_interval), the quality report, and what
    /// is refused for its steps: the interval that bars should have, how many runs of others there are and how many symbols
    /// end off the grid, the first bars of each (file, symbol, row, timestamp, bar, step, steps), and the commonest steps
    /// with their counts and the number of all.
    #[expect(clippy::type_complexity, reason = "a plain table for Python")]
    fn finish<'py>(
        &mut self,
        py: Python<'py>,
        order: Vec<u32>,
    ) -> PyResult<(Vec<(u32, u64, u64, i64, i64, i64)>, Bound<'py, PyDict>, Bound<'py, PyDict>)> {
        let inner = self.inner.take().ok_or_else(|| PyValueError::new_err(FINISHED))?;
        let summary = worker::run(py, |cancel| inner.finish(&order, cancel))?;
        let segments = summary
            .segments
            .iter()
            .map(|s| (s.symbol, s.first_row, s.rows, s.first_timestamp, s.last_timestamp, s.bar_interval))
            .collect();
        let q = summary.quality;
        let quality = PyDict::new(py);
        for (name, count) in [
            ("bars", q.bars),
            ("zero_range_bars", q.zero_range_bars),
            ("gaps", q.gaps),
            ("short_steps", q.short_steps),
            ("jumps_over_50_percent", q.jumps),
            ("dropped_bad_bars", q.dropped_bad_bars),
            ("dropped_duplicates", q.dropped_duplicates),
            ("segments_from_gaps", q.segments_from_gaps),
            ("segments_from_contracts", q.segments_from_contracts),
        ] {
            quality.set_item(name, count)?;
        }
        quality.set_item("longest_step", q.longest_step)?;
        quality.set_item("bar_interval", q.bar_interval)?;
        quality.set_item("another_interval", q.another_interval)?;
        quality.set_item("off_grid_bars", q.off_grid_bars)?;
        let odd = PyDict::new(py);
        odd.set_item("interval", summary.odd.interval)?;
        odd.set_item("runs", summary.odd.runs)?;
        odd.set_item("live", summary.odd.live)?;
        odd.set_item("first_runs", summary.odd.first_runs.iter().map(odd_bar).collect::<Vec<_>>())?;
        odd.set_item("first_live", summary.odd.first_live.iter().map(odd_bar).collect::<Vec<_>>())?;
        odd.set_item("commonest", summary.odd.commonest)?;
        odd.set_item("steps", summary.odd.steps)?;
        Ok((segments, quality, odd))
    }
}

type Described<'py> = (Bound<'py, PyDict>, Bound<'py, PyList>);

fn described<'py>(py: Python<'py>, refusals: Option<&Refusals>) -> PyResult<Described<'py>> {
    let counts = PyDict::new(py);
    let samples = PyList::empty(py);
    if let Some(refusals) = refusals {
        for (fault, count) in refusals.counts() {
            counts.set_item(fault.name(), count)?;
        }
        for s in refusals.samples() {
            samples.append((s.file, s.symbol, facts(py, s)?))?;
        }
    }
    Ok((counts, samples))
}

fn rule(bar_interval: Option<i64>, of_each_symbol: bool) -> PyResult<Rule> {
    match bar_interval {
        Some(told) if told <= 0 => Err(PyValueError::new_err("bar_interval must be positive")),
        Some(told) => Ok(Rule::Told(told)),
        None if of_each_symbol => Ok(Rule::OfEachSymbol),
        None => Ok(Rule::Inferred),
    }
}

type OddBarTuple = (u32, u32, u64, i64, (f64, f64, f64, f64), i64, u64);

fn odd_bar(bar: &OddBar) -> OddBarTuple {
    let prices = (bar.bar.open, bar.bar.high, bar.bar.low, bar.bar.close);
    (bar.file, bar.symbol, bar.row, bar.timestamp, prices, bar.step, bar.steps)
}

/// (name, shape, dtype, bytes, blake3)
type File = (String, Vec<u64>, &'static str, u64, String);

fn files(written: Vec<Written>) -> Vec<File> {
    written.into_iter().map(|w| (w.name, w.shape, w.dtype, w.bytes, w.blake3)).collect()
}

fn plan(
    py: Python<'_>,
    folder: PathBuf,
    segments: Vec<(u64, u64)>,
    feature_set: &str,
    parameters: Option<ParameterTuple>,
    threads: usize,
    allow_nonpositive: bool,
) -> PyResult<Plan> {
    let set = self::feature_set(py, feature_set)?;
    let mut rows = 0_u64;
    for &(first, n) in &segments {
        let end = rows.checked_add(n).filter(|_| first == rows);
        rows = end.ok_or_else(|| PyValueError::new_err("segments must follow one another from row 0 on"))?;
    }
    set.check_prices(prices(allow_nonpositive)).map_err(|e| to_py(py, e))?;
    Ok(Plan {
        folder,
        rows,
        segments,
        set,
        parameters: self::parameters(parameters),
        prices: prices(allow_nonpositive),
        threads,
    })
}

/// Computes and writes the features of the bars in `folder`: per bar, or for every window of `length` bars in
/// one segment that ends at a valid bar.
#[pyfunction]
#[pyo3(signature = (
    folder, segments, feature_set, parameters, threads, length=None, allow_nonpositive=false
))]
#[expect(clippy::too_many_arguments, reason = "a plan and what to write of it")]
pub fn write_features(
    py: Python<'_>,
    folder: PathBuf,
    segments: Vec<(u64, u64)>,
    feature_set: &str,
    parameters: Option<ParameterTuple>,
    threads: usize,
    length: Option<u64>,
    allow_nonpositive: bool,
) -> PyResult<(Vec<Option<u64>>, Vec<File>)> {
    let plan = plan(py, folder, segments, feature_set, parameters, threads, allow_nonpositive)?;
    let (first_valid, written) = worker::run(py, |cancel| match length {
        None => store::write_rows(&plan, cancel),
        Some(length) => store::write_windows(&plan, length, cancel),
    })?;
    Ok((first_valid, files(written)))
}

/// Recomputes all features and compares them bit for bit. `windows`: length and number of windows, in the
/// dense layout.
#[pyfunction]
#[pyo3(signature = (
    folder, segments, feature_set, parameters, threads, windows=None, allow_nonpositive=false
))]
#[expect(clippy::too_many_arguments, reason = "a plan and what to verify of it")]
pub fn verify_features<'py>(
    py: Python<'py>,
    folder: PathBuf,
    segments: Vec<(u64, u64)>,
    feature_set: &str,
    parameters: Option<ParameterTuple>,
    threads: usize,
    windows: Option<(u64, u64)>,
    allow_nonpositive: bool,
) -> PyResult<Bound<'py, PyDict>> {
    let plan = plan(py, folder, segments, feature_set, parameters, threads, allow_nonpositive)?;
    let rows = windows.map_or(plan.rows, |(length, count)| length.saturating_mul(count)) as usize;
    let found = worker::run_over(py, rows, |cancel| match windows {
        None => store::verify_rows(&plan, cancel),
        Some((length, count)) => store::verify_windows(&plan, length, count, cancel),
    })?;
    let result = PyDict::new(py);
    result.set_item("compared", found.compared)?;
    result.set_item("first_valid", found.first_valid)?;
    result.set_item("features", differences(found.features))?;
    result.set_item("masks", differences(found.masks))?;
    result.set_item("starts", differences(found.starts))?;
    Ok(result)
}

/// The number of rows that differ, and the first difference: row, column, stored value, recomputed value.
type Differences = (u64, Option<(u64, u64, f64, f64)>);

fn differences((count, first): (u64, Option<Difference>)) -> Differences {
    (count, first.map(|d| (d.row, d.column, d.stored, d.computed)))
}

/// Recomputes windows bar by bar and compares them bit for bit. `samples`, ascending: number of the segment,
/// first row, and the position of that row in the file. `windows`: length and number of windows, in the dense
/// layout.
#[pyfunction]
#[pyo3(signature = (
    folder, segments, feature_set, parameters, samples, length, windows=None, allow_nonpositive=false
))]
#[expect(clippy::too_many_arguments, reason = "a plan and what to verify of it")]
pub fn verify_streamed(
    py: Python<'_>,
    folder: PathBuf,
    segments: Vec<(u64, u64)>,
    feature_set: &str,
    parameters: Option<ParameterTuple>,
    samples: Vec<(usize, u64, u64)>,
    length: u64,
    windows: Option<(u64, u64)>,
    allow_nonpositive: bool,
) -> PyResult<Differences> {
    let plan = plan(py, folder, segments, feature_set, parameters, 1, allow_nonpositive)?;
    for &(segment, start, _) in &samples {
        let (first, rows) =
            *plan.segments.get(segment).ok_or_else(|| PyValueError::new_err("no such segment"))?;
        if start < first || length == 0 || start + length > first + rows {
            return Err(PyValueError::new_err("a window reaches beyond its segment"));
        }
    }
    let samples: Vec<Sample> =
        samples.into_iter().map(|(segment, start, place)| Sample { segment, start, place }).collect();
    worker::run(py, |cancel| store::verify_streamed(&plan, windows, length, &samples, cancel))
        .map(differences)
}

/// The bar interval, how many steps are longer and shorter, the longest step, and how many bars lie off the grid: of the
/// source, or of every symbol alone. Also the commonest step of runs other than the bar interval. Symbol `i` has the rows
/// from `firsts[i]` up to the next symbol's first.
#[pyfunction]
#[pyo3(signature = (path, rows, firsts, bar_interval=None, of_each_symbol=false))]
#[expect(clippy::type_complexity, reason = "a plain table for Python")]
pub fn count_steps(
    py: Python<'_>,
    path: PathBuf,
    rows: u64,
    firsts: Vec<u64>,
    bar_interval: Option<i64>,
    of_each_symbol: bool,
) -> PyResult<(Vec<(i64, u64, u64, i64, u64)>, i64)> {
    if firsts.iter().chain([&rows]).is_sorted() {
        let rule = rule(bar_interval, of_each_symbol)?;
        let (surveys, another) = worker::run_over(py, rows as usize, |cancel| {
            interval::of_store(&path, rows, &firsts, rule, cancel)
        })?;
        let counts = surveys.iter().map(|s| (s.interval, s.longer, s.shorter, s.longest, s.off_grid));
        Ok((counts.collect(), another))
    } else {
        Err(PyValueError::new_err("firsts must ascend, and lie within the rows"))
    }
}

/// The index and value of the first float32 in a file's array that is not finite or lies outside its column's
/// range.
#[pyfunction]
pub fn first_outlier(
    py: Python<'_>,
    path: PathBuf,
    shape: Vec<u64>,
    ranges: Vec<(f32, f32)>,
) -> PyResult<Option<(u64, f32)>> {
    if ranges.is_empty() || shape.last() != Some(&(ranges.len() as u64)) {
        return Err(PyValueError::new_err("there must be a range for every column"));
    }
    let rows = shape[..shape.len() - 1].iter().fold(1, |rows: u64, &n| rows.saturating_mul(n));
    worker::run_over(py, rows as usize, |cancel| store::first_outlier(&path, &shape, &ranges, cancel))
}
