//! Verifies a store: recomputes its rows and compares them bit for bit.

use super::dense::{Recent, dense_names, windows, windows_ending_in};
use super::pass::{PIECE, each_piece, lanes_in_use};
use super::plan::Plan;
use crate::bar::Bar;
use crate::cancel::Cancel;
use crate::error::Error;
use crate::features::Stream;
use crate::npy::{Element, NpyReader};

/// Bytes of windows read for verification at a time.
const WINDOW_BUFFER: usize = 4 << 20;

/// A place where a stored value differs from the recomputed one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// The row, or the window in the dense layout.
    pub row: u64,
    /// The column in the row, or the place in the window in the dense layout.
    pub column: u64,
    /// The value in the file.
    pub stored: f64,
    /// The value that the engine computes.
    pub computed: f64,
}

/// The result of recomputing every row of a store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recomputed {
    /// First valid row of every segment.
    pub first_valid: Vec<Option<u64>>,
    /// Number of rows compared, or of windows in the dense layout.
    pub compared: u64,
    /// How many of them have different features, and the first difference.
    pub features: (u64, Option<Difference>),
    /// How many masks differ, and the first difference.
    pub masks: (u64, Option<Difference>),
    /// How many window starts differ, and the first difference. Dense layout only.
    pub starts: (u64, Option<Difference>),
}

/// Compares two runs of values bit for bit, counts a difference and keeps the first.
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
    // Pieces may come out of order.
    if found.1.is_none_or(|first| row < first.row) {
        let differs = |(a, b): (&T, &T)| bytemuck::bytes_of(a) != bytemuck::bytes_of(b);
        let column = stored.iter().zip(computed).position(differs).unwrap_or_default();
        let (stored, computed) = (stored[column].into(), computed[column].into());
        found.1 = Some(Difference { row, column: column as u64, stored, computed });
    }
}

/// Recomputes every row from `bars.npy` and compares it bit for bit with `features.npy` and `valid.npy`.
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

/// Recomputes the dense layout of `count` windows of `length` rows and compares it bit for bit with its three
/// files.
pub fn verify_windows(plan: &Plan, length: u64, count: u64, cancel: &Cancel) -> Result<Recomputed, Error> {
    let width = plan.set.width();
    let first_valid = each_piece(plan, lanes_in_use(plan), cancel, |_| Ok(()))?;
    let windows = windows(&plan.segments, &first_valid, length);
    let expected = windows.iter().map(|range| range.end - range.start).sum::<u64>();
    let [features_name, mask_name, starts_name] = dense_names(width);
    if expected != count {
        return Err(Error::Damaged {
            path: plan.folder.join(&features_name),
            problem: format!("has {count} windows, but the bars give {expected}"),
        });
    }
    let features = NpyReader::<f32>::open(plan.folder.join(features_name), &[count, length, width as u64])?;
    let masks = NpyReader::<u8>::open(plan.folder.join(mask_name), &[count, length])?;
    let starts = NpyReader::<i64>::open(plan.folder.join(starts_name), &[count])?;
    let mut found = Recomputed { compared: count, ..Recomputed::default() };
    let mut rows = Recent::new(width, length, 0);
    let mut valid = Recent::new(1, length, 0);
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

/// A window that a stream recomputes.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// The number of the window's segment.
    pub segment: usize,
    /// The row of the window's first bar.
    pub start: u64,
    /// The position of the window's first row among the rows of the features' file.
    pub place: u64,
}

/// Recomputes windows of `length` rows with a stream and compares them bit for bit with the stored features.
/// The stream takes the bars of the windows' segments one by one, and is saved and restored on the way.
/// Returns the number of windows that differ, and the first difference: the bar's row and the feature.
///
/// `windows`: the length and number of the stored windows, in the dense layout. The samples must ascend.
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
        let mut stream = Stream::new(plan.set, plan.parameters, None)?;
        stream.set_prices(plan.prices)?;
        let mut recent = Recent::new(width, length, at);
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
                    stream.push(&Bar { open, high, low, close }, None, row)?;
                }
                recent.add(&rows);
                stream = Stream::from_state(&stream.state())?;
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
