//! `relative_transform11`: log returns, the candle's shape, and z-scores over a short window.

use super::arithmetic::{clip, ratio};
use super::block::{BLOCK, Column, Slot, blocks, transpose};
use super::definition::{Definition, Feature, Features};
use super::parameters::Parameters;
use super::state::{Reader, Writer};
use super::window::Window;
use crate::bar::Bar;
use crate::bars::Bars;
use crate::error::Error;
use crate::simd::{Level, at_level};

const D: usize = 11;

/// The description of `relative_transform11`.
pub(super) static RELATIVE_TRANSFORM11: Definition = Definition {
    name: "relative_transform11",
    width: D,
    any_sign: false,
    depends_on: &["zscore_period"],
    features,
    start: |parameters| Box::new(RelativeTransform::new(parameters)),
};

/// The features. The z-scores are bounded by the length of their window.
fn features(parameters: &Parameters) -> Vec<Feature> {
    let bound = zscore_bound(parameters.zscore_period);
    let mut features = Vec::with_capacity(D);
    for name in ["log_return_open", "log_return_high", "log_return_low", "log_return_close"] {
        features.push(Feature::unbounded(name));
    }
    features.push(Feature::bounded("body_ratio", -1.0, 1.0));
    features.push(Feature::bounded("upper_wick_ratio", 0.0, 1.0));
    features.push(Feature::bounded("lower_wick_ratio", 0.0, 1.0));
    for name in ["zscore_open", "zscore_high", "zscore_low", "zscore_close"] {
        features.push(Feature::bounded(name, -bound, bound));
    }
    features
}

/// The bound of a z-score over `period` values, `√(period − 1)`, as the largest float32 not above it. So
/// rounding to float32 cannot leave the range.
fn zscore_bound(period: u32) -> f64 {
    let bound = f64::from(period - 1).sqrt();
    let rounded = bound as f32;
    f64::from(if f64::from(rounded) > bound { rounded.next_down() } else { rounded })
}

/// `ln(x/previous)`, computed by a pure-Rust libm, which gives the same bits on every machine.
#[inline(always)]
fn log_return(x: f64, previous: f64) -> f64 {
    libm::log(x / previous)
}

/// `(x − mean)/std`, or 0 if the deviation is only rounding error.
#[inline(always)]
fn standardise(x: f64, mean: f64, variance: f64, bound: f64) -> f64 {
    let std = variance.sqrt();
    let z = clip((x - mean) / std, -bound, bound);
    if std <= 1e-12 * x.abs() { 0.0 } else { z }
}

/// The body and the upper and lower wick of a candle, divided by its range.
#[inline(always)]
fn candle(bar: &Bar) -> [f64; 3] {
    let &Bar { open, high, low, close } = bar;
    let range = high - low;
    let (top, bottom) = if open > close { (open, close) } else { (close, open) };
    [ratio(close - open, range), ratio(high - top, range), ratio(bottom - low, range)]
}

/// Running state: the previous bar, and the last prices of each column. Mean and variance are computed again
/// over the window at every bar, so that they do not drift.
#[derive(Clone, Debug, PartialEq)]
pub struct RelativeTransform {
    previous: Option<Bar>,
    prices: [Window; 4],
    bound: f64,
}

fn columns(bar: &Bar) -> [f64; 4] {
    [bar.open, bar.high, bar.low, bar.close]
}

impl RelativeTransform {
    /// No bars yet.
    pub fn new(parameters: &Parameters) -> Self {
        RelativeTransform {
            previous: None,
            prices: std::array::from_fn(|_| Window::new(parameters.zscore_period)),
            bound: zscore_bound(parameters.zscore_period),
        }
    }
}

impl Features for RelativeTransform {
    fn push(&mut self, bar: &Bar, out: &mut [f32]) {
        let previous = columns(&self.previous.unwrap_or(*bar));
        for (k, x) in columns(bar).into_iter().enumerate() {
            out[k] = log_return(x, previous[k]) as f32;
            self.prices[k].push(x);
            let window = self.prices[k].as_slice();
            let n = window.len() as f64;
            let mean = window.iter().fold(0.0, |sum, y| sum + y) / n;
            let variance = window.iter().fold(0.0, |sum, y| sum + (y - mean) * (y - mean)) / n;
            out[7 + k] = standardise(x, mean, variance, self.bound) as f32;
        }
        for (k, x) in candle(bar).into_iter().enumerate() {
            out[4 + k] = x as f32;
        }
        self.previous = Some(*bar);
    }

    fn has_block_path(&self) -> bool {
        self.prices[0].is_full()
    }

    fn push_blocks(&mut self, level: Level, bars: Bars<'_>, out: &mut [Slot]) {
        push_blocks(level, self, level, bars, out);
    }

    fn is_known(&self) -> bool {
        true
    }

    fn save(&self, writer: &mut Writer) {
        writer.option(self.previous, |w, bar| columns(&bar).into_iter().for_each(|x| w.f64(x)));
        self.prices.iter().for_each(|window| writer.f64s(window.as_slice()));
    }

    fn load(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        self.previous =
            reader.option(|r| Ok(Bar { open: r.f64()?, high: r.f64()?, low: r.f64()?, close: r.f64()? }))?;
        for window in &mut self.prices {
            reader.f64s(window.period())?.into_iter().for_each(|x| window.push(x));
        }
        Ok(())
    }
}

struct Scratch {
    prices: Vec<f64>,
    mean: Column,
    variance: Column,
    columns: [Column<f32>; D],
}

at_level! {
    fn push_blocks(set: &mut RelativeTransform, tiles: Level, bars: Bars<'_>, out: &mut [Slot]) = all_blocks;
}

#[inline(always)]
fn all_blocks(set: &mut RelativeTransform, tiles: Level, bars: Bars<'_>, out: &mut [Slot]) {
    let mut scratch = Scratch {
        prices: Vec::new(),
        mean: [0.0; BLOCK],
        variance: [0.0; BLOCK],
        columns: [[0.0; BLOCK]; D],
    };
    let Some(previous) = set.previous else { return };
    let mut previous = columns(&previous);
    for (block, rows) in blocks(bars, out) {
        for (k, x) in [block.open, block.high, block.low, block.close].into_iter().enumerate() {
            let returns = &mut scratch.columns[k];
            returns[0] = log_return(x[0], previous[k]) as f32;
            for i in 1..BLOCK {
                returns[i] = log_return(x[i], x[i - 1]) as f32;
            }
            previous[k] = x[BLOCK - 1];
            zscores(&mut set.prices[k], x, set.bound, &mut scratch, 7 + k);
        }
        for i in 0..BLOCK {
            let shape = candle(&block.bar(i));
            for (k, &x) in shape.iter().enumerate() {
                scratch.columns[4 + k][i] = x as f32;
            }
        }
        set.previous = Some(block.bar(BLOCK - 1));
        transpose(tiles, &scratch.columns, rows);
    }
}

/// Every lane sums its own window, oldest first: the same operations as one bar at a time.
#[inline(always)]
fn zscores(window: &mut Window, x: &Column, bound: f64, scratch: &mut Scratch, column: usize) {
    let period = window.period();
    scratch.prices.clear();
    scratch.prices.extend_from_slice(&window.as_slice()[1..]);
    scratch.prices.extend_from_slice(x);
    let (mean, variance) = (&mut scratch.mean, &mut scratch.variance);
    mean.fill(0.0);
    for age in 0..period {
        for (sum, y) in mean.iter_mut().zip(&scratch.prices[age..age + BLOCK]) {
            *sum += y;
        }
    }
    for sum in mean.iter_mut() {
        *sum /= period as f64;
    }
    variance.fill(0.0);
    for age in 0..period {
        for ((sum, mean), y) in variance.iter_mut().zip(mean.iter()).zip(&scratch.prices[age..age + BLOCK]) {
            *sum += (y - mean) * (y - mean);
        }
    }
    let out = &mut scratch.columns[column];
    for i in 0..BLOCK {
        out[i] = standardise(x[i], mean[i], variance[i] / period as f64, bound) as f32;
    }
    x[BLOCK - period.min(BLOCK)..].iter().for_each(|&x| window.push(x));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_never_above_the_root() {
        for period in 1..5000 {
            let (bound, root) = (zscore_bound(period), f64::from(period - 1).sqrt());
            assert!(bound <= root && root - bound <= 1.2e-7 * root, "{period}: {bound} {root}");
            assert_eq!(f64::from(bound as f32), bound);
        }
    }
}
