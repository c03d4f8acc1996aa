//! `ohlc4`, the plain baseline: the four prices relative to the previous close, in units of the ATR.

use super::arithmetic::{clip, ratio};
use super::atr::Atr;
use super::block::{BLOCK, Slot, blocks, transpose};
use super::definition::{Definition, Feature, Features};
use super::parameters::Parameters;
use super::state::{Reader, Writer};
use crate::bar::Bar;
use crate::bars::Bars;
use crate::error::Error;
use crate::simd::{Level, at_level};

const D: usize = 4;
const BOUND: f64 = 10.0;

/// The description of `ohlc4`.
pub(super) static OHLC4: Definition = Definition {
    name: "ohlc4",
    width: D,
    any_sign: true,
    depends_on: &["atr_period"],
    features: |_| FEATURES.to_vec(),
    start: |parameters| Box::new(Ohlc4::new(parameters)),
};

const FEATURES: [Feature; D] = [
    Feature::bounded("open", -BOUND, BOUND),
    Feature::bounded("high", -BOUND, BOUND),
    Feature::bounded("low", -BOUND, BOUND),
    Feature::bounded("close", -BOUND, BOUND),
];

#[inline(always)]
fn scaled(x: f64, previous_close: f64, atr: f64) -> f32 {
    clip(ratio(x - previous_close, atr), -BOUND, BOUND) as f32
}

/// Running state.
#[derive(Clone, Debug, PartialEq)]
pub struct Ohlc4 {
    atr: Atr,
}

impl Ohlc4 {
    /// No bars yet.
    pub fn new(parameters: &Parameters) -> Self {
        Ohlc4 { atr: Atr::new(parameters.atr_period) }
    }
}

impl Features for Ohlc4 {
    fn push(&mut self, bar: &Bar, out: &mut [f32]) {
        let previous = self.atr.previous_close();
        let atr = self.atr.push(bar.high, bar.low, bar.close);
        for (out, x) in out.iter_mut().zip([bar.open, bar.high, bar.low, bar.close]) {
            *out = previous.map_or(0.0, |close| scaled(x, close, atr));
        }
    }

    fn has_block_path(&self) -> bool {
        self.atr.is_full()
    }

    fn push_blocks(&mut self, level: Level, bars: Bars<'_>, out: &mut [Slot]) {
        push_blocks(level, self, level, bars, out);
    }

    fn is_known(&self) -> bool {
        true
    }

    fn save(&self, writer: &mut Writer) {
        self.atr.save(writer);
    }

    fn load(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        self.atr.load(reader)
    }
}

at_level! {
    fn push_blocks(set: &mut Ohlc4, tiles: Level, bars: Bars<'_>, out: &mut [Slot]) = all_blocks;
}

#[inline(always)]
fn all_blocks(set: &mut Ohlc4, tiles: Level, bars: Bars<'_>, out: &mut [Slot]) {
    let mut true_ranges = Vec::new();
    let (mut atr, mut previous) = ([0.0; BLOCK], [0.0; BLOCK]);
    let mut columns = [[0.0; BLOCK]; D];
    for (block, rows) in blocks(bars, out) {
        let Some(close) = set.atr.previous_close() else { return };
        previous[0] = close;
        previous[1..].copy_from_slice(&block.close[..BLOCK - 1]);
        set.atr.push_block(block, &mut true_ranges, &mut atr);
        for (column, x) in columns.iter_mut().zip([block.open, block.high, block.low, block.close]) {
            for i in 0..BLOCK {
                column[i] = scaled(x[i], previous[i], atr[i]);
            }
        }
        transpose(tiles, &columns, rows);
    }
}
