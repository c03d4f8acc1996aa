//! `relative_transform11`: log returns, the candle's shape, and z-scores over a short window.

use super::arithmetic::{clip, ratio};
use super::block::{BLOCK, transpose};
use super::simd::{Level, at_level};
use super::state::{Reader, Writer};
use super::window::Window;
use super::{Feature, Features, Parameters};
use crate::bars::{Bar, Bars};
use crate::error::Error;

const D: usize = 11;

/// The features, whose z-scores are bounded by the window they are taken over.
pub fn features(parameters: &Parameters) -> Vec<Feature> {
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

/// `√(period − 1)`, which no z-score over `period` values exceeds, as the largest float32 not above it: the
/// rounding of the last bit must not leave the range.
fn zscore_bound(period: u32) -> f64 {
    let bound = f64::from(period - 1).sqrt();
    let rounded = bound as f32;
    f64::from(if f64::from(rounded) > bound { rounded.next_down() } else { rounded })
}

/// `ln(x/previous)`: the logarithm of a pure-Rust libm, the same bits on every machine.
#[inline(always)]
fn log_return(x: f64, previous: f64) -> f64 {
    libm::log(x / previous)
}

/// `(x − mean)/std`, 0 where the deviation is only rounding.
#[inline(always)]
fn standardise(x: f64, mean: f64, variance: f64, bound: f64) -> f64 {
    let std = variance.sqrt();
    let z = clip((x - mean) / std, -bound, bound);
    if std <= 1e-12 * x.abs() { 0.0 } else { z }
}

/// Everything but the z-scores.
#[inline(always)]
fn candle(bar: &Bar) -> [f64; 3] {
    let &Bar { open, high, low, close } = bar;
    let range = high - low;
    let (top, bottom) = if open > close { (open, close) } else { (close, open) };
    [ratio(close - open, range), ratio(high - top, range), ratio(bottom - low, range)]
}

/// Running state: the bar before, and the last prices of each column. Mean and variance are taken afresh over the
/// window at every bar, so that nothing drifts.
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

    fn push_blocks(&mut self, level: Level, bars: Bars<'_>, out: &mut [f32]) {
        push_blocks(level, self, bars, out);
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
    mean: [f64; BLOCK],
    variance: [f64; BLOCK],
    columns: [[f32; BLOCK]; D],
}

at_level! {
    fn push_blocks(set: &mut RelativeTransform, bars: Bars<'_>, out: &mut [f32]) = blocks;
}

#[inline(always)]
fn blocks(set: &mut RelativeTransform, bars: Bars<'_>, out: &mut [f32]) {
    let mut scratch = Scratch {
        prices: Vec::new(),
        mean: [0.0; BLOCK],
        variance: [0.0; BLOCK],
        columns: [[0.0; BLOCK]; D],
    };
    let mut start = 0;
    for out in out.chunks_mut(BLOCK * D) {
        let n = out.len() / D;
        block(set, bars.slice(start..start + n), &mut scratch, out);
        start += n;
    }
}

#[inline(always)]
fn block(set: &mut RelativeTransform, bars: Bars<'_>, scratch: &mut Scratch, out: &mut [f32]) {
    let n = bars.len();
    let Some(previous) = set.previous else { return };
    let previous = columns(&previous);
    for (k, x) in [bars.open, bars.high, bars.low, bars.close].into_iter().enumerate() {
        let x = &x[..n];
        let returns = &mut scratch.columns[k];
        returns[0] = log_return(x[0], previous[k]) as f32;
        for i in 1..n {
            returns[i] = log_return(x[i], x[i - 1]) as f32;
        }
        zscores(&mut set.prices[k], x, set.bound, scratch, 7 + k);
    }
    for i in 0..n {
        let shape = candle(&bars.bar(i));
        for (k, &x) in shape.iter().enumerate() {
            scratch.columns[4 + k][i] = x as f32;
        }
    }
    set.previous = Some(bars.bar(n - 1));
    transpose(&scratch.columns, out);
}

/// Every lane sums its own window, oldest first: the same operations as one bar at a time.
#[inline(always)]
fn zscores(window: &mut Window, x: &[f64], bound: f64, scratch: &mut Scratch, column: usize) {
    let (n, period) = (x.len(), window.period());
    scratch.prices.clear();
    scratch.prices.extend_from_slice(&window.as_slice()[1..]);
    scratch.prices.extend_from_slice(x);
    let (mean, variance) = (&mut scratch.mean[..n], &mut scratch.variance[..n]);
    mean.fill(0.0);
    for age in 0..period {
        for (sum, y) in mean.iter_mut().zip(&scratch.prices[age..age + n]) {
            *sum += y;
        }
    }
    for sum in mean.iter_mut() {
        *sum /= period as f64;
    }
    variance.fill(0.0);
    for age in 0..period {
        for ((sum, mean), y) in variance.iter_mut().zip(mean.iter()).zip(&scratch.prices[age..age + n]) {
            *sum += (y - mean) * (y - mean);
        }
    }
    let out = &mut scratch.columns[column][..n];
    for i in 0..n {
        out[i] = standardise(x[i], mean[i], variance[i] / period as f64, bound) as f32;
    }
    x[n - period.min(n)..].iter().for_each(|&x| window.push(x));
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
