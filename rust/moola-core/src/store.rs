//! The files of a store that follow from its bars: features and masks, per bar or per window, written and verified.
//!
//! Everything goes over the rows once, in order, in pieces that fit into the cache. Within a piece segments are
//! computed in parallel, never one segment by several threads; writing and hashing run beside the computation.

use std::path::{Path, PathBuf};
use std::sync::mpsc;

use rayon::prelude::*;

use crate::bars::Bars;
use crate::cancel::Cancel;
use crate::error::Error;
use crate::features::{Engine, FeatureSet, Parameters, compute};
use crate::npy::{Element, NpyReader, NpyWriter, header};

/// Rows of one piece.
const PIECE: usize = 1 << 16;

/// Bytes of windows handed to the disk at a time.
const WINDOW_BUFFER: usize = 4 << 20;

/// What the rows of a store are computed with.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The store's folder, or that of a store in the making.
    pub folder: PathBuf,
    /// Bars in all.
    pub rows: u64,
    /// First row and number of rows of every segment, in order and without gaps.
    pub segments: Vec<(u64, u64)>,
    /// The set.
    pub set: FeatureSet,
    /// Its parameters.
    pub parameters: Parameters,
    /// Threads that compute.
    pub threads: usize,
}

/// A file of a store: name, size and BLAKE3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The name.
    pub name: String,
    /// The shape of its array.
    pub shape: Vec<u64>,
    /// NumPy's name for the type of its values.
    pub dtype: &'static str,
    /// Its size.
    pub bytes: u64,
    /// Its hash in hex.
    pub blake3: String,
}

/// One piece of a store's rows, as the pass over the bars hands it on.
struct Piece<'a> {
    /// The first row.
    first: u64,
    /// `[n, 4]`, as in `bars.npy`.
    bars: &'a [f64],
    /// `[n, D]`.
    features: &'a [f32],
    /// `[n]`.
    valid: &'a [u8],
}

/// A part of a segment that lies in one piece: the engine that comes from the piece before, or a new one.
struct Part {
    segment: usize,
    engine: Engine,
    rows: std::ops::Range<usize>,
}

/// Goes over the bars once and hands on each piece with its rows. Returns the first valid row of every segment.
fn each_piece(
    plan: &Plan,
    cancel: &Cancel,
    mut take: impl FnMut(Piece<'_>) -> Result<(), Error>,
) -> Result<Vec<Option<u64>>, Error> {
    let source = NpyReader::<f64>::open(plan.folder.join("bars.npy"), &[plan.rows, 4])?;
    let width = plan.set.width();
    let mut first_valid = vec![None; plan.segments.len()];
    let (mut bars, mut features, mut valid) = (Vec::new(), Vec::new(), Vec::new());
    let mut columns: [Vec<f64>; 4] = Default::default();
    let mut carried: Option<Part> = None;
    let mut segment = 0;
    let mut pass = |pool: Option<&rayon::ThreadPool>| -> Result<(), Error> {
        let mut first = 0;
        while first < plan.rows {
            cancel.check()?;
            let n = PIECE.min((plan.rows - first) as usize);
            bars.resize(4 * n, 0.0);
            features.resize(width * n, 0.0);
            valid.resize(n, 0);
            source.read(4 * first, &mut bars)?;
            split_columns(&bars, &mut columns);

            let mut parts = Vec::new();
            let mut at = 0;
            while at < n {
                let (segment_first, rows) = plan.segments[segment];
                let engine = match carried.take() {
                    Some(part) => part.engine,
                    None => Engine::new(plan.set, plan.parameters)?,
                };
                let end = n.min((segment_first + rows - first) as usize);
                parts.push(Part { segment, engine, rows: at..end });
                at = end;
                segment += usize::from(first + end as u64 == segment_first + rows);
            }
            compute_parts(pool, &mut parts, &columns, &mut features, &mut valid, cancel)?;
            for part in &parts {
                let start = plan.segments[part.segment].0;
                first_valid[part.segment] =
                    part.engine.first_valid().filter(|&v| v < part.engine.bars()).map(|v| start + v);
            }
            take(Piece { first, bars: &bars, features: &features, valid: &valid })?;
            carried = parts.pop().filter(|part| part.segment == segment);
            first += n as u64;
        }
        Ok(())
    };
    if plan.threads > 1 && plan.segments.len() > 1 {
        // The pool's threads are joined before this returns: none may be alive where a process forks later.
        rayon::ThreadPoolBuilder::new()
            .num_threads(plan.threads)
            .build_scoped(|thread| thread.run(), |pool| pass(Some(pool)))
            .map_err(|error| Error::io("starting threads")(std::io::Error::other(error)))??;
    } else {
        pass(None)?;
    }
    Ok(first_valid)
}

/// `[n, 4]` into four columns.
fn split_columns(bars: &[f64], columns: &mut [Vec<f64>; 4]) {
    let rows = bars.as_chunks::<4>().0;
    for (k, column) in columns.iter_mut().enumerate() {
        column.clear();
        column.extend(rows.iter().map(|row| row[k]));
    }
}

fn compute_parts(
    pool: Option<&rayon::ThreadPool>,
    parts: &mut [Part],
    columns: &[Vec<f64>; 4],
    features: &mut [f32],
    valid: &mut [u8],
    cancel: &Cancel,
) -> Result<(), Error> {
    let [open, high, low, close] = columns;
    let bars = Bars::new(open, high, low, close)?;
    // Each part gets its own slices of the rows.
    let (mut features, mut valid) = (features, valid);
    let mut jobs = Vec::with_capacity(parts.len());
    for part in parts {
        let n = part.rows.len();
        let (rows, rest) = features.split_at_mut(n * part.engine.width());
        let (mask, rest_mask) = valid.split_at_mut(n);
        (features, valid) = (rest, rest_mask);
        jobs.push((part, rows, mask));
    }
    let run = |(part, rows, mask): (&mut Part, &mut [f32], &mut [u8])| {
        let before = part.engine.bars();
        compute(&mut part.engine, bars.slice(part.rows.clone()), rows, cancel)?;
        let first = part.engine.first_valid().unwrap_or(u64::MAX);
        let invalid = first.saturating_sub(before).min(mask.len() as u64) as usize;
        mask[..invalid].fill(0);
        mask[invalid..].fill(1);
        Ok(())
    };
    match pool {
        Some(pool) if jobs.len() > 1 => pool.install(|| jobs.into_par_iter().try_for_each(run)),
        _ => jobs.into_iter().try_for_each(run),
    }
}

/// Writes an array and hashes it on a thread of its own; what is sent is written in the order of sending.
struct Sink<'scope, T> {
    full: mpsc::SyncSender<Vec<T>>,
    empty: mpsc::Receiver<Vec<T>>,
    writer: std::thread::ScopedJoinHandle<'scope, Result<Written, Error>>,
}

/// Buffers under way between the computation and a sink.
const UNDER_WAY: usize = 3;

impl<'scope, T: Element + Send + 'scope> Sink<'scope, T> {
    fn start<'env>(
        scope: &'scope std::thread::Scope<'scope, 'env>,
        folder: &Path,
        name: &str,
        shape: &[u64],
    ) -> Result<Self, Error> {
        let mut file = NpyWriter::<T>::create(folder.join(name))?;
        let (full, filled) = mpsc::sync_channel::<Vec<T>>(UNDER_WAY);
        let (emptied, empty) = mpsc::channel();
        let (name, shape) = (name.to_owned(), shape.to_vec());
        let writer = scope.spawn(move || {
            let mut hasher = blake3::Hasher::new();
            hasher.update(&header(T::DESCR, &shape));
            for mut buffer in filled {
                file.append(&buffer)?;
                hasher.update(bytemuck::cast_slice(&buffer));
                buffer.clear();
                // Nobody may be waiting for it any more.
                let _ = emptied.send(buffer);
            }
            if file.len() != shape.iter().product::<u64>() {
                // The computation broke off; it knows why.
                return Err(Error::Cancelled);
            }
            let bytes = file.finish(&shape)?;
            Ok(Written {
                name,
                shape,
                dtype: T::DESCR,
                bytes,
                blake3: hasher.finalize().to_hex().to_string(),
            })
        });
        Ok(Sink { full, empty, writer })
    }

    /// An empty buffer, one that has been used before where there is one.
    fn buffer(&self) -> Vec<T> {
        self.empty.try_recv().unwrap_or_default()
    }

    /// Hands values on; false when the writer has failed, which [`Sink::finish`] then reports.
    fn send(&self, values: Vec<T>) -> bool {
        self.full.send(values).is_ok()
    }

    fn finish(self) -> Result<Written, Error> {
        drop(self.full);
        match self.writer.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// What the computation and the writers return. Where one fails the others stop too, as if cancelled: the error that
/// counts is the one that is not that.
fn settle<T>(
    outcome: Result<T, Error>,
    files: Vec<Result<Written, Error>>,
) -> Result<(T, Vec<Written>), Error> {
    let mut written = Vec::new();
    let mut stopped = false;
    for file in files {
        match file {
            Ok(file) => written.push(file),
            Err(Error::Cancelled) => stopped = true,
            Err(error) => return Err(error),
        }
    }
    match outcome {
        Ok(_) if stopped => Err(Error::Cancelled),
        outcome => outcome.map(|value| (value, written)),
    }
}

/// The hash of `bars.npy`, taken from the pieces of a pass over it.
fn bars_hasher(rows: u64) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&header(f64::DESCR, &[rows, 4]));
    hasher
}

fn bars_written(rows: u64, hasher: &blake3::Hasher) -> Written {
    Written {
        name: "bars.npy".to_owned(),
        shape: vec![rows, 4],
        dtype: f64::DESCR,
        bytes: 128 + 32 * rows,
        blake3: hasher.finalize().to_hex().to_string(),
    }
}

/// Writes `features.npy` and `valid.npy`. Returns the first valid row of every segment, and the files written and read.
pub fn write_rows(plan: &Plan, cancel: &Cancel) -> Result<(Vec<Option<u64>>, Vec<Written>), Error> {
    let width = plan.set.width() as u64;
    std::thread::scope(|scope| {
        let features = Sink::<f32>::start(scope, &plan.folder, "features.npy", &[plan.rows, width])?;
        let valid = Sink::<u8>::start(scope, &plan.folder, "valid.npy", &[plan.rows])?;
        let mut hasher = bars_hasher(plan.rows);
        let outcome = each_piece(plan, cancel, |piece| {
            let (mut rows, mut mask) = (features.buffer(), valid.buffer());
            rows.extend_from_slice(piece.features);
            mask.extend_from_slice(piece.valid);
            let going = features.send(rows) && valid.send(mask);
            hasher.update(bytemuck::cast_slice(piece.bars));
            if going { Ok(()) } else { Err(Error::Cancelled) }
        });
        let files = vec![
            features.finish(),
            valid.finish(),
            outcome.as_ref().map(|_| bars_written(plan.rows, &hasher)).map_err(|_| Error::Cancelled),
        ];
        settle(outcome, files)
    })
}

/// The windows of `length` rows that count: each lies in one segment and ends at a valid bar. In order, as ranges of
/// their first rows.
pub fn windows(
    segments: &[(u64, u64)],
    first_valid: &[Option<u64>],
    length: u64,
) -> Vec<std::ops::Range<u64>> {
    segments
        .iter()
        .zip(first_valid)
        .filter_map(|(&(first, rows), &valid)| {
            let start = first.max((valid? + 1).saturating_sub(length));
            let end = (first + rows + 1).saturating_sub(length);
            (start < end).then_some(start..end)
        })
        .collect()
}

/// The last rows before a piece and the piece itself, so that every window that ends in the piece lies in one run.
struct Recent<T> {
    values: Vec<T>,
    /// Values a row.
    width: usize,
    /// Rows kept from one piece to the next.
    keep: usize,
    /// The row of the first value.
    first: u64,
}

impl<T: Copy> Recent<T> {
    fn new(width: usize, length: u64) -> Self {
        Recent { values: Vec::new(), width, keep: length as usize - 1, first: 0 }
    }

    fn add(&mut self, rows: &[T]) {
        let drop = (self.values.len() / self.width).saturating_sub(self.keep);
        self.values.drain(..drop * self.width);
        self.first += drop as u64;
        self.values.extend_from_slice(rows);
    }

    fn window(&self, start: u64, length: u64) -> &[T] {
        let at = (start - self.first) as usize * self.width;
        &self.values[at..at + length as usize * self.width]
    }
}

/// Calls `take` with the first row of every window that ends in rows `first..end`.
fn windows_ending_in(
    windows: &[std::ops::Range<u64>],
    length: u64,
    first: u64,
    end: u64,
    mut take: impl FnMut(u64) -> Result<(), Error>,
) -> Result<(), Error> {
    let at = windows.partition_point(|range| range.end + length - 1 <= first);
    for range in &windows[at..] {
        if range.start + length > end {
            break;
        }
        let from = range.start.max((first + 1).saturating_sub(length));
        for start in from..range.end.min(end + 1 - length) {
            take(start)?;
        }
    }
    Ok(())
}

/// The names of the arrays of the dense layout.
fn dense_names(width: usize) -> [String; 3] {
    [format!("features_{width}d.npy"), "valid_mask.npy".to_owned(), "window_starts.npy".to_owned()]
}

/// Writes the dense layout: every window of `length` rows that counts, its mask, and the row it starts at.
/// Returns the first valid row of every segment, and the files written and read.
pub fn write_windows(
    plan: &Plan,
    length: u64,
    cancel: &Cancel,
) -> Result<(Vec<Option<u64>>, Vec<Written>), Error> {
    let width = plan.set.width();
    // The number of windows stands in the headers, and how many there are only the features tell.
    let first_valid = each_piece(plan, cancel, |_| Ok(()))?;
    let windows = windows(&plan.segments, &first_valid, length);
    let count = windows.iter().map(|range| range.end - range.start).sum::<u64>();
    let [features_name, mask_name, starts_name] = dense_names(width);
    std::thread::scope(|scope| {
        let features =
            Sink::<f32>::start(scope, &plan.folder, &features_name, &[count, length, width as u64])?;
        let masks = Sink::<u8>::start(scope, &plan.folder, &mask_name, &[count, length])?;
        let starts = Sink::<i64>::start(scope, &plan.folder, &starts_name, &[count])?;
        let mut hasher = bars_hasher(plan.rows);
        let window_bytes = length as usize * width * 4;
        let capacity = (WINDOW_BUFFER / window_bytes).max(1);
        let mut rows = Recent::new(width, length);
        let mut valid = Recent::new(1, length);
        let mut filled = (Vec::new(), Vec::new(), Vec::new());
        let outcome = each_piece(plan, cancel, |piece| {
            hasher.update(bytemuck::cast_slice(piece.bars));
            rows.add(piece.features);
            valid.add(piece.valid);
            let end = piece.first + piece.valid.len() as u64;
            windows_ending_in(&windows, length, piece.first, end, |start| {
                filled.0.extend_from_slice(rows.window(start, length));
                filled.1.extend_from_slice(valid.window(start, length));
                filled.2.push(start as i64);
                if filled.2.len() == capacity {
                    cancel.check()?;
                    send(&features, &masks, &starts, &mut filled)?;
                }
                Ok(())
            })
        })
        .and_then(|first_valid| send(&features, &masks, &starts, &mut filled).map(|()| first_valid));
        let bars = outcome.as_ref().map(|_| bars_written(plan.rows, &hasher)).map_err(|_| Error::Cancelled);
        settle(outcome, vec![features.finish(), masks.finish(), starts.finish(), bars])
    })
}

/// Hands filled buffers to their sinks and takes empty ones; an error when a writer has failed.
fn send<'scope>(
    features: &Sink<'scope, f32>,
    masks: &Sink<'scope, u8>,
    starts: &Sink<'scope, i64>,
    filled: &mut (Vec<f32>, Vec<u8>, Vec<i64>),
) -> Result<(), Error> {
    let empty = (features.buffer(), masks.buffer(), starts.buffer());
    let (rows, valid, first) = std::mem::replace(filled, empty);
    if features.send(rows) && masks.send(valid) && starts.send(first) {
        Ok(())
    } else {
        Err(Error::Cancelled)
    }
}

/// Where a stored value and a recomputed one differ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// The row, or the window in the dense layout.
    pub row: u64,
    /// The column in the row, or the place in the window.
    pub column: u64,
    /// What the file holds.
    pub stored: f64,
    /// What comes out.
    pub computed: f64,
}

/// What recomputing every row of a store showed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recomputed {
    /// First valid row of every segment.
    pub first_valid: Vec<Option<u64>>,
    /// Rows (windows) of features compared.
    pub compared: u64,
    /// How many of them differ, and the first.
    pub features: (u64, Option<Difference>),
    /// How many masks differ, and the first.
    pub masks: (u64, Option<Difference>),
    /// How many window starts differ, and the first; dense layout only.
    pub starts: (u64, Option<Difference>),
}

/// Counts a difference between two runs of values, compared by their bits.
fn compare<T: Element + Into<f64> + Copy>(
    found: &mut (u64, Option<Difference>),
    row: u64,
    stored: &[T],
    computed: &[T],
) {
    if bytemuck::cast_slice::<T, u8>(stored) == bytemuck::cast_slice::<T, u8>(computed) {
        return;
    }
    found.0 += 1;
    if found.1.is_none() {
        let differs = |(a, b): (&T, &T)| bytemuck::bytes_of(a) != bytemuck::bytes_of(b);
        let column = stored.iter().zip(computed).position(differs).unwrap_or_default();
        let (stored, computed) = (stored[column].into(), computed[column].into());
        found.1 = Some(Difference { row, column: column as u64, stored, computed });
    }
}

/// Recomputes every row from `bars.npy` and compares it with what `features.npy` and `valid.npy` hold, to the bit.
pub fn verify_rows(plan: &Plan, cancel: &Cancel) -> Result<Recomputed, Error> {
    let width = plan.set.width();
    let features = NpyReader::<f32>::open(plan.folder.join("features.npy"), &[plan.rows, width as u64])?;
    let valid = NpyReader::<u8>::open(plan.folder.join("valid.npy"), &[plan.rows])?;
    let mut found = Recomputed { compared: plan.rows, ..Recomputed::default() };
    let (mut rows, mut mask) = (Vec::new(), Vec::new());
    let first_valid = each_piece(plan, cancel, |piece| {
        rows.resize(piece.features.len(), 0.0);
        mask.resize(piece.valid.len(), 0);
        features.read(piece.first * width as u64, &mut rows)?;
        valid.read(piece.first, &mut mask)?;
        if bytemuck::cast_slice::<f32, u8>(&rows) != bytemuck::cast_slice::<f32, u8>(piece.features) {
            for (i, (stored, computed)) in
                rows.chunks_exact(width).zip(piece.features.chunks_exact(width)).enumerate()
            {
                compare(&mut found.features, piece.first + i as u64, stored, computed);
            }
        }
        if mask != piece.valid {
            for (i, (stored, computed)) in mask.chunks_exact(1).zip(piece.valid.chunks_exact(1)).enumerate() {
                compare(&mut found.masks, piece.first + i as u64, stored, computed);
            }
        }
        Ok(())
    })?;
    found.first_valid = first_valid;
    Ok(found)
}

/// The same for the dense layout: every window that `count` and `length` speak of.
pub fn verify_windows(plan: &Plan, length: u64, count: u64, cancel: &Cancel) -> Result<Recomputed, Error> {
    let width = plan.set.width();
    let first_valid = each_piece(plan, cancel, |_| Ok(()))?;
    let windows = windows(&plan.segments, &first_valid, length);
    let expected = windows.iter().map(|range| range.end - range.start).sum::<u64>();
    let [features_name, mask_name, starts_name] = dense_names(width);
    if expected != count {
        return Err(Error::Damaged {
            path: plan.folder.join(&features_name),
            problem: format!("has {count} windows where the bars give {expected}"),
        });
    }
    let features = NpyReader::<f32>::open(plan.folder.join(features_name), &[count, length, width as u64])?;
    let masks = NpyReader::<u8>::open(plan.folder.join(mask_name), &[count, length])?;
    let starts = NpyReader::<i64>::open(plan.folder.join(starts_name), &[count])?;
    let mut found = Recomputed { compared: count, ..Recomputed::default() };
    let mut rows = Recent::new(width, length);
    let mut valid = Recent::new(1, length);
    let window_values = length as usize * width;
    let capacity = (WINDOW_BUFFER / (4 * window_values)).max(1);
    let (mut stored, mut stored_masks, mut stored_starts) = (Vec::new(), Vec::new(), Vec::new());
    let mut at = 0;
    found.first_valid = each_piece(plan, cancel, |piece| {
        rows.add(piece.features);
        valid.add(piece.valid);
        let end = piece.first + piece.valid.len() as u64;
        windows_ending_in(&windows, length, piece.first, end, |start| {
            let i = (at % capacity as u64) as usize;
            if i == 0 {
                cancel.check()?;
                let n = capacity.min((count - at) as usize);
                stored.resize(n * window_values, 0.0);
                stored_masks.resize(n * length as usize, 0);
                stored_starts.resize(n, 0);
                features.read(at * window_values as u64, &mut stored)?;
                masks.read(at * length, &mut stored_masks)?;
                starts.read(at, &mut stored_starts)?;
            }
            let window = &stored[i * window_values..][..window_values];
            let mask = &stored_masks[i * length as usize..][..length as usize];
            compare(&mut found.features, at, window, rows.window(start, length));
            compare(&mut found.masks, at, mask, valid.window(start, length));
            if stored_starts[i] != start as i64 {
                found.starts.0 += 1;
                let (stored, computed) = (stored_starts[i] as f64, start as f64);
                found.starts.1.get_or_insert(Difference { row: at, column: 0, stored, computed });
            }
            at += 1;
            Ok(())
        })
    })?;
    Ok(found)
}

/// A window that goes through the stream.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// The number of its segment.
    pub segment: usize,
    /// The row of its first bar.
    pub start: u64,
    /// Where its first row stands among the rows of the features' file.
    pub place: u64,
}

/// Recomputes windows of `length` rows by a stream that is given the bars of their segments one by one and is saved
/// and restored on the way, and compares them with what the file of features holds. Returns how many windows differ,
/// and the first difference: the bar's row and the feature.
///
/// `windows`: length and number of windows, in the dense layout. The samples ascend.
pub fn verify_streamed(
    plan: &Plan,
    windows: Option<(u64, u64)>,
    length: u64,
    samples: &[Sample],
    cancel: &Cancel,
) -> Result<(u64, Option<Difference>), Error> {
    let width = plan.set.width();
    let source = NpyReader::<f64>::open(plan.folder.join("bars.npy"), &[plan.rows, 4])?;
    let features = match windows {
        None => NpyReader::<f32>::open(plan.folder.join("features.npy"), &[plan.rows, width as u64])?,
        Some((length, count)) => {
            let [name, ..] = dense_names(width);
            NpyReader::open(plan.folder.join(name), &[count, length, width as u64])?
        }
    };
    let mut found = (0, None);
    let (mut bars, mut rows, mut stored) = (Vec::new(), Vec::new(), vec![0.0; length as usize * width]);
    for samples in samples.chunk_by(|a, b| a.segment == b.segment) {
        let mut at = plan.segments[samples[0].segment].0;
        let mut stream = crate::features::Stream::new(plan.set, plan.parameters, None)?;
        let mut recent = Recent { first: at, ..Recent::new(width, length) };
        for sample in samples {
            let end = sample.start + length;
            while at < end {
                cancel.check()?;
                let n = PIECE.min((end - at) as usize);
                bars.resize(4 * n, 0.0);
                rows.resize(width * n, 0.0);
                source.read(4 * at, &mut bars)?;
                let pairs = bars.as_chunks::<4>().0.iter().zip(rows.chunks_exact_mut(width));
                for (&[open, high, low, close], row) in pairs {
                    stream.push(&crate::Bar { open, high, low, close }, None, row)?;
                }
                recent.add(&rows);
                stream = crate::features::Stream::from_state(&stream.state())?;
                at += n as u64;
            }
            features.read(sample.place * width as u64, &mut stored)?;
            let mut difference = (0, None);
            compare(&mut difference, sample.start, &stored, recent.window(sample.start, length));
            found.0 += difference.0;
            found.1 = found.1.or(difference.1.map(|d| Difference {
                row: sample.start + d.column / width as u64,
                column: d.column % width as u64,
                ..d
            }));
        }
    }
    Ok(found)
}

/// Values checked against their ranges at a time.
const RANGE_BUFFER: usize = 1 << 18;

/// The first value of an array of float32 that lies outside the range of its column, or is no finite number: its
/// place among all values, and itself. The last dimension of `shape` is that of the columns.
pub fn first_outlier(
    path: &Path,
    shape: &[u64],
    ranges: &[(f32, f32)],
    cancel: &Cancel,
) -> Result<Option<(u64, f32)>, Error> {
    let source = NpyReader::<f32>::open(path, shape)?;
    // Many rows' bounds after one another: a row is too short for wide instructions.
    let repeated = |bound: fn(&(f32, f32)) -> f32| -> Vec<f32> {
        ranges.iter().map(bound).cycle().take(64 * ranges.len()).collect()
    };
    let low = repeated(|range| range.0.max(f32::MIN));
    let high = repeated(|range| range.1.min(f32::MAX));
    let mut values = vec![0.0; (RANGE_BUFFER / low.len()).max(1) * low.len()];
    let mut first = 0;
    while first < source.len() {
        cancel.check()?;
        values.truncate((source.len() - first) as usize);
        source.read(first, &mut values)?;
        for (i, run) in values.chunks(low.len()).enumerate() {
            let inside = |((&x, &low), &high): ((&f32, &f32), &f32)| (x >= low) & (x <= high);
            if !run.iter().zip(&low).zip(&high).fold(true, |sound, x| sound & inside(x))
                && let Some(at) = run.iter().zip(&low).zip(&high).position(|x| !inside(x))
            {
                return Ok(Some((first + (i * low.len() + at) as u64, run[at])));
            }
        }
        first += values.len() as u64;
    }
    Ok(None)
}
