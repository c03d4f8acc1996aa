//! Average true range: the plain mean of the last true ranges, oldest summed first. O(period) per bar,
//! without drift.
//!
//! Source: J. W. Wilder, *New Concepts in Technical Trading Systems* (1978), with a plain mean instead of
//! Wilder's smoothing (TA-Lib's `SMA(TRANGE)`).

use super::block::{BLOCK, Block, Column, GROUP};
use super::state::{Reader, Writer};
use super::window::Window;
use crate::error::Error;

/// The true range of a bar: its range, widened to include the previous close.
#[inline(always)]
pub fn true_range(high: f64, low: f64, previous_close: f64) -> f64 {
    larger(larger(high - low, (high - previous_close).abs()), (low - previous_close).abs())
}

/// The larger of two numbers that are not NaN. One instruction, unlike `f64::max`.
#[inline(always)]
fn larger(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

/// The mean, summed in order from the first value.
#[inline(always)]
fn mean(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |sum, x| sum + x) / values.len() as f64
}

/// Running state.
#[derive(Clone, Debug, PartialEq)]
pub struct Atr {
    ranges: Window,
    previous_close: Option<f64>,
}

impl Atr {
    /// No bars yet.
    pub fn new(period: u32) -> Self {
        Atr { ranges: Window::new(period), previous_close: None }
    }

    /// Takes the next bar and returns the ATR that includes it. The first bar has no true range and an ATR of
    /// 0.
    #[inline(always)]
    pub fn push(&mut self, high: f64, low: f64, close: f64) -> f64 {
        match self.previous_close.replace(close) {
            None => 0.0,
            Some(previous) => {
                self.ranges.push(true_range(high, low, previous));
                mean(self.ranges.as_slice())
            }
        }
    }

    /// True once the mean covers a whole period. Only then may [`Atr::push_block`] be used.
    #[inline(always)]
    pub fn is_full(&self) -> bool {
        self.ranges.is_full()
    }

    /// Gives the same as pushing the bars one by one, but vectorised. `scratch` holds the true ranges of the
    /// last `period − 1` bars and of this block. `out` gets the ATR at each bar.
    #[inline(always)]
    pub(super) fn push_block(&mut self, block: Block<'_>, scratch: &mut Vec<f64>, out: &mut Column) {
        let (period, Block { high, low, close, .. }) = (self.ranges.period(), block);
        let Some(previous) = self.previous_close.replace(close[BLOCK - 1]) else { return };
        let mut ranges = [true_range(high[0], low[0], previous); BLOCK];
        for i in 1..BLOCK {
            ranges[i] = true_range(high[i], low[i], close[i - 1]);
        }
        scratch.clear();
        scratch.extend_from_slice(&self.ranges.as_slice()[1..]);
        scratch.extend_from_slice(&ranges);
        // Every lane sums its own window, oldest first: the same additions as one bar at a time.
        for (g, out) in out.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
            let mut sums = [0.0; GROUP];
            for window in scratch[g * GROUP..].windows(GROUP).take(period) {
                for (sum, x) in sums.iter_mut().zip(window) {
                    *sum += x;
                }
            }
            *out = sums.map(|sum| sum / period as f64);
        }
        ranges[BLOCK - period.min(BLOCK)..].iter().for_each(|&x| self.ranges.push(x));
    }

    /// The close of the previous bar, if there is one.
    #[inline(always)]
    pub fn previous_close(&self) -> Option<f64> {
        self.previous_close
    }

    /// Saves the state.
    pub fn save(&self, writer: &mut Writer) {
        writer.option(self.previous_close, Writer::f64);
        writer.f64s(self.ranges.as_slice());
    }

    /// Restores a saved state.
    pub fn load(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        self.previous_close = reader.option(Reader::f64)?;
        reader.f64s(self.ranges.period())?.into_iter().for_each(|x| self.ranges.push(x));
        Ok(())
    }
}
