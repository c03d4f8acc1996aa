//! The dense layout: the windows that it stores, and how they are cut from the rows of a pass.

use std::ops::Range;

use crate::error::Error;

/// The files of the dense layout: features, masks and window starts.
pub(super) fn dense_names(width: usize) -> [String; 3] {
    [format!("features_{width}d.npy"), "valid_mask.npy".to_owned(), "window_starts.npy".to_owned()]
}

/// The windows of `length` rows of a store. Each lies in one segment and ends at a valid bar. Returned in
/// order, as ranges of their first rows.
pub fn windows(segments: &[(u64, u64)], first_valid: &[Option<u64>], length: u64) -> Vec<Range<u64>> {
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

/// A piece and the last rows before it, so that every window that ends in the piece is one slice.
pub(super) struct Recent<T> {
    values: Vec<T>,
    /// Values in a row.
    width: usize,
    /// Rows kept from one piece to the next.
    keep: usize,
    /// The row of the first value.
    first: u64,
}

impl<T: Copy> Recent<T> {
    /// Keeps what windows of `length` rows need from one piece to the next. `first` is the first row to be added.
    pub(super) fn new(width: usize, length: u64, first: u64) -> Self {
        Recent { values: Vec::new(), width, keep: length as usize - 1, first }
    }

    /// Adds the rows of the next piece, and drops rows that no later window needs.
    pub(super) fn add(&mut self, rows: &[T]) {
        let drop = (self.values.len() / self.width).saturating_sub(self.keep);
        self.values.drain(..drop * self.width);
        self.first += drop as u64;
        self.values.extend_from_slice(rows);
    }

    /// The values of the window that starts at row `start`.
    pub(super) fn window(&self, start: u64, length: u64) -> &[T] {
        let at = (start - self.first) as usize * self.width;
        &self.values[at..at + length as usize * self.width]
    }
}

/// Calls `take` with the first row of every window that ends in the rows `first..end`.
pub(super) fn windows_ending_in(
    windows: &[Range<u64>],
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
