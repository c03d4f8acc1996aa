//! One-minute bars: what a bar is, when it is refused, and how refusals are reported.

use crate::error::Error;
use crate::features::simd::{Level, at_level};

/// Smallest price accepted, just above the smallest normal float32.
pub const MIN_PRICE: f64 = 1.2e-38;
/// Largest price accepted, just below the largest float32.
pub const MAX_PRICE: f64 = 3.4e38;
/// At most this many offending bars are kept as samples; all of them are counted.
pub const MAX_SAMPLES: usize = 20;

/// One bar: open, high, low and close.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bar {
    /// First price of the minute.
    pub open: f64,
    /// Highest price of the minute.
    pub high: f64,
    /// Lowest price of the minute.
    pub low: f64,
    /// Last price of the minute.
    pub close: f64,
}

/// Why a bar, its time or a column kept with it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Fault {
    /// NaN, null or infinite price.
    NotFinite,
    /// Price ≤ 0 or beyond what a float32 holds.
    OutOfRange,
    /// The high lies below the low.
    HighBelowLow,
    /// The open lies outside [low, high].
    OpenOutside,
    /// The close lies outside [low, high].
    CloseOutside,
    /// The bar has no time.
    NoTimestamp,
    /// The bar has the time of the bar before it.
    Duplicate,
    /// The bar is earlier than the bar before it.
    OutOfOrder,
    /// A kept column is null, NaN, infinite or beyond float32.
    ExtraNotFinite,
}

impl Fault {
    /// Every fault, in the order in which they are reported.
    pub const ALL: [Fault; 9] = [
        Fault::NotFinite,
        Fault::OutOfRange,
        Fault::HighBelowLow,
        Fault::OpenOutside,
        Fault::CloseOutside,
        Fault::NoTimestamp,
        Fault::Duplicate,
        Fault::OutOfOrder,
        Fault::ExtraNotFinite,
    ];

    /// The name under which Python sees it.
    pub fn name(self) -> &'static str {
        match self {
            Fault::NotFinite => "not_finite",
            Fault::OutOfRange => "out_of_range",
            Fault::HighBelowLow => "high_below_low",
            Fault::OpenOutside => "open_outside",
            Fault::CloseOutside => "close_outside",
            Fault::NoTimestamp => "no_timestamp",
            Fault::Duplicate => "duplicate_timestamp",
            Fault::OutOfOrder => "out_of_order",
            Fault::ExtraNotFinite => "extra_not_finite",
        }
    }
}

impl Bar {
    /// Whether the bar passes; the one comparison chain that the fast path repeats over arrays.
    #[inline(always)]
    pub fn is_sound(&self) -> bool {
        (self.low >= MIN_PRICE)
            & (self.high <= MAX_PRICE)
            & (self.low <= self.open)
            & (self.open <= self.high)
            & (self.low <= self.close)
            & (self.close <= self.high)
    }

    /// What is wrong with the bar, in which column, with which value.
    pub fn fault(&self) -> Option<(Fault, &'static str, f64)> {
        if self.is_sound() {
            return None;
        }
        let named = [("open", self.open), ("high", self.high), ("low", self.low), ("close", self.close)];
        let first = |bad: fn(f64) -> bool| named.into_iter().find(|&(_, x)| bad(x));
        Some(if let Some((column, x)) = first(|x| !x.is_finite()) {
            (Fault::NotFinite, column, x)
        } else if let Some((column, x)) = first(|x| !(MIN_PRICE..=MAX_PRICE).contains(&x)) {
            (Fault::OutOfRange, column, x)
        } else if self.high < self.low {
            (Fault::HighBelowLow, "high", self.high)
        } else if self.open < self.low || self.open > self.high {
            (Fault::OpenOutside, "open", self.open)
        } else {
            (Fault::CloseOutside, "close", self.close)
        })
    }
}

/// One refused bar: where it stands and what is wrong with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// What is wrong.
    pub fault: Fault,
    /// The file's number in the source; 0 for arrays.
    pub file: u32,
    /// The row in that file, counted from 0.
    pub row: u64,
    /// The bar's time as the source gave it, UTC nanoseconds.
    pub timestamp: Option<i64>,
    /// The column at fault.
    pub column: String,
    /// The value at fault (a time in nanoseconds where the column is the timestamp, truncated to float64).
    pub value: f64,
    /// The symbol's number in the source, where there are symbols.
    pub symbol: Option<u32>,
    /// The whole bar.
    pub bar: Bar,
    /// The time of the bar before it, where that is what it was judged by.
    pub previous: Option<i64>,
}

/// Everything that was refused: all of it counted, the first few of each kind kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Refusals {
    counts: [u64; Fault::ALL.len()],
    samples: Vec<Sample>,
}

impl Refusals {
    /// Counts one refusal and keeps it while there is room.
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

    /// How many refusals there were in all.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The faults that occurred, each with its count.
    pub fn counts(&self) -> impl Iterator<Item = (Fault, u64)> + '_ {
        Fault::ALL.into_iter().zip(self.counts).filter(|&(_, n)| n > 0)
    }

    /// The first refusals, at most [`MAX_SAMPLES`], in the order in which they were met. Many of one kind do not hide
    /// where another is: the first of every kind comes before the second of any.
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

/// Four columns of one length. The features take only bars that [`Bars::check`] has passed.
#[derive(Clone, Copy, Debug)]
pub struct Bars<'a> {
    /// Opens.
    pub open: &'a [f64],
    /// Highs.
    pub high: &'a [f64],
    /// Lows.
    pub low: &'a [f64],
    /// Closes.
    pub close: &'a [f64],
}

impl<'a> Bars<'a> {
    /// Four columns, refused when their lengths differ.
    pub fn new(open: &'a [f64], high: &'a [f64], low: &'a [f64], close: &'a [f64]) -> Result<Self, Error> {
        let n = open.len();
        if [high.len(), low.len(), close.len()] != [n; 3] {
            return Err(Error::Lengths { open: n, high: high.len(), low: low.len(), close: close.len() });
        }
        Ok(Bars { open, high, low, close })
    }

    /// How many bars there are.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Bar `i`.
    #[inline(always)]
    pub fn bar(&self, i: usize) -> Bar {
        Bar { open: self.open[i], high: self.high[i], low: self.low[i], close: self.close[i] }
    }

    /// The bars of a range of rows.
    pub fn slice(&self, rows: std::ops::Range<usize>) -> Bars<'a> {
        Bars {
            open: &self.open[rows.clone()],
            high: &self.high[rows.clone()],
            low: &self.low[rows.clone()],
            close: &self.close[rows],
        }
    }

    /// Passes the bars, or says which are refused and why. Passing costs one vectorised read of the columns.
    pub fn check(&self) -> Result<(), Error> {
        if all_sound(Level::best(), *self) {
            return Ok(());
        }
        let mut refusals = Refusals::default();
        for i in 0..self.len() {
            let bar = self.bar(i);
            if let Some((fault, column, value)) = bar.fault() {
                refusals.add(Sample {
                    fault,
                    file: 0,
                    row: i as u64,
                    timestamp: None,
                    column: column.to_owned(),
                    value,
                    symbol: None,
                    bar,
                    previous: None,
                });
            }
        }
        Err(Error::Bars(refusals))
    }
}

at_level! {
    /// Whether every bar passes.
    fn all_sound(bars: Bars<'_>) -> bool = are_sound;
}

#[inline(always)]
fn are_sound(bars: Bars<'_>) -> bool {
    let n = bars.len();
    let (open, high, low, close) = (&bars.open[..n], &bars.high[..n], &bars.low[..n], &bars.close[..n]);
    let mut sound = true;
    for i in 0..n {
        sound &= Bar { open: open[i], high: high[i], low: low[i], close: close[i] }.is_sound();
    }
    sound
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Bar = Bar { open: 2.0, high: 4.0, low: 1.0, close: 3.0 };

    #[test]
    fn sound_bars_pass() {
        assert_eq!(GOOD.fault(), None);
        for price in [MIN_PRICE, 1.0, MAX_PRICE] {
            assert_eq!(Bar { open: price, high: price, low: price, close: price }.fault(), None);
        }
    }

    #[test]
    fn every_fault_is_told_apart() {
        for (bar, fault, column) in [
            (Bar { open: f64::NAN, ..GOOD }, Fault::NotFinite, "open"),
            (Bar { high: f64::INFINITY, ..GOOD }, Fault::NotFinite, "high"),
            (Bar { low: 0.0, ..GOOD }, Fault::OutOfRange, "low"),
            (Bar { low: -1.0, ..GOOD }, Fault::OutOfRange, "low"),
            (Bar { low: 1e-39, ..GOOD }, Fault::OutOfRange, "low"),
            (Bar { high: 3.5e38, ..GOOD }, Fault::OutOfRange, "high"),
            (Bar { high: 0.5, ..GOOD }, Fault::HighBelowLow, "high"),
            (Bar { open: 4.5, ..GOOD }, Fault::OpenOutside, "open"),
            (Bar { open: 0.5, ..GOOD }, Fault::OpenOutside, "open"),
            (Bar { close: 4.5, ..GOOD }, Fault::CloseOutside, "close"),
        ] {
            let (got, at, _) = bar.fault().expect("refused");
            assert_eq!((got, at), (fault, column), "{bar:?}");
        }
    }

    #[test]
    fn all_are_counted_and_the_first_are_kept() {
        let n = 50;
        let (good, bad) = (vec![1.0; n], vec![f64::NAN; n]);
        let Err(Error::Bars(refusals)) = Bars::new(&good, &good, &good, &bad).unwrap().check() else {
            panic!("NaN closes must be refused")
        };
        assert_eq!(refusals.total(), 50);
        assert_eq!(refusals.samples().len(), MAX_SAMPLES);
        assert_eq!(refusals.samples()[7].row, 7);
    }

    #[test]
    fn every_kind_is_among_the_samples() {
        let n = 100;
        let (good, mut close) = (vec![1.0; n], vec![f64::NAN; n]);
        (close[30], close[80], close[99]) = (-1.0, 2.0, -2.0);
        let Err(Error::Bars(refusals)) = Bars::new(&good, &good, &good, &close).unwrap().check() else {
            panic!("bad closes must be refused")
        };
        let rows: Vec<u64> = refusals.samples().iter().map(|sample| sample.row).collect();
        assert_eq!(rows, (0..17).chain([30, 80, 99]).collect::<Vec<_>>());
    }
}
