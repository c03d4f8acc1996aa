//! From batches of rows, in whatever order a source gives them, to the per-bar files of a store.
//!
//! Every row is checked here. What passes is appended to `bars.npy`, `timestamps.npy` and `extra.npy` at once, so
//! that memory stays bounded. Where the symbols of a panel turn out to be interleaved, [`Ingest::finish`] brings the
//! rows into the order of the store, symbol by symbol, with one more pass over the files.

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BinaryHeap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use crate::bar::{Bar, Fault};
use crate::bars::Bars;
use crate::cancel::Cancel;
use crate::error::Error;
use crate::npy::{NpyPlaces, NpyReader, NpyWriter};
use crate::refusals::{Refusals, Sample};
use crate::steps::{self, Tally};

/// Rows that are brought into order at a time.
const CHUNK: usize = 1 << 18;

/// How rows are judged and cut into segments.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Leave bars with a NaN or infinite price or kept value out, and count them.
    pub drop_bad_bars: bool,
    /// Leave exact repeats of the bar before out, and count them.
    pub dedup_identical: bool,
    /// Bring rows into order; they are all held in memory.
    pub sort: bool,
    /// A step longer than so many nanoseconds ends a segment.
    pub reset_on_gap: Option<i64>,
    /// Bars are stamped with their close: the symbol's commonest step is subtracted.
    pub stamped_at_close: bool,
    /// The columns kept beside the bars.
    pub extra: Vec<String>,
}

/// Rows of one file of a source, in its order.
#[derive(Clone, Debug)]
pub struct Batch<'a> {
    /// The file's number.
    pub file: u32,
    /// The row of the first bar in its file, counted from 0.
    pub first_row: u64,
    /// The row of every bar, where they do not follow one another.
    pub rows: Option<&'a [i64]>,
    /// UTC nanoseconds; `i64::MIN` where there is none.
    pub timestamps: &'a [i64],
    /// NaN where there is no price.
    pub bars: Bars<'a>,
    /// The kept columns; NaN where there is no value.
    pub extra: Vec<&'a [f64]>,
    /// The symbol's number, where there are symbols.
    pub symbols: Option<&'a [i32]>,
    /// The contract's number, where a change of contract begins a segment.
    pub contracts: Option<&'a [i32]>,
}

/// A run of bars of one symbol, in rows of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The symbol's number in the source.
    pub symbol: u32,
    /// First row.
    pub first_row: u64,
    /// How many rows.
    pub rows: u64,
    /// Time of the first bar.
    pub first_timestamp: i64,
    /// Time of the last bar.
    pub last_timestamp: i64,
    /// The symbol's commonest step, the smallest on ties.
    pub bar_interval: i64,
}

/// What was noticed about bars that were accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quality {
    /// Bars in the store.
    pub bars: u64,
    /// Bars whose high is their low.
    pub zero_range_bars: u64,
    /// Steps longer than the bar interval.
    pub gaps: u64,
    /// Steps shorter than the bar interval.
    pub short_steps: u64,
    /// The longest step in nanoseconds.
    pub longest_step: i64,
    /// Closes more than 50 % away from the close before.
    pub jumps: u64,
    /// Bars left out because a value was NaN or infinite.
    pub dropped_bad_bars: u64,
    /// Exact repeats left out.
    pub dropped_duplicates: u64,
    /// Segments begun by a gap.
    pub segments_from_gaps: u64,
    /// Segments begun by another contract.
    pub segments_from_contracts: u64,
}

/// What [`Ingest::finish`] made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// In the order of the store.
    pub segments: Vec<Segment>,
    /// What was noticed.
    pub quality: Quality,
}

/// One row, for sorting and judging.
#[derive(Clone, Copy)]
struct Row {
    file: u32,
    row: u64,
    timestamp: i64,
    bar: Bar,
    symbol: u32,
    contract: i32,
}

/// Where a symbol stands; times are as the source stamps them.
struct Symbol {
    last: i64,
    last_bar: Bar,
    last_extra: Vec<f32>,
    contract: i32,
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
    /// The symbol of every row in the order of arrival, from the second symbol on.
    codes: Option<NpyWriter<i64>>,
    symbols: Vec<Option<Symbol>>,
    /// The symbols in the order in which they first came.
    arrived: Vec<u32>,
    /// The symbol of the last row.
    current: Option<u32>,
    /// A symbol came again after another.
    interleaved: bool,
    held: Vec<Row>,
    held_extra: Vec<f32>,
    refusals: Refusals,
    quality: Quality,
    /// Distinct steps that the symbols may still count.
    room: usize,
    /// Scratch for one batch.
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
            quality: Quality::default(),
            room: steps::SHARED,
            rows: Buffers::default(),
            folder,
            options,
        })
    }

    /// Everything refused so far. Once there is any, nothing more is written, but rows are still judged.
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Takes the rows of a batch.
    pub fn push(&mut self, batch: &Batch<'_>) -> Result<(), Error> {
        let mut extra = vec![0.0; batch.extra.len()];
        for i in 0..batch.bars.len() {
            let row = Row {
                file: batch.file,
                row: batch.rows.map_or(batch.first_row + i as u64, |rows| rows[i] as u64),
                timestamp: batch.timestamps[i],
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

    /// Judges a row on its own; `given` are the kept columns as the source gives them.
    #[inline]
    fn is_sound(&mut self, row: &Row, extra: &[f32], given: impl Fn(usize) -> f64) -> bool {
        let missing = extra.iter().position(|x| !x.is_finite());
        if row.bar.is_sound() & (row.timestamp != i64::MIN) & missing.is_none() {
            return true;
        }
        let (fault, column, value) = if row.timestamp == i64::MIN {
            (Fault::NoTimestamp, "timestamp", f64::NAN)
        } else if let Some(fault) = row.bar.fault() {
            fault
        } else {
            let k = missing.unwrap_or_default();
            (Fault::ExtraNotFinite, self.options.extra[k].as_str(), given(k))
        };
        if self.options.drop_bad_bars && matches!(fault, Fault::NotFinite | Fault::ExtraNotFinite) {
            self.quality.dropped_bad_bars += 1;
        } else {
            self.refusals.add(sample(row, fault, column.to_owned(), value, None));
        }
        false
    }

    /// Judges a row against the one before it, and writes it.
    #[inline]
    fn take(&mut self, row: &Row, extra: &[f32]) {
        let Row { timestamp, bar, symbol, contract, .. } = *row;
        if self.symbols.len() <= symbol as usize {
            self.symbols.resize_with(symbol as usize + 1, || None);
        }
        let first = self.symbols[symbol as usize].is_none();
        if let Some(state) = &mut self.symbols[symbol as usize] {
            if timestamp <= state.last {
                let same = timestamp == state.last;
                if same
                    && self.options.dedup_identical
                    && (bar, extra, contract) == (state.last_bar, &state.last_extra[..], state.contract)
                {
                    self.quality.dropped_duplicates += 1;
                    return;
                }
                let fault = if same { Fault::Duplicate } else { Fault::OutOfOrder };
                let previous = Some(state.last);
                self.refusals.add(sample(row, fault, "timestamp".to_owned(), timestamp as f64, previous));
                return;
            }
            let step = steps::step(state.last, timestamp);
            state.steps.add(step, &mut self.room);
            self.quality.jumps += u64::from((bar.close / state.last_bar.close - 1.0).abs() > 0.5);
            let rolled = contract != state.contract;
            let gap = self.options.reset_on_gap.is_some_and(|longest| step > longest);
            if rolled | gap {
                self.quality.segments_from_contracts += u64::from(rolled);
                self.quality.segments_from_gaps += u64::from(gap && !rolled);
                state.segments.push((state.rows, 0, timestamp, timestamp));
            }
            (state.last, state.last_bar, state.contract) = (timestamp, bar, contract);
            state.last_extra.clear();
            state.last_extra.extend_from_slice(extra);
        } else {
            self.symbols[symbol as usize] = Some(Symbol {
                last: timestamp,
                last_bar: bar,
                last_extra: extra.to_vec(),
                contract,
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

    /// Appends the rows taken to the files, unless the build is bound to fail.
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
                // All rows before this batch are of the first symbol.
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

    /// Completes the files once [`Ingest::settle`] has been called; `order` lists the symbols' numbers in the order in
    /// which the store has them.
    pub fn finish(mut self, order: &[u32], cancel: &Cancel) -> Result<Summary, Error> {
        if !self.refusals.is_empty() {
            return Err(Error::Bars(self.refusals));
        }
        let (folder, width) = (self.folder, self.options.extra.len() as u64);
        let rows = self.timestamps.len();
        self.bars.finish(&[rows, 4])?;
        self.timestamps.finish(&[rows])?;
        if let Some(file) = self.extra {
            file.finish(&[rows, width])?;
        }
        if let Some(file) = self.codes {
            file.finish(&[rows])?;
        }

        let mut starts = vec![0; self.symbols.len()];
        let mut first_row = 0;
        for &symbol in order {
            let Some(Some(state)) = self.symbols.get(symbol as usize) else { continue };
            starts[symbol as usize] = first_row;
            first_row += state.rows;
        }
        // Symbols of which no row was taken have no place in either order.
        let has_rows = |symbol: &&u32| self.symbols.get(**symbol as usize).is_some_and(Option::is_some);
        let in_order = !self.interleaved && self.arrived.iter().eq(order.iter().filter(has_rows));
        if !in_order {
            regroup::<f64>(&folder, "bars.npy", rows, Some(4), &starts, cancel)?;
            regroup::<i64>(&folder, "timestamps.npy", rows, None, &starts, cancel)?;
            if width > 0 {
                regroup::<f32>(&folder, "extra.npy", rows, Some(width), &starts, cancel)?;
            }
        }
        let codes = folder.join("codes.npy");
        if codes.exists() {
            fs::remove_file(&codes).map_err(Error::io(&codes))?;
        }

        let times = NpyReader::<i64>::open(folder.join("timestamps.npy"), &[rows])?;
        let mut segments = Vec::new();
        let mut shifts = Vec::new();
        let mut quality = Quality { bars: rows, ..self.quality };
        for &symbol in order {
            let Some(state) = self.symbols.get_mut(symbol as usize).and_then(Option::take) else { continue };
            let first_row = starts[symbol as usize];
            let steps = match state.steps.finish(&mut self.room) {
                Some(steps) => steps,
                None => steps::recount(&times, first_row..first_row + state.rows, cancel)?,
            };
            let bar_interval = steps.commonest;
            let shift = if self.options.stamped_at_close { bar_interval } else { 0 };
            for &(first, rows, first_timestamp, last_timestamp) in &state.segments {
                segments.push(Segment {
                    symbol,
                    first_row: first_row + first,
                    rows,
                    first_timestamp: first_timestamp - shift,
                    last_timestamp: last_timestamp - shift,
                    bar_interval,
                });
            }
            quality.gaps += steps.longer;
            quality.short_steps += steps.shorter;
            quality.longest_step = quality.longest_step.max(steps.longest);
            shifts.push((first_row, state.rows, shift));
        }
        if self.options.stamped_at_close {
            shift_times(&folder, rows, &shifts, cancel)?;
        }
        Ok(Summary { segments, quality })
    }

    /// Takes the rows that sorting held back: by symbol, then by time, then as they came.
    pub fn settle(&mut self, order: &[u32], cancel: &Cancel) -> Result<(), Error> {
        let mut rank = vec![u32::MAX; order.iter().max().map_or(0, |&most| most as usize + 1)];
        for (place, &symbol) in order.iter().enumerate() {
            rank[symbol as usize] = place as u32;
        }
        let rows = std::mem::take(&mut self.held);
        let extra = std::mem::take(&mut self.held_extra);
        let width = self.options.extra.len();
        // Pieces are sorted one by one, then merged: no step is long, so that Ctrl-C is heard.
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

/// Rewrites a file whose rows lie in the order of arrival: each symbol's rows together, from row `starts[symbol]` on.
fn regroup<T: crate::npy::Element + Default>(
    folder: &Path,
    name: &str,
    rows: u64,
    width: Option<u64>,
    starts: &[u64],
    cancel: &Cancel,
) -> Result<(), Error> {
    let (path, arrived) = (folder.join(name), folder.join(format!("arrived-{name}")));
    fs::rename(&path, &arrived).map_err(Error::io(&path))?;
    let shape: Vec<u64> = [Some(rows), width].into_iter().flatten().collect();
    let width = width.unwrap_or(1) as usize;
    let source = NpyReader::<T>::open(&arrived, &shape)?;
    let codes = NpyReader::<i64>::open(folder.join("codes.npy"), &[rows])?;
    let target = NpyPlaces::<T>::create(&path, &shape)?;
    let mut next = starts.to_vec();
    let mut pieces: HashMap<usize, Vec<T>> = HashMap::new();
    let mut first = 0;
    while first < rows {
        cancel.check()?;
        let n = CHUNK.min((rows - first) as usize);
        let (mut values, mut symbols) = (vec![T::default(); n * width], vec![0; n]);
        source.read(first * width as u64, &mut values)?;
        codes.read(first, &mut symbols)?;
        for (row, &symbol) in values.chunks_exact(width).zip(&symbols) {
            pieces.entry(symbol as usize).or_default().extend_from_slice(row);
        }
        for (&symbol, piece) in &mut pieces {
            target.write(next[symbol] * width as u64, piece)?;
            next[symbol] += (piece.len() / width) as u64;
            piece.clear();
        }
        first += n as u64;
    }
    fs::remove_file(&arrived).map_err(Error::io(&arrived))
}

/// Moves the times of rows `first..first + rows` back by `shift`, for each of `shifts`.
fn shift_times(folder: &Path, rows: u64, shifts: &[(u64, u64, i64)], cancel: &Cancel) -> Result<(), Error> {
    let (path, stamped) = (folder.join("timestamps.npy"), folder.join("stamped-timestamps.npy"));
    fs::rename(&path, &stamped).map_err(Error::io(&path))?;
    let source = NpyReader::<i64>::open(&stamped, &[rows])?;
    let mut target = NpyWriter::<i64>::create(&path)?;
    for &(first, rows, shift) in shifts {
        let mut done = 0;
        while done < rows {
            cancel.check()?;
            let mut times = vec![0; CHUNK.min((rows - done) as usize)];
            source.read(first + done, &mut times)?;
            times.iter_mut().for_each(|t| *t -= shift);
            target.append(&times)?;
            done += times.len() as u64;
        }
    }
    target.finish(&[rows])?;
    fs::remove_file(&stamped).map_err(Error::io(&stamped))
}
