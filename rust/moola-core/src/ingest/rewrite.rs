//! Passes over the files of a complete ingest: grouping rows by symbol, and shifting times.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use super::CHUNK;
use crate::cancel::Cancel;
use crate::error::Error;
use crate::npy::{Element, NpyPlaces, NpyReader, NpyWriter};

/// Rewrites a file from the order of arrival to the order of the store: a symbol's rows begin at `starts[symbol]`.
pub(super) fn regroup<T: Element + Default>(
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
pub(super) fn shift_times(
    folder: &Path,
    rows: u64,
    shifts: &[(u64, u64, i64)],
    cancel: &Cancel,
) -> Result<(), Error> {
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
