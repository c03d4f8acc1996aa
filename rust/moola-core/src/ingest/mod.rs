//! Turns batches of rows, in any order, into the per-bar files of a store.
//!
//! Every row is checked here. Accepted rows are appended to `bars.npy`, `timestamps.npy` and `extra.npy` at once, so
//! memory stays bounded. If the symbols of a panel are interleaved, [`Ingest::finish`] makes one more pass over the
//! files and groups the rows by symbol, in the order of the store.

mod finish;
mod rewrite;
mod summary;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::path::PathBuf;

use crate::bar::{Bar, Fault, Prices};
use crate::bars::Bars;
use crate::cancel::Cancel;
use crate::error::Error;
use crate::interval::{Rule, Runs};
use crate::npy::NpyWriter;
use crate::refusals::{Refusals, Sample};
use crate::steps::{self, Tally};

pub use summary::{OddBar, OddSteps, Quality, Segment, Summary};

/// Rows that are sorted or rewritten at a time.
const CHUNK: usize = 1 << 18;

/// How rows are checked and cut into segments.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Drop and count bars with a NaN or infinite price or kept value, and bars with impossible prices.
    pub drop_bad_bars: bool,
    /// Keep the bars that are left out until they are [taken](Ingest::take_rejects).
    pub collect_rejects: bool,
    /// Drop and count exact repeats of the previous bar.
    pub dedup_identical: bool,
    /// Sort the rows. All of them are held in memory.
    pub sort: bool,
    /// A step longer than this many nanoseconds ends a segment.
    pub reset_on_gap: Option<i64>,
    /// Bars are stamped with their close: the bar interval is subtracted.
    pub stamped_at_close: bool,
    /// How the bar interval is found.
    pub bar_interval: Rule,
    /// Which prices bars may have.
    pub prices: Prices,
    /// The columns kept beside the bars.
    pub extra: Vec<String>,
}

/// Rows of one file of a source, in the file's order.
#[derive(Clone, Debug)]
pub struct Batch<'a> {
    /// The number of the file.
    pub file: u32,
    /// The row of the first bar in its file, counted from 0.
    pub first_row: u64,
    /// The row of every bar, if the rows are not consecutive.
    pub rows: Option<&'a [i64]>,
    /// UTC nanoseconds; `i64::MIN` where the timestamp is missing.
    pub timestamps: &'a [i64],
    /// The prices; NaN where one is missing.
    pub bars: Bars<'a>,
    /// The kept columns; NaN where a value is missing.
    pub extra: Vec<&'a [f64]>,
    /// The symbol's number, if the source has symbols.
    pub symbols: Option<&'a [i32]>,
    /// The contract's number, if a change of contract begins a segment.
    pub contracts: Option<&'a [i32]>,
}

/// One row, for sorting and checking.
#[derive(Clone, Copy)]
struct Row {
    file: u32,
    row: u64,
    timestamp: i64,
    bar: Bar,
    symbol: u32,
    contract: i32,
}

/// The state of one symbol. Times are as in the source, before any shift from close to open.
struct Symbol {
    last: Row,
    last_extra: Vec<f32>,
    /// The bar after the first of the steps that are equal up to now.
    run: Row,
    rows: u64,
    /// First row (counted within the symbol), rows, first and last time.
    segments: Vec<(u64, u64, i64, i64)>,
    steps: Tally,
}

/// Takes batches and writes the per-bar files.
pub struct Ingest {
    folder: PathBuf,
    options: Options,
    bars: NpyWriter<f64>,
    timestamps: NpyWriter<i64>,
    extra: Option<NpyWriter<f32>>,
    /// The symbol of every row in the order of arrival. The file exists once a second symbol has arrived.
    codes: Option<NpyWriter<i64>>,
    symbols: Vec<Option<Symbol>>,
    /// The symbols in the order of their first rows.
    arrived: Vec<u32>,
    /// The symbol of the last row.
    current: Option<u32>,
    /// A symbol has returned after another symbol's rows.
    interleaved: bool,
    held: Vec<Row>,
    held_extra: Vec<f32>,
    refusals: Refusals,
    /// Bars with impossible prices that were left out.
    impossible: Refusals,
    /// The bars left out since they were last taken, where they are wanted.
    rejects: Vec<Sample>,
    quality: Quality,
    /// Runs of equal steps, each with the bar after its first step.
    runs: Runs<Row>,
    /// How many more distinct steps the symbols may count.
    room: usize,
    /// Buffers for one batch.
    rows: Buffers,
}

#[derive(Default)]
struct Buffers {
    bars: Vec<f64>,
    timestamps: Vec<i64>,
    extra: Vec<f32>,
    codes: Vec<i64>,
}

impl Ingest {
    /// Creates the files in an existing folder.
    pub fn new(folder: impl Into<PathBuf>, options: Options) -> Result<Self, Error> {
        let folder = folder.into();
        Ok(Ingest {
            bars: NpyWriter::create(folder.join("bars.npy"))?,
            timestamps: NpyWriter::create(folder.join("timestamps.npy"))?,
            extra: if options.extra.is_empty() {
                None
            } else {
                Some(NpyWriter::create(folder.join("extra.npy"))?)
            },
            codes: None,
            symbols: Vec::new(),
            arrived: Vec::new(),
            current: None,
            interleaved: false,
            held: Vec::new(),
            held_extra: Vec::new(),
            refusals: Refusals::default(),
            impossible: Refusals::default(),
            rejects: Vec::new(),
            quality: Quality::default(),
            runs: Runs::default(),
            room: steps::SHARED,
            rows: Buffers::default(),
            folder,
            options,
        })
    }

    /// Every refusal so far. After the first, nothing more is written, but rows are still checked.
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// The bars with impossible prices that were left out. Many of them show that the columns are wrong.
    pub fn impossible(&self) -> &Refusals {
        &self.impossible
    }

    /// The bars left out since the last call, if the options ask for them.
    pub fn take_rejects(&mut self) -> Vec<Sample> {
        std::mem::take(&mut self.rejects)
    }

    #[cold]
    fn reject(&mut self, sample: &Sample) {
        if self.options.collect_rejects {
            self.rejects.push(sample.clone());
        }
    }

    /// Takes the rows of a batch.
    pub fn push(&mut self, batch: &Batch<'_>) -> Result<(), Error> {
        let mut extra = vec![0.0; batch.extra.len()];
        let closes = self.options.stamped_at_close && self.options.bar_interval != Rule::OfEachSymbol;
        for i in 0..batch.bars.len() {
            let row = Row {
                file: batch.file,
                row: batch.rows.map_or(batch.first_row + i as u64, |rows| rows[i] as u64),
                timestamp: if closes { full_minute(batch.timestamps[i]) } else { batch.timestamps[i] },
                bar: batch.bars.bar(i),
                symbol: batch.symbols.map_or(0, |symbols| symbols[i] as u32),
                contract: batch.contracts.map_or(0, |contracts| contracts[i]),
            };
            for (value, column) in extra.iter_mut().zip(&batch.extra) {
                *value = column[i] as f32;
            }
            if !self.is_sound(&row, &extra, |k| batch.extra[k][i]) {
                continue;
            }
            if self.options.sort {
                self.held.push(row);
                self.held_extra.extend_from_slice(&extra);
            } else {
                self.take(&row, &extra);
            }
        }
        self.flush()
    }

    /// Checks a row on its own. `given` returns a kept column's value as in the source.
    #[inline]
    fn is_sound(&mut self, row: &Row, extra: &[f32], given: impl Fn(usize) -> f64) -> bool {
        let missing = extra.iter().position(|x| !x.is_finite());
        if row.bar.is_sound() & (row.timestamp != i64::MIN) & missing.is_none() {
            return true;
        }
        self.is_sound_at_second_look(row, missing, given)
    }

    /// What remains: bars of zero and negative prices, and refusals.
    #[cold]
    fn is_sound_at_second_look(
        &mut self,
        row: &Row,
        missing: Option<usize>,
        given: impl Fn(usize) -> f64,
    ) -> bool {
        if row.bar.passes(self.options.prices) && row.timestamp != i64::MIN && missing.is_none() {
            return true;
        }
        let (fault, column, value) = if row.timestamp == i64::MIN {
            (Fault::NoTimestamp, "timestamp", f64::NAN)
        } else if let Some(fault) = row.bar.fault(self.options.prices) {
            fault
        } else {
            let k = missing.unwrap_or_default();
            (Fault::ExtraNotFinite, self.options.extra[k].as_str(), given(k))
        };
        let sample = sample(row, fault, column.to_owned(), value, None);
        let impossible = matches!(
            fault,
            Fault::OutOfRange
                | Fault::BeyondFloat32
                | Fault::HighBelowLow
                | Fault::OpenOutside
                | Fault::CloseOutside
        );
        if self.options.drop_bad_bars && fault != Fault::NoTimestamp {
            self.quality.dropped_bad_bars += 1;
            self.reject(&sample);
            if impossible {
                self.impossible.add(sample);
            }
        } else {
            self.refusals.add(sample);
        }
        false
    }

    /// Checks a row against the symbol's previous row, and buffers it for writing.
    #[inline]
    fn take(&mut self, row: &Row, extra: &[f32]) {
        let Row { timestamp, bar, symbol, contract, .. } = *row;
        if self.symbols.len() <= symbol as usize {
            self.symbols.resize_with(symbol as usize + 1, || None);
        }
        let first = self.symbols[symbol as usize].is_none();
        if let Some(state) = &mut self.symbols[symbol as usize] {
            let last = state.last;
            if timestamp <= last.timestamp {
                let same = timestamp == last.timestamp;
                if same
                    && self.options.dedup_identical
                    && (bar, extra, contract) == (last.bar, &state.last_extra[..], last.contract)
                {
                    self.quality.dropped_duplicates += 1;
                    let value = timestamp as f64;
                    let previous = Some(last.timestamp);
                    self.reject(&sample(row, Fault::Duplicate, "timestamp".to_owned(), value, previous));
                    return;
                }
                let fault = if same { Fault::Duplicate } else { Fault::OutOfOrder };
                let previous = Some(last.timestamp);
                self.refusals.add(sample(row, fault, "timestamp".to_owned(), timestamp as f64, previous));
                return;
            }
            let step = steps::step(last.timestamp, timestamp);
            if let Some(ended) = state.steps.follow(step, &mut self.room) {
                self.runs.add(ended, || state.run);
                state.run = *row;
            }
            // A share of a price that is zero or negative means nothing.
            let jumps = (bar.close / last.bar.close - 1.0).abs() > 0.5;
            self.quality.jumps += u64::from(jumps && bar.close > 0.0 && last.bar.close > 0.0);
            let rolled = contract != last.contract;
            let gap = self.options.reset_on_gap.is_some_and(|longest| step > longest);
            if rolled | gap {
                self.quality.segments_from_contracts += u64::from(rolled);
                self.quality.segments_from_gaps += u64::from(gap && !rolled);
                state.segments.push((state.rows, 0, timestamp, timestamp));
            }
            state.last = *row;
            state.last_extra.clear();
            state.last_extra.extend_from_slice(extra);
        } else {
            self.symbols[symbol as usize] = Some(Symbol {
                last: *row,
                last_extra: extra.to_vec(),
                run: *row,
                rows: 0,
                segments: vec![(0, 0, timestamp, timestamp)],
                steps: Tally::default(),
            });
        }
        if let Some(state) = &mut self.symbols[symbol as usize]
            && let Some((_, rows, _, last)) = state.segments.last_mut()
        {
            *rows += 1;
            *last = timestamp;
            state.rows += 1;
        }
        self.quality.zero_range_bars += u64::from(bar.high == bar.low);
        if self.current != Some(symbol) {
            self.interleaved |= !first;
            if first {
                self.arrived.push(symbol);
            }
            self.current = Some(symbol);
        }
        self.rows.bars.extend_from_slice(&[bar.open, bar.high, bar.low, bar.close]);
        self.rows.timestamps.push(timestamp);
        self.rows.extra.extend_from_slice(extra);
        self.rows.codes.push(symbol.into());
    }

    /// Appends the buffered rows to the files, unless a row has been refused.
    fn flush(&mut self) -> Result<(), Error> {
        let Buffers { bars, timestamps, extra, codes } = &mut self.rows;
        if self.refusals.is_empty() {
            let before = self.timestamps.len();
            self.bars.append(bars)?;
            self.timestamps.append(timestamps)?;
            if let Some(file) = &mut self.extra {
                file.append(extra)?;
            }
            if self.codes.is_none() && self.arrived.len() > 1 {
                // All rows before this batch belong to the first symbol.
                let mut file = NpyWriter::create(self.folder.join("codes.npy"))?;
                let first = i64::from(self.arrived[0]);
                let mut left = before as usize;
                while left > 0 {
                    let n = left.min(CHUNK);
                    file.append(&vec![first; n])?;
                    left -= n;
                }
                self.codes = Some(file);
            }
            if let Some(file) = &mut self.codes {
                file.append(codes)?;
            }
        }
        bars.clear();
        timestamps.clear();
        extra.clear();
        codes.clear();
        Ok(())
    }

    /// Checks and writes the rows that were held for sorting: by symbol, then by time, then in the order of
    /// arrival.
    pub fn settle(&mut self, order: &[u32], cancel: &Cancel) -> Result<(), Error> {
        let mut rank = vec![u32::MAX; order.iter().max().map_or(0, |&most| most as usize + 1)];
        for (place, &symbol) in order.iter().enumerate() {
            rank[symbol as usize] = place as u32;
        }
        let rows = std::mem::take(&mut self.held);
        let extra = std::mem::take(&mut self.held_extra);
        let width = self.options.extra.len();
        // Pieces are sorted one by one, then merged. Every step is short, so that Ctrl-C is noticed soon.
        let mut keys = Vec::with_capacity(rows.len());
        for (i, row) in rows.iter().enumerate() {
            keys.push((rank[row.symbol as usize], row.timestamp, i));
        }
        for piece in keys.chunks_mut(CHUNK) {
            cancel.check()?;
            piece.sort_unstable();
        }
        let mut pieces: Vec<_> = keys.chunks(CHUNK).map(|piece| piece.iter()).collect();
        let mut next: BinaryHeap<_> =
            pieces.iter_mut().filter_map(|piece| piece.next().map(Reverse)).collect();
        let mut taken = 0;
        while let Some(mut first) = next.peek_mut() {
            let &(_, _, i) = first.0;
            match pieces[i / CHUNK].next() {
                Some(key) => *first = Reverse(key),
                None => drop(PeekMut::pop(first)),
            }
            self.take(&rows[i], &extra[i * width..(i + 1) * width]);
            taken += 1;
            if taken % CHUNK == 0 {
                cancel.check()?;
                self.flush()?;
            }
        }
        self.flush()
    }
}

/// A close stamp, which some vendors write a little before the full minute: as :59.999, :59.999999 or :59.999999999.
#[inline]
pub(crate) fn full_minute(time: i64) -> i64 {
    const MINUTE: i64 = 60_000_000_000;
    let rest = time.rem_euclid(MINUTE);
    let before = matches!(rest, 59_999_000_000 | 59_999_999_000 | 59_999_999_999);
    if before && time != i64::MIN { time.saturating_add(MINUTE - rest) } else { time }
}

fn sample(row: &Row, fault: Fault, column: String, value: f64, previous: Option<i64>) -> Sample {
    Sample {
        fault,
        file: row.file,
        row: row.row,
        timestamp: Some(row.timestamp).filter(|&t| t != i64::MIN),
        column,
        value,
        symbol: Some(row.symbol),
        bar: row.bar,
        previous,
    }
}
