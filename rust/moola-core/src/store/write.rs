//! Writes a store's features and masks, per bar or per window. Writing and hashing run in parallel with the
//! computation.

use std::marker::PhantomData;
use std::path::Path;
use std::sync::mpsc;
use std::thread::{Scope, ScopedJoinHandle};

use super::dense::{Recent, dense_names, windows, windows_ending_in};
use super::pass::{each_piece, lanes_in_use};
use super::plan::{Plan, Written};
use crate::cancel::Cancel;
use crate::direct_io::DirectWriter;
use crate::error::Error;
use crate::hash::hash_file;
use crate::npy::{Element, NpyPlaces, header};

/// Writes an array on its own thread and hashes it: while writing if the values come in order, else at the
/// end.
struct Sink<'scope, T> {
    full: mpsc::SyncSender<(u64, Vec<T>)>,
    used: mpsc::Receiver<Vec<T>>,
    writer: ScopedJoinHandle<'scope, Result<Written, Error>>,
}

/// The most buffers queued between the computation and a sink.
const UNDER_WAY: usize = 3;

impl<'scope, T: Element + Send + 'scope> Sink<'scope, T> {
    fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
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
            hasher.update(&header(T::DESCR, &shape)?);
            let (mut written, mut in_order) = (0, true);
            for (first, values) in filled {
                file.write(first, &values)?;
                in_order &= first == written;
                if in_order {
                    hasher.update(bytemuck::cast_slice(&values));
                }
                written += values.len() as u64;
                // The computation may have ended and need no more buffers.
                let _ = give_back.send(values);
            }
            if written != total {
                // The computation stopped early and reports the reason.
                return Err(Error::Cancelled);
            }
            let hash = if in_order { hasher.finalize() } else { hash_file(&path, None, cancel)? };
            Ok(Written::array::<T>(&name, &shape, hash))
        });
        Ok(Sink { full, used, writer })
    }

    /// Takes the values that begin at index `first`, and leaves a buffer for the next ones. The buffer may
    /// still hold old values: the caller overwrites them all, so clearing it would waste time. Fails if the
    /// writer has failed; [`Sink::finish`] then returns the cause.
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

/// Joins the outcomes of the computation and of the writers. If one of them fails, the others stop with
/// [`Error::Cancelled`], so any other error is the cause and is returned.
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

/// The record of `bars.npy` after a pass. If the pass was in order, `hasher` has hashed the whole file.
fn bars_written(plan: &Plan, hasher: Option<blake3::Hasher>, cancel: &Cancel) -> Result<Written, Error> {
    let hash = match hasher {
        Some(hasher) => hasher.finalize(),
        None => hash_file(&plan.folder.join("bars.npy"), None, cancel)?,
    };
    Ok(Written::array::<f64>("bars.npy", &[plan.rows, 4], hash))
}

fn bars_hasher(rows: u64) -> Result<blake3::Hasher, Error> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&header(f64::DESCR, &[rows, 4])?);
    Ok(hasher)
}

/// Writes `features.npy` and `valid.npy`. Returns the first valid row of every segment, and the records of the files
/// written and of `bars.npy`.
pub fn write_rows(plan: &Plan, cancel: &Cancel) -> Result<(Vec<Option<u64>>, Vec<Written>), Error> {
    let width = plan.set.width() as u64;
    let lanes = lanes_in_use(plan);
    std::thread::scope(|scope| {
        let features = Sink::<f32>::start(scope, &plan.folder, "features.npy", &[plan.rows, width], cancel)?;
        let valid = Sink::<u8>::start(scope, &plan.folder, "valid.npy", &[plan.rows], cancel)?;
        let mut hasher = (lanes == 1).then(|| bars_hasher(plan.rows)).transpose()?;
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

/// Writes an array from its first value to its last, past the page cache.
struct Appender<'scope, T> {
    writer: DirectWriter<'scope>,
    name: String,
    shape: Vec<u64>,
    element: PhantomData<T>,
}

impl<'scope, T: Element> Appender<'scope, T> {
    fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        folder: &Path,
        name: &str,
        shape: &[u64],
        cancel: &'scope Cancel,
    ) -> Result<Self, Error> {
        let mut writer = DirectWriter::create(scope, &folder.join(name), cancel)?;
        writer.append(&header(T::DESCR, shape)?)?;
        Ok(Appender { writer, name: name.to_owned(), shape: shape.to_vec(), element: PhantomData })
    }

    /// Appends values. Fails if the writer has failed, as [`Sink::take`] does.
    fn append(&mut self, values: &[T]) -> Result<(), Error> {
        self.writer.append(bytemuck::cast_slice(values))
    }

    fn finish(self) -> Result<Written, Error> {
        let (bytes, hash) = self.writer.finish()?;
        let written = Written::array::<T>(&self.name, &self.shape, hash);
        // The file is short if the computation stopped early; the computation reports the reason.
        if bytes == written.bytes { Ok(written) } else { Err(Error::Cancelled) }
    }
}

/// Writes the dense layout: every window of `length` rows in [`windows`], its mask, and the row where it starts.
/// Returns the first valid row of every segment, and the records of the files written and of `bars.npy`.
pub fn write_windows(
    plan: &Plan,
    length: u64,
    cancel: &Cancel,
) -> Result<(Vec<Option<u64>>, Vec<Written>), Error> {
    let width = plan.set.width();
    // The headers hold the number of windows, which depends on the features. So a first pass counts them.
    let first_valid = each_piece(plan, lanes_in_use(plan), cancel, |_| Ok(()))?;
    let windows = windows(&plan.segments, &first_valid, length);
    let count = windows.iter().map(|range| range.end - range.start).sum::<u64>();
    let [features_name, mask_name, starts_name] = dense_names(width);
    let shape = [count, length, width as u64];
    std::thread::scope(|scope| {
        let mut features = Appender::<f32>::start(scope, &plan.folder, &features_name, &shape, cancel)?;
        let mut masks = Appender::<u8>::start(scope, &plan.folder, &mask_name, &shape[..2], cancel)?;
        let mut starts = Appender::<i64>::start(scope, &plan.folder, &starts_name, &shape[..1], cancel)?;
        let mut hasher = bars_hasher(plan.rows)?;
        let (mut rows, mut valid) = (Recent::new(width, length, 0), Recent::new(1, length, 0));
        // One lane: writing takes longer than computing, and values that come in order are hashed while
        // writing.
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
