//! The result of an ingest: the segments of the store, and quality counts of its bars.

use crate::bar::Bar;

/// A run of bars of one symbol, in rows of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The symbol's number in the source.
    pub symbol: u32,
    /// First row.
    pub first_row: u64,
    /// Number of rows.
    pub rows: u64,
    /// Time of the first bar.
    pub first_timestamp: i64,
    /// Time of the last bar.
    pub last_timestamp: i64,
    /// The bar interval of the source; 0 where none was found.
    pub bar_interval: i64,
}

/// Quality counts of the bars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quality {
    /// Bars in the store.
    pub bars: u64,
    /// Bars whose high equals their low.
    pub zero_range_bars: u64,
    /// Steps longer than the bar interval, or where there is none, than their symbol's commonest step.
    pub gaps: u64,
    /// Steps shorter than that.
    pub short_steps: u64,
    /// The longest step in nanoseconds.
    pub longest_step: i64,
    /// Closes that differ from the previous close by more than 50 %.
    pub jumps: u64,
    /// Bars dropped because a value was NaN or infinite.
    pub dropped_bad_bars: u64,
    /// Exact repeats that were dropped.
    pub dropped_duplicates: u64,
    /// Segments begun by a gap.
    pub segments_from_gaps: u64,
    /// Segments begun by a change of contract.
    pub segments_from_contracts: u64,
    /// The bar interval in nanoseconds; 0 where there is none.
    pub bar_interval: i64,
    /// The commonest step of 50 or more equal ones in a row that are not the bar interval; 0 where there is none.
    pub another_interval: i64,
    /// Bars off the grid on which most bars lie.
    pub off_grid_bars: u64,
}

/// A bar that shows that the steps of the source are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OddBar {
    /// The file's number in the source.
    pub file: u32,
    /// The row in that file, counted from 0.
    pub row: u64,
    /// The time, as the source gave it.
    pub timestamp: i64,
    /// The symbol's number in the source.
    pub symbol: u32,
    /// The whole bar.
    pub bar: Bar,
    /// The step to this bar from the one before it.
    pub step: i64,
    /// How many such steps follow one another from here on; 1 for a last bar.
    pub steps: u64,
}

/// Bars that are refused because of the steps between them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OddSteps {
    /// The interval that the bars should have.
    pub interval: i64,
    /// How many runs of 50 or more equal steps of another length there are.
    pub runs: u64,
    /// Where the first 20 of them begin.
    pub first_runs: Vec<OddBar>,
    /// How many symbols end with a bar off the grid.
    pub live: u64,
    /// The first 20 of these bars.
    pub first_live: Vec<OddBar>,
    /// The commonest steps with their counts, at most three.
    pub commonest: Vec<(i64, u64)>,
    /// How many steps there are.
    pub steps: u64,
}

/// The result of [`Ingest::finish`](super::Ingest::finish).
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// In the order of the store.
    pub segments: Vec<Segment>,
    /// The counts.
    pub quality: Quality,
    /// What is refused only once all steps are known.
    pub odd: OddSteps,
}
