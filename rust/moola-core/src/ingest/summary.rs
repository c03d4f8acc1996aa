//! The result of an ingest: the segments of the store, and quality counts of its bars.

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
    /// The symbol's commonest step, the smallest on ties.
    pub bar_interval: i64,
}

/// Quality counts of the bars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quality {
    /// Bars in the store.
    pub bars: u64,
    /// Bars whose high equals their low.
    pub zero_range_bars: u64,
    /// Steps longer than the bar interval.
    pub gaps: u64,
    /// Steps shorter than the bar interval.
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
}

/// The result of [`Ingest::finish`](super::Ingest::finish).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// In the order of the store.
    pub segments: Vec<Segment>,
    /// The counts.
    pub quality: Quality,
}
