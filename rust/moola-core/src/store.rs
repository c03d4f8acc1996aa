//! The files of a store that follow from its bars: features and masks, per bar or per window, written and verified.
//!
//! A pass goes over the rows once, in pieces that fit into the cache, at several places at a time where there are
//! several segments; never are two threads on one segment. Writing and hashing run beside the computation.

use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use rayon::prelude::*;

use crate::bars::Bars;
use crate::cancel::Cancel;
use crate::direct_io::DirectWriter;
use crate::error::Error;
use crate::features::{Engine, FeatureSet, Parameters, compute};
use crate::hash::hash_file;
use crate::npy::{Element, HEADER, NpyPlaces, NpyReader, header};

/// Rows of one piece.
const PIECE: usize = 1 << 16;

/// Bytes of windows read for verification at a time.
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

impl Written {
    /// A `.npy` file of this shape.
    fn array<T: Element>(name: &str, shape: &[u64], hash: blake3::Hash) -> Self {
        Written {
            name: name.to_owned(),
            shape: shape.to_vec(),
            dtype: T::DESCR,
            bytes: HEADER as u64 + shape.iter().product::<u64>() * size_of::<T>() as u64,
            blake3: hash.to_hex().to_string(),
        }
    }
}

/// One piece of a store's rows, as a pass over the bars hands it on. The buffers are the receiver's to take.
struct Piece<'a> {
    /// The first row.
    first: u64,
    /// `[n, 4]`, as in `bars.npy`.
    bars: &'a [f64],
    /// `[n, D]`.
    features: &'a mut Vec<f32>,
    /// `[n]`.
    valid: &'a mut Vec<u8>,
}

/// Segments that one lane goes through: several short ones, a piece in all, or a single one of any length.
#[derive(Clone)]
struct Stretch {
    segments: std::ops::Range<usize>,
    rows: std::ops::Range<u64>,
}

/// The segments in stretches, in order.
fn stretches(segments: &[(u64, u64)]) -> Vec<Stretch> {
    let mut all: Vec<Stretch> = Vec::new();
    for (i, &(first, rows)) in segments.iter().enumerate() {
        match all.last_mut() {
            Some(last) if first + rows - last.rows.start <= PIECE as u64 => {
                last.segments.end = i + 1;
                last.rows.end = first + rows;
            }
            _ => all.push(Stretch { segments: i..i + 1, rows: first..first + rows }),
        }
    }
    all
}

/// One of the places at which a pass works at the same time.
struct Lane {
    stretch: Stretch,
    engine: Engine,
    /// The rows computed last.
    rows: std::ops::Range<u64>,
    bars: Vec<f64>,
    columns: [Vec<f64>; 4],
    features: Vec<f32>,
    valid: Vec<u8>,
    /// First valid rows of the segments that have ended.
    first_valid: Vec<Option<u64>>,
}

impl Lane {
    fn new(plan: &Plan) -> Result<Self, Error> {
        Ok(Lane {
            stretch: Stretch { segments: 0..0, rows: 0..0 },
            engine: Engine::new(plan.set, plan.parameters)?,
            rows: 0..0,
            bars: Vec::new(),
            columns: Default::default(),
            features: Vec::new(),
            valid: Vec::new(),
            first_valid: Vec::new(),
        })
    }

    fn begin(&mut self, stretch: Stretch) {
        self.rows = stretch.rows.start..stretch.rows.start;
        self.stretch = stretch;
        self.engine.reset();
    }

    fn is_done(&self) -> bool {
        self.rows.end == self.stretch.rows.end
    }

    /// Reads and computes the next rows of the stretch.
    fn advance(&mut self, plan: &Plan, source: &NpyReader<f64>, cancel: &Cancel) -> Result<(), Error> {
        self.rows = self.rows.end..self.stretch.rows.end.min(self.rows.end + PIECE as u64);
        let (n, width) = ((self.rows.end - self.rows.start) as usize, self.engine.width());
        self.bars.resize(4 * n, 0.0);
        self.features.resize(width * n, 0.0);
        self.valid.resize(n, 0);
        source.read(4 * self.rows.start, &mut self.bars)?;
        for (k, column) in self.columns.iter_mut().enumerate() {
            column.clear();
            column.extend(self.bars.as_chunks::<4>().0.iter().map(|row| row[k]));
        }
        let [open, high, low, close] = &self.columns;
        let bars = Bars::new(open, high, low, close)?;
        let mut at = self.rows.start;
        while at < self.rows.end {
            let (first, rows) = plan.segments[self.stretch.segments.start];
            let end = self.rows.end.min(first + rows);
            let part = (at - self.rows.start) as usize..(end - self.rows.start) as usize;
            let features = &mut self.features[part.start * width..part.end * width];
            compute(&mut self.engine, bars.slice(part.clone()), features, cancel)?;
            let valid = self.engine.first_valid().map(|row| first + row).filter(|&row| row < end);
            let invalid = (valid.unwrap_or(end).max(at) - at) as usize;
            let mask = &mut self.valid[part];
            mask[..invalid].fill(0);
            mask[invalid..].fill(1);
            if end == first + rows {
                self.first_valid.push(valid);
                self.stretch.segments.start += 1;
                self.engine.reset();
            }
            at = end;
        }
        Ok(())
    }
}

/// Goes over the bars once, at up to `lanes` places at a time, and hands on each piece with its rows: in order where
/// there is one lane. Returns the first valid row of every segment.
fn each_piece(
    plan: &Plan,
    lanes: usize,
    cancel: &Cancel,
    mut take: impl FnMut(Piece<'_>) -> Result<(), Error>,
) -> Result<Vec<Option<u64>>, Error> {
    let source = NpyReader::<f64>::open(plan.folder.join("bars.npy"), &[plan.rows, 4])?;
    let mut first_valid = vec![None; plan.segments.len()];
    let mut waiting = stretches(&plan.segments).into_iter();
    let mut lanes = (0..lanes.max(1)).map(|_| Lane::new(plan)).collect::<Result<Vec<Lane>, Error>>()?;
    let parallel = lanes.len() > 1;
    let mut pass = |pool: Option<&rayon::ThreadPool>| -> Result<(), Error> {
        loop {
            for lane in lanes.iter_mut().filter(|lane| lane.is_done()) {
                if let Some(stretch) = waiting.next() {
                    lane.begin(stretch);
                }
            }
            let mut busy: Vec<&mut Lane> = lanes.iter_mut().filter(|lane| !lane.is_done()).collect();
            if busy.is_empty() {
                return Ok(());
            }
            cancel.check()?;
            match pool {
                Some(pool) if busy.len() > 1 => pool.install(|| {
                    busy.par_iter_mut().try_for_each(|lane| lane.advance(plan, &source, cancel))
                })?,
                _ => busy.iter_mut().try_for_each(|lane| lane.advance(plan, &source, cancel))?,
            }
            for lane in busy {
                let ended = lane.stretch.segments.start - lane.first_valid.len()..lane.stretch.segments.start;
                first_valid[ended].copy_from_slice(&lane.first_valid);
                lane.first_valid.clear();
                let Lane { rows, bars, features, valid, .. } = lane;
                take(Piece { first: rows.start, bars, features, valid })?;
            }
        }
    };
    if parallel {
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

/// How many places a pass can work at.
fn lanes_in_use(plan: &Plan) -> usize {
    plan.threads.min(stretches(&plan.segments).len())
}

/// Writes an array on a thread of its own, and hashes it: as it comes where it comes in order, else at the end.
struct Sink<'scope, T> {
    full: mpsc::SyncSender<(u64, Vec<T>)>,
    used: mpsc::Receiver<Vec<T>>,
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
        cancel: &'scope Cancel,
    ) -> Result<Self, Error> {
        let (path, total) = (folder.join(name), shape.iter().product::<u64>());
        let file = NpyPlaces::<T>::create(&path, shape)?;
        let (full, filled) = mpsc::sync_channel::<(u64, Vec<T>)>(UNDER_WAY);
        let (give_back, used) = mpsc::channel();
        let (name, shape) = (name.to_owned(), shape.to_vec());
        let writer = scope.spawn(move || {
            let mut hasher = blake3::Hasher::new();
            hasher.update(&header(T::DESCR, &shape));
            let (mut written, mut in_order) = (0, true);
            for (first, values) in filled {
                file.write(first, &values)?;
                in_order &= first == written;
                if in_order {
                    hasher.update(bytemuck::cast_slice(&values));
                }
                written += values.len() as u64;
                // Nobody may be waiting for it any more.
                let _ = give_back.send(values);
            }
            if written != total {
                // The computation broke off; it knows why.
                return Err(Error::Cancelled);
            }
            let hash = if in_order { hasher.finalize() } else { hash_file(&path, None, cancel)? };
            Ok(Written::array::<T>(&name, &shape, hash))
        });
        Ok(Sink { full, used, writer })
    }

    /// Takes the values that begin at number `first`, and leaves a buffer for the next: one that has been written where
    /// there is one, its old values still in it, so that whoever overwrites them all need not fill it first. An error
    /// when the writer has failed, which [`Sink::finish`] then reports.
    fn take(&self, first: u64, values: &mut Vec<T>) -> Result<(), Error> {
        let used = self.used.try_recv().unwrap_or_default();
        self.full.send((first, std::mem::replace(values, used))).map_err(|_| Error::Cancelled)
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

/// What is known of `bars.npy` once a pass has gone over it: `hasher` has seen it where the pass was in order.
fn bars_written(plan: &Plan, hasher: Option<blake3::Hasher>, cancel: &Cancel) -> Result<Written, Error> {
    let hash = match hasher {
        Some(hasher) => hasher.finalize(),
        None => hash_file(&plan.folder.join("bars.npy"), None, cancel)?,
    };
    Ok(Written::array::<f64>("bars.npy", &[plan.rows, 4], hash))
}

fn bars_hasher(rows: u64) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&header(f64::DESCR, &[rows, 4]));
    hasher
}

/// Writes `features.npy` and `valid.npy`. Returns the first valid row of every segment, and the files written and
/// read.
pub fn write_rows(plan: &Plan, cancel: &Cancel) -> Result<(Vec<Option<u64>>, Vec<Written>), Error> {
    let width = plan.set.width() as u64;
    let lanes = lanes_in_use(plan);
    std::thread::scope(|scope| {
        let features = Sink::<f32>::start(scope, &plan.folder, "features.npy", &[plan.rows, width], cancel)?;
        let valid = Sink::<u8>::start(scope, &plan.folder, "valid.npy", &[plan.rows], cancel)?;
        let mut hasher = (lanes == 1).then(|| bars_hasher(plan.rows));
        let outcome = each_piece(plan, lanes, cancel, |piece| {
            if let Some(hasher) = &mut hasher {
                hasher.update(bytemuck::cast_slice(piece.bars));
            }
            features.take(piece.first * width, piece.features)?;
            valid.take(piece.first, piece.valid)
        });
        let bars = match &outcome {
            Ok(_) => bars_written(plan, hasher, cancel),
            Err(_) => Err(Error::Cancelled),
        };
        settle(outcome, vec![features.finish(), valid.finish(), bars])
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

/// Writes an array from its first value to its last.
struct Appender<'scope, T> {
    writer: DirectWriter<'scope>,
    name: String,
    shape: Vec<u64>,
    element: PhantomData<T>,
}

impl<'scope, T: Element> Appender<'scope, T> {
    fn start<'env>(
        scope: &'scope std::thread::Scope<'scope, 'env>,
        folder: &Path,
        name: &str,
        shape: &[u64],
        cancel: &'scope Cancel,
    ) -> Result<Self, Error> {
        let mut writer = DirectWriter::create(scope, &folder.join(name), cancel)?;
        writer.append(&header(T::DESCR, shape))?;
        Ok(Appender { writer, name: name.to_owned(), shape: shape.to_vec(), element: PhantomData })
    }

    /// As [`Sink::take`] does, an error when the writer has failed.
    fn append(&mut self, values: &[T]) -> Result<(), Error> {
        self.writer.append(bytemuck::cast_slice(values))
    }

    fn finish(self) -> Result<Written, Error> {
        let (bytes, hash) = self.writer.finish()?;
        let written = Written::array::<T>(&self.name, &self.shape, hash);
        // Fewer bytes when the computation broke off; it knows why.
        if bytes == written.bytes { Ok(written) } else { Err(Error::Cancelled) }
    }
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
    let first_valid = each_piece(plan, lanes_in_use(plan), cancel, |_| Ok(()))?;
    let windows = windows(&plan.segments, &first_valid, length);
    let count = windows.iter().map(|range| range.end - range.start).sum::<u64>();
    let [features_name, mask_name, starts_name] = dense_names(width);
    let shape = [count, length, width as u64];
    std::thread::scope(|scope| {
        let mut features = Appender::<f32>::start(scope, &plan.folder, &features_name, &shape, cancel)?;
        let mut masks = Appender::<u8>::start(scope, &plan.folder, &mask_name, &shape[..2], cancel)?;
        let mut starts = Appender::<i64>::start(scope, &plan.folder, &starts_name, &shape[..1], cancel)?;
        let mut hasher = bars_hasher(plan.rows);
        let (mut rows, mut valid) = (Recent::new(width, length), Recent::new(1, length));
        // In order: writing takes longer than computing, and what comes in order is hashed in passing.
        let outcome = each_piece(plan, 1, cancel, |piece| {
            hasher.update(bytemuck::cast_slice(piece.bars));
            rows.add(piece.features);
            valid.add(piece.valid);
            let end = piece.first + piece.valid.len() as u64;
            windows_ending_in(&windows, length, piece.first, end, |start| {
                cancel.check()?;
                features.append(rows.window(start, length))?;
                masks.append(valid.window(start, length))?;
                starts.append(&[start as i64])
            })
        });
        let bars = match &outcome {
            Ok(_) => bars_written(plan, Some(hasher), cancel),
            Err(_) => Err(Error::Cancelled),
        };
        settle(outcome, vec![features.finish(), masks.finish(), starts.finish(), bars])
    })
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
    // Pieces need not come in order.
    if found.1.is_none_or(|first| row < first.row) {
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
    let first_valid = each_piece(plan, lanes_in_use(plan), cancel, |piece| {
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
        if mask != *piece.valid {
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
    let first_valid = each_piece(plan, lanes_in_use(plan), cancel, |_| Ok(()))?;
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
    found.first_valid = each_piece(plan, 1, cancel, |piece| {
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
                    stream.push(&crate::bar::Bar { open, high, low, close }, None, row)?;
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
