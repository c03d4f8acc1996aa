//! The sample market, as columns.
//!
//! Without a GIL: a call while another thread uses the object raises a `RuntimeError`.

use moola_core::synth::{MAX_BARS, SampleMarket};
use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;

use crate::worker;

/// Bars between two checks for cancellation. They take a few milliseconds.
const STRETCH: usize = 1 << 14;

/// `(timestamp, open, high, low, close, volume)`.
type Columns<'py> = (
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<f64>>,
    Bound<'py, PyArray1<f64>>,
    Bound<'py, PyArray1<f64>>,
    Bound<'py, PyArray1<f64>>,
    Bound<'py, PyArray1<i64>>,
);

/// The bars of one symbol of the sample market, from the first bar on.
#[pyclass(module = "moola._core")]
pub struct SampleBars {
    market: SampleMarket,
}

#[pymethods]
impl SampleBars {
    /// The longest run whose timestamps fit in int64 nanoseconds.
    #[classattr]
    const MAX_BARS: u64 = MAX_BARS;

    #[new]
    #[pyo3(signature = (seed, symbol=0, expansions=false))]
    fn new(seed: u64, symbol: u32, expansions: bool) -> Self {
        SampleBars { market: SampleMarket::new(seed, symbol, expansions) }
    }

    /// The next bars, as six arrays of that length: timestamp, open, high, low, close and volume.
    fn take<'py>(&mut self, py: Python<'py>, bars: usize) -> PyResult<Columns<'py>> {
        let market = &mut self.market;
        let (time, prices, volume) = worker::run_over(py, bars, |cancel| {
            let mut time = Vec::with_capacity(bars);
            let mut prices = [(); 4].map(|()| Vec::with_capacity(bars));
            let mut volume = Vec::with_capacity(bars);
            while time.len() < bars {
                cancel.check()?;
                let stretch = STRETCH.min(bars - time.len());
                for sample in market.by_ref().take(stretch) {
                    let bar = sample.bar;
                    time.push(sample.timestamp);
                    for (column, price) in prices.iter_mut().zip([bar.open, bar.high, bar.low, bar.close]) {
                        column.push(price);
                    }
                    volume.push(sample.volume);
                }
            }
            Ok((time, prices, volume))
        })?;
        let [open, high, low, close] = prices.map(|column| column.into_pyarray(py));
        Ok((time.into_pyarray(py), open, high, low, close, volume.into_pyarray(py)))
    }

    /// The expansions whose windows have ended since the last call: class, window end, start and end, the last
    /// three as UTC nanoseconds.
    fn take_expansions(&mut self) -> Vec<(&'static str, i64, i64, i64)> {
        let taken = self.market.take_expansions().into_iter();
        taken.map(|e| (e.context.name(), e.window_end, e.start, e.end)).collect()
    }
}
