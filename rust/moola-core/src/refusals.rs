//! The report on refused bars: all are counted, and the first few are kept as samples.

use crate::bar::{Bar, Fault};

/// At most this many refused bars are kept as samples. All are counted.
pub const MAX_SAMPLES: usize = 20;

/// One refused bar: its place and its fault.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The fault.
    pub fault: Fault,
    /// The number of the file in the source; 0 for arrays.
    pub file: u32,
    /// The row in that file, counted from 0.
    pub row: u64,
    /// The bar's time as given in the source, UTC nanoseconds.
    pub timestamp: Option<i64>,
    /// The column at fault.
    pub column: String,
    /// The value at fault. For the timestamp column it is a time in nanoseconds, rounded to float64.
    pub value: f64,
    /// The symbol's number in the source, if the source has symbols.
    pub symbol: Option<u32>,
    /// The whole bar.
    pub bar: Bar,
    /// The time of the previous bar, if the fault concerns their order.
    pub previous: Option<i64>,
}

/// All refused bars are counted, and the first few of each fault are kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Refusals {
    counts: [u64; Fault::ALL.len()],
    samples: Vec<Sample>,
}

impl Refusals {
    /// Counts one refusal, and keeps it as a sample if there is room.
    #[cold]
    pub fn add(&mut self, sample: Sample) {
        let count = &mut self.counts[sample.fault as usize];
        *count += 1;
        if *count <= MAX_SAMPLES as u64 {
            self.samples.push(sample);
        }
    }

    /// True when nothing was refused.
    pub fn is_empty(&self) -> bool {
        self.total() == 0
    }

    /// Number of refusals.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The faults that occurred, each with its count.
    pub fn counts(&self) -> impl Iterator<Item = (Fault, u64)> + '_ {
        Fault::ALL.into_iter().zip(self.counts).filter(|&(_, n)| n > 0)
    }

    /// At most [`MAX_SAMPLES`] refusals, in the order in which they occurred. The first of every fault is
    /// taken before the second of any fault, so that a frequent fault does not hide a rare one.
    pub fn samples(&self) -> Vec<&Sample> {
        let mut met = [0; Fault::ALL.len()];
        let mut ranked: Vec<(u64, usize)> = Vec::with_capacity(self.samples.len());
        for (place, sample) in self.samples.iter().enumerate() {
            let rank = &mut met[sample.fault as usize];
            ranked.push((*rank, place));
            *rank += 1;
        }
        ranked.sort_unstable();
        ranked.truncate(MAX_SAMPLES);
        let mut places: Vec<usize> = ranked.into_iter().map(|(_, place)| place).collect();
        places.sort_unstable();
        places.into_iter().map(|place| &self.samples[place]).collect()
    }
}
