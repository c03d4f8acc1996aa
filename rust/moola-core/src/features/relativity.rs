//! `relativity10` and `relativity12`: the position of a bar's prices within the bar, the recent range and the
//! last swings. `relativity12` adds two products of the ten features.

use super::arithmetic::{clip, product, ratio, reciprocal};
use super::atr::Atr;
use super::block::{BLOCK, Block, Column, GROUP, Slot, blocks, groups, prefetch_ahead, transpose};
use super::definition::{Definition, Feature, Features};
use super::ema::Ema;
use super::parameters::Parameters;
use super::state::{Reader, Writer};
use super::zigzag::{Point, SwingColumns, Zigzag, least_move};
use crate::bar::Bar;
use crate::bars::Bars;
use crate::error::Error;
use crate::simd::{Level, at_level};

/// The description of `relativity10`.
pub(super) static RELATIVITY10: Definition = Definition {
    name: "relativity10",
    width: 10,
    any_sign: true,
    depends_on: DEPENDS_ON,
    features: |_| FEATURES[..10].to_vec(),
    start: |parameters| Box::new(Relativity::<10>::new(parameters)),
};

/// The description of `relativity12`.
pub(super) static RELATIVITY12: Definition = Definition {
    name: "relativity12",
    width: 12,
    any_sign: true,
    depends_on: DEPENDS_ON,
    features: |_| FEATURES.to_vec(),
    start: |parameters| Box::new(Relativity::<12>::new(parameters)),
};

const DEPENDS_ON: &[&str] = &["range_ema_period", "atr_period", "zigzag_k", "swing_time_scale"];

/// The features of `relativity12`; the first ten are those of `relativity10`.
const FEATURES: [Feature; 12] = [
    Feature::bounded("open_norm", 0.0, 1.0),
    Feature::bounded("close_norm", 0.0, 1.0),
    Feature::bounded("body_pct", -1.0, 1.0),
    Feature::bounded("upper_wick_pct", 0.0, 1.0),
    Feature::bounded("lower_wick_pct", 0.0, 1.0),
    Feature::bounded("range_z", 0.0, 3.0),
    Feature::bounded("dist_to_prev_SH", -3.0, 3.0),
    Feature::bounded("dist_to_prev_SL", -3.0, 3.0),
    Feature::bounded("bars_since_SH_norm", 0.0, 3.0),
    Feature::bounded("bars_since_SL_norm", 0.0, 3.0),
    Feature::bounded("expansion_proxy", -2.0, 2.0),
    Feature::bounded("consol_proxy", 0.0, 3.0),
];

/// What a row depends on besides its own bar. A swing that does not exist yet is set to this bar's close at
/// this bar, so that its distance and its age are exactly 0.
struct Context {
    range_ema: f64,
    atr: f64,
    swing_high: f64,
    swing_low: f64,
    since_high: f64,
    since_low: f64,
    leg: f64,
}

/// The formulas, shared by the single-bar path and the vectorised path. `per_bar` is 1/`swing_time_scale`.
///
/// Quotients with a common divisor are computed as products with its reciprocal. A division costs as much as
/// eight products. The difference is one ulp of a float64 and disappears when the result is stored as
/// float32.
#[inline(always)]
fn row<const D: usize>(bar: &Bar, at: &Context, per_bar: f64) -> [f32; D] {
    let &Bar { open, high, low, close } = bar;
    let range = high - low;
    let per_range = reciprocal(range);
    let per_atr = reciprocal(at.atr);
    let (top, bottom) = if open > close { (open, close) } else { (close, open) };
    let body = product(close - open, per_range);
    let range_z = clip(ratio(range, at.range_ema), 0.0, 3.0);
    let since_high = clip(at.since_high * per_bar, 0.0, 3.0);
    let since_low = clip(at.since_low * per_bar, 0.0, 3.0);
    // A candle that is all body has no wicks, although the product may be an ulp below 1.
    let solid = ((close - open).abs() == range) & (range > 0.0);
    let wicks = if solid { 0.0 } else { 1.0 - body.abs() };
    let all = [
        product(open - low, per_range),
        product(close - low, per_range),
        body,
        product(high - top, per_range),
        product(bottom - low, per_range),
        range_z,
        clip(product(at.swing_high - close, per_atr), -3.0, 3.0),
        clip(product(close - at.swing_low, per_atr), -3.0, 3.0),
        since_high,
        since_low,
        clip(range_z * at.leg * body, -2.0, 2.0),
        clip((1.0 - range_z / 3.0) * wicks * (since_high + since_low) / 2.0, 0.0, 3.0),
    ];
    std::array::from_fn(|k| all[k] as f32)
}

/// Running state of either set; `D` is 10 or 12.
#[derive(Clone, Debug, PartialEq)]
pub struct Relativity<const D: usize> {
    range_ema: Ema,
    atr: Atr,
    zigzag: Zigzag,
    bars: u64,
    zigzag_k: f64,
    per_bar: f64,
}

impl<const D: usize> Relativity<D> {
    /// No bars yet.
    pub fn new(parameters: &Parameters) -> Self {
        Relativity {
            range_ema: Ema::new(parameters.range_ema_period),
            atr: Atr::new(parameters.atr_period),
            zigzag: Zigzag::new(),
            bars: 0,
            zigzag_k: parameters.zigzag_k,
            per_bar: (1.0 / parameters.swing_time_scale).min(f64::MAX),
        }
    }
}

impl<const D: usize> Features for Relativity<D> {
    fn push(&mut self, bar: &Bar, out: &mut [f32]) {
        let &Bar { high, low, close, .. } = bar;
        let range_ema = self.range_ema.push(high - low);
        let atr = self.atr.push(high, low, close);
        self.zigzag.push(self.bars, high, low, close, least_move(self.zigzag_k * atr));
        let missing = Point { price: close, bar: self.bars };
        let swing_high = self.zigzag.swing_high.unwrap_or(missing);
        let swing_low = self.zigzag.swing_low.unwrap_or(missing);
        let context = Context {
            range_ema,
            atr,
            swing_high: swing_high.price,
            swing_low: swing_low.price,
            since_high: (self.bars - swing_high.bar) as i64 as f64,
            since_low: (self.bars - swing_low.bar) as i64 as f64,
            leg: f64::from(self.zigzag.leg as i8),
        };
        out.copy_from_slice(&row::<D>(bar, &context, self.per_bar));
        self.bars += 1;
    }

    fn has_block_path(&self) -> bool {
        self.atr.is_full() && self.zigzag.swing_high.is_some() && self.zigzag.swing_low.is_some()
    }

    fn push_blocks(&mut self, level: Level, bars: Bars<'_>, out: &mut [Slot]) {
        push_blocks(level, self, level, bars, out);
    }

    fn is_known(&self) -> bool {
        self.zigzag.swing_high.is_some() && self.zigzag.swing_low.is_some()
    }

    fn save(&self, writer: &mut Writer) {
        writer.u64(self.bars);
        self.range_ema.save(writer);
        self.atr.save(writer);
        self.zigzag.save(writer);
    }

    fn load(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        self.bars = reader.u64()?;
        self.range_ema.load(reader)?;
        self.atr.load(reader)?;
        self.zigzag.load(reader)
    }
}

/// Values that the sequential loop computes for the vectorised loop.
struct Scratch {
    true_ranges: Vec<f64>,
    atr: Column,
    turns: Column,
    range_ema: Column,
    swings: SwingColumns,
}

at_level! {
    fn push_blocks<const D: usize>(
        set: &mut Relativity<D>, tiles: Level, bars: Bars<'_>, out: &mut [Slot],
    ) = all_blocks;
}

#[inline(always)]
fn all_blocks<const D: usize>(set: &mut Relativity<D>, tiles: Level, bars: Bars<'_>, out: &mut [Slot]) {
    let mut scratch = Scratch {
        true_ranges: Vec::new(),
        atr: [0.0; BLOCK],
        turns: [0.0; BLOCK],
        range_ema: [0.0; BLOCK],
        swings: SwingColumns::new(),
    };
    for (block, rows) in blocks(bars, out) {
        set.atr.push_block(block, &mut scratch.true_ranges, &mut scratch.atr);
        for (turn, atr) in scratch.turns.iter_mut().zip(&scratch.atr) {
            *turn = least_move(set.zigzag_k * atr);
        }
        sequential(set, block, &mut scratch, rows);
        parallel(set, tiles, block, &scratch, rows);
        set.bars += BLOCK as u64;
    }
}

/// Computes what depends on the previous bar: two chains of dependent operations. They leave the processor
/// time to prefetch the memory of later bars.
#[inline(always)]
fn sequential<const D: usize>(
    set: &mut Relativity<D>,
    block: Block<'_>,
    scratch: &mut Scratch,
    rows: &[[Slot; D]; BLOCK],
) {
    let Scratch { turns, range_ema, swings, .. } = scratch;
    let (ema, Some(mut average)) = (&set.range_ema, set.range_ema.value) else { return };
    set.zigzag.push_block(set.bars, block, turns, swings, |i| {
        prefetch_ahead(&block, rows, i);
        average = ema.after(average, block.high[i] - block.low[i]);
        range_ema[i] = average;
    });
    set.range_ema.value = Some(average);
}

/// Computes what is independent for each bar.
#[inline(always)]
fn parallel<const D: usize>(
    set: &Relativity<D>,
    tiles: Level,
    block: Block<'_>,
    scratch: &Scratch,
    rows: &mut [[Slot; D]; BLOCK],
) {
    let Scratch { atr, range_ema, swings, .. } = scratch;
    for (first, rows) in groups(rows) {
        let mut columns = [[0.0; GROUP]; D];
        for j in 0..GROUP {
            let i = first + j;
            let bar = set.bars as f64 + i as f64;
            let context = Context {
                range_ema: range_ema[i],
                atr: atr[i],
                swing_high: swings.high[i],
                swing_low: swings.low[i],
                since_high: bar - swings.high_bar[i],
                since_low: bar - swings.low_bar[i],
                leg: swings.leg[i],
            };
            let row = row::<D>(&block.bar(i), &context, set.per_bar);
            for (column, x) in columns.iter_mut().zip(row) {
                column[j] = x;
            }
        }
        transpose(tiles, &columns, rows);
    }
}
