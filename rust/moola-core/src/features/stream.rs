//! Live features, bar by bar: an engine, the store's gap rule, and a state that can be saved.

use std::borrow::Cow;
use std::mem::MaybeUninit;

use super::engine::{Engine, slots};
use super::feed::{Feed, Given};
use super::parameters::Parameters;
use super::set::FeatureSet;
use super::state::{Reader, Writer};
use crate::bar::{Bar, Fault, Prices};
use crate::bars::Bars;
use crate::error::Error;
use crate::refusals::{Refusals, Sample};

/// Names the format; the digit is its version. Version 2 also says what the feed's times mean. A stream whose times are open
/// times in nanoseconds, as all were in version 1, is still saved in version 1. Version 3 is version 2 of a stream whose prices
/// may be zero or negative.
const MAGIC: [u8; 12] = *b"moola-state1";
const MAGIC_WITH_FEED: [u8; 12] = *b"moola-state2";
const MAGIC_OF_ANY_SIGN: [u8; 12] = *b"moola-state3";

/// Takes closed bars and gives one row of features for each, with the same bits as computing whole columns.
pub struct Stream {
    engine: Engine,
    reset_on_gap: Option<i64>,
    /// The latest open time seen. A bar without a time does not change it.
    last_timestamp: Option<i64>,
    feed: Feed,
    /// The last row that [`Stream::push_row`] returned.
    row: Vec<f32>,
}

impl Stream {
    /// An empty stream. A gap of more than `reset_on_gap` nanoseconds between two bars begins a new segment.
    pub fn new(set: FeatureSet, parameters: Parameters, reset_on_gap: Option<i64>) -> Result<Self, Error> {
        if let Some(gap) = reset_on_gap.filter(|&gap| gap <= 0) {
            return Err(Error::Config {
                name: "reset_on_gap",
                problem: format!("must be above 0, not {gap} ns"),
            });
        }
        Ok(Stream::with(Engine::new(set, parameters)?, reset_on_gap, None))
    }

    fn with(engine: Engine, reset_on_gap: Option<i64>, last_timestamp: Option<i64>) -> Self {
        let row = vec![0.0; engine.width()];
        Stream { engine, reset_on_gap, last_timestamp, feed: Feed::default(), row }
    }

    /// Sets which prices bars may have. Refuses those that the set's formulas do not allow.
    pub fn set_prices(&mut self, prices: Prices) -> Result<(), Error> {
        self.engine.set_prices(prices)
    }

    /// Sets what the feed's times mean: see [`Stream::open_of`].
    pub fn set_feed(&mut self, feed: Feed) {
        self.feed = feed;
    }

    /// What the feed's times mean.
    pub fn feed(&self) -> &Feed {
        &self.feed
    }

    /// The open time of the next bar, from its time as the feed gives it. Refuses a time that cannot be in the feed's unit.
    /// All other functions take open times.
    #[inline]
    pub fn open_of(&self, given: Given) -> Result<i64, Error> {
        self.feed.open_of(given, self.last_timestamp)
    }

    /// The open times of the next bars: [`Stream::open_of`] of each.
    pub fn opens_of<'a>(&self, given: &'a [i64], instants: bool) -> Result<Cow<'a, [i64]>, Error> {
        let mut last = self.last_timestamp;
        let mut opens = given.iter().map(|&time| {
            let given = if instants { Given::Instant(time) } else { Given::Number(time) };
            let open = self.feed.open_of(given, last)?;
            last = last.max(Some(open));
            Ok(open)
        });
        if self.feed.keeps_times() {
            opens.try_for_each(|open| open.map(drop))?;
            return Ok(Cow::Borrowed(given));
        }
        opens.collect::<Result<Vec<i64>, Error>>().map(Cow::Owned)
    }

    /// The segment so far.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The latest open time seen; `None` before the first bar that has a time. The next time must be later.
    pub fn last_timestamp(&self) -> Option<i64> {
        self.last_timestamp
    }

    /// The gap rule.
    pub fn reset_on_gap(&self) -> Option<i64> {
        self.reset_on_gap
    }

    /// Begins a new segment. The next bar must still be later than the last.
    pub fn reset(&mut self) {
        self.engine.reset();
    }

    /// Takes a closed bar and writes its row. An error leaves the stream unchanged.
    #[inline]
    pub fn push(&mut self, bar: &Bar, timestamp: Option<i64>, out: &mut [f32]) -> Result<(), Error> {
        let last = self.last_timestamp;
        if !bar.passes(self.engine.prices()) || timestamp.is_some_and(|t| last.is_some_and(|last| t <= last))
        {
            let columns = [bar.open, bar.high, bar.low, bar.close];
            let [o, h, l, c] = std::array::from_fn(|k| std::slice::from_ref(&columns[k]));
            return Err(Error::Bars(
                self.refusals(Bars { open: o, high: h, low: l, close: c }, timestamp.as_slice()),
            ));
        }
        self.take_time(timestamp)?;
        self.engine.push(bar, out);
        Ok(())
    }

    /// Takes a closed bar and returns its row, in memory that the next call reuses. An error leaves the
    /// stream unchanged.
    #[inline]
    pub fn push_row(&mut self, bar: &Bar, timestamp: Option<i64>) -> Result<&[f32], Error> {
        let mut row = std::mem::take(&mut self.row);
        let outcome = self.push(bar, timestamp, &mut row);
        self.row = row;
        outcome.map(|()| &self.row[..])
    }

    /// Takes closed bars and writes their rows. An error leaves the stream unchanged.
    pub fn push_many(
        &mut self,
        bars: Bars<'_>,
        timestamps: Option<&[i64]>,
        out: &mut [f32],
    ) -> Result<(), Error> {
        self.push_many_new(bars, timestamps, slots(out))
    }

    /// As [`Stream::push_many`], into memory that may be uninitialised. After success every value is written.
    pub fn push_many_new(
        &mut self,
        bars: Bars<'_>,
        timestamps: Option<&[i64]>,
        out: &mut [MaybeUninit<f32>],
    ) -> Result<(), Error> {
        self.check(bars, timestamps)?;
        self.take_many(bars, timestamps, out)
    }

    /// Refuses bars before any of them is taken.
    fn check(&self, bars: Bars<'_>, timestamps: Option<&[i64]>) -> Result<(), Error> {
        let refusals = self.refusals(bars, timestamps.unwrap_or_default());
        if refusals.is_empty() { Ok(()) } else { Err(Error::Bars(refusals)) }
    }

    /// Takes bars that have been checked.
    fn take_many(
        &mut self,
        bars: Bars<'_>,
        timestamps: Option<&[i64]>,
        out: &mut [MaybeUninit<f32>],
    ) -> Result<(), Error> {
        let width = self.engine.width();
        let Some(timestamps) = timestamps.filter(|t| !t.is_empty()) else {
            if !bars.is_empty() {
                self.take_time(None)?;
            }
            self.engine.push_many_new(bars, out);
            return Ok(());
        };
        let mut start = 0;
        while start < bars.len() {
            self.take_time(Some(timestamps[start]))?;
            let run = match self.reset_on_gap {
                None => bars.len() - start,
                Some(gap) => timestamps[start..]
                    .windows(2)
                    .position(|t| t[1].abs_diff(t[0]) > gap as u64)
                    .map_or(bars.len() - start, |i| i + 1),
            };
            let end = start + run;
            self.engine.push_many_new(bars.slice(start..end), &mut out[start * width..end * width]);
            self.last_timestamp = Some(timestamps[end - 1]);
            start = end;
        }
        Ok(())
    }

    /// Records the time of the next bar, and begins a new segment if the gap rule requires it.
    #[inline]
    fn take_time(&mut self, timestamp: Option<i64>) -> Result<(), Error> {
        if let Some(gap) = self.reset_on_gap {
            let Some(now) = timestamp else {
                return Err(Error::Timestamp(
                    "reset_on_gap needs the timestamp of every bar: pass timestamp=".into(),
                ));
            };
            if self.last_timestamp.is_some_and(|last| now.abs_diff(last) > gap as u64) {
                self.engine.reset();
            }
        }
        self.last_timestamp = timestamp.or(self.last_timestamp);
        Ok(())
    }

    /// All faults of the given bars, before any of them is taken.
    fn refusals(&self, bars: Bars<'_>, timestamps: &[i64]) -> Refusals {
        let mut refusals = match bars.check(self.engine.prices()) {
            Err(Error::Bars(refusals)) => refusals,
            _ => Refusals::default(),
        };
        let mut last = self.last_timestamp;
        // A report gives times as the feed does.
        let shift = self.feed.shift();
        for (row, &timestamp) in timestamps.iter().enumerate() {
            let fault = match last {
                Some(last) if timestamp == last => Some(Fault::Duplicate),
                Some(last) if timestamp < last => Some(Fault::OutOfOrder),
                _ => None,
            };
            match fault {
                None => last = Some(timestamp),
                Some(fault) => refusals.add(Sample {
                    fault,
                    file: 0,
                    row: row as u64,
                    timestamp: Some(timestamp.saturating_add(shift)),
                    column: "timestamp".to_owned(),
                    value: timestamp.saturating_add(shift) as f64,
                    symbol: None,
                    bar: bars.bar(row),
                    previous: last.map(|last| last.saturating_add(shift)),
                }),
            }
        }
        refusals
    }

    /// The whole state.
    pub fn state(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        let magic = match self.engine.prices() {
            Prices::AnySign => MAGIC_OF_ANY_SIGN,
            Prices::Positive if self.feed == Feed::default() => MAGIC,
            Prices::Positive => MAGIC_WITH_FEED,
        };
        writer.bytes(&magic);
        if magic != MAGIC {
            self.feed.save(&mut writer);
        }
        writer.option(self.reset_on_gap, Writer::i64);
        writer.option(self.last_timestamp, Writer::i64);
        self.engine.save(&mut writer);
        writer.finish()
    }

    /// A stream that continues where the saved one stopped.
    pub fn from_state(state: &[u8]) -> Result<Self, Error> {
        let (name, _) = MAGIC.split_at(MAGIC.len() - 1);
        if !state.starts_with(name) {
            return Err(Error::State(
                "it is not the state of a moola stream; pass what FeatureStream.state() returned",
            ));
        }
        if ![MAGIC, MAGIC_WITH_FEED, MAGIC_OF_ANY_SIGN].iter().any(|magic| state.starts_with(magic)) {
            return Err(Error::State(
                "it is from another version of moola; build the stream again from its bars",
            ));
        }
        let mut reader = Reader::new(state)?;
        let magic = reader.bytes::<12>()?;
        let feed = if magic == MAGIC { Feed::default() } else { Feed::load(&mut reader)? };
        let reset_on_gap = reader.option(Reader::i64)?;
        let last_timestamp = reader.option(Reader::i64)?;
        let mut engine = Engine::load(&mut reader)?;
        if magic == MAGIC_OF_ANY_SIGN {
            engine.set_prices(Prices::AnySign)?;
        }
        reader.finish()?;
        let mut stream = Stream::with(engine, reset_on_gap, last_timestamp);
        stream.set_feed(feed);
        Ok(stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_as_wide_as_its_set() {
        let mut stream = Stream::new(FeatureSet::Wide, Parameters::default(), None).unwrap();
        let bar = |close| Bar { open: 2.0, high: 3.0, low: 1.0, close };
        assert_eq!(stream.push_row(&bar(2.5), Some(60)).unwrap(), [2.5; 40]);
        assert!(stream.push_row(&bar(2.5), Some(60)).is_err());
        assert_eq!(stream.push_row(&bar(1.5), Some(120)).unwrap(), [1.5; 40]);
    }
}
