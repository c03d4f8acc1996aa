//! The times of a live feed: its stamp and its unit, turned into the open times that stores have.

use super::state::{Reader, Writer};
use crate::error::Error;
use crate::ingest::full_minute;

const SECOND: i64 = 1_000_000_000;

/// Times from 1974 to 2103 that were read in a unit 1e9, 1e6 or 1e3 times too fine fall below this: into the first 49 days
/// of 1970.
const EARLY: i64 = PLAUSIBLE.1 / 1_000;

/// The years in which bars are expected, in nanoseconds: 1974 to 2103.
const PLAUSIBLE: (i64, i64) = (150_000_000 * SECOND, 4_200_000_000 * SECOND);

/// The unit of times that are given as whole numbers since 1970-01-01T00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    S,
    /// Milliseconds.
    Ms,
    /// Microseconds.
    Us,
    /// Nanoseconds.
    #[default]
    Ns,
}

impl Unit {
    /// All units, the coarsest first.
    pub const ALL: [Unit; 4] = [Unit::S, Unit::Ms, Unit::Us, Unit::Ns];

    /// `s`, `ms`, `us` or `ns`.
    pub fn name(self) -> &'static str {
        ["s", "ms", "us", "ns"][self as usize]
    }

    /// How many nanoseconds it has.
    pub fn nanoseconds(self) -> i64 {
        [SECOND, 1_000_000, 1_000, 1][self as usize]
    }

    /// The unit of this name.
    pub fn from_name(name: &str) -> Result<Self, Error> {
        Unit::ALL.into_iter().find(|unit| unit.name() == name).ok_or_else(|| Error::Config {
            name: "unit",
            problem: format!("{name:?} is no unit of times; give 's', 'ms', 'us' or 'ns'"),
        })
    }
}

/// A bar's time as the feed gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// A number in the feed's unit.
    Number(i64),
    /// UTC nanoseconds that came from a date and time, so that the unit is not in doubt.
    Instant(i64),
}

/// What a feed's times mean. The default is open times in nanoseconds, of bars of any length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Feed {
    close: bool,
    bar_interval: Option<i64>,
    unit: Unit,
}

impl Feed {
    /// `close`: times are the close of their bars, which needs `bar_interval`, in nanoseconds.
    pub fn new(close: bool, bar_interval: Option<i64>, unit: Unit) -> Result<Self, Error> {
        let refused = |name, problem: String| Err(Error::Config { name, problem });
        match bar_interval {
            Some(interval) if interval <= 0 => {
                refused("bar_interval", format!("must be above 0, not {interval} ns"))
            }
            None if close => refused(
                "bar_interval",
                "is missing; times that are the close of their bars need it, such as bar_interval='1m'"
                    .into(),
            ),
            _ => Ok(Feed { close, bar_interval, unit }),
        }
    }

    /// True when times are the close of their bars.
    pub fn stamped_at_close(&self) -> bool {
        self.close
    }

    /// The length of a bar in nanoseconds, where it is known.
    pub fn bar_interval(&self) -> Option<i64> {
        self.bar_interval
    }

    /// The unit of whole numbers.
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// True when a time that the feed gives is the open time in nanoseconds.
    pub(super) fn keeps_times(&self) -> bool {
        !self.close && self.unit == Unit::Ns
    }

    /// What is subtracted from a stamp to give the open time.
    pub(super) fn shift(&self) -> i64 {
        if self.close { self.bar_interval.unwrap_or_default() } else { 0 }
    }

    /// The open time in nanoseconds, and its check. `last`: the open time of the bar before.
    #[inline]
    pub(super) fn open_of(&self, given: Given, last: Option<i64>) -> Result<i64, Error> {
        let stamp = match given {
            Given::Instant(stamp) => stamp,
            Given::Number(number) => {
                number.checked_mul(self.unit.nanoseconds()).ok_or_else(|| self.too_late(number))?
            }
        };
        let shift = self.shift();
        let open = if shift == 0 {
            stamp
        } else {
            full(stamp, last).checked_sub(shift).ok_or_else(|| before_time(stamp))?
        };
        let (Given::Number(number), Some(last)) = (given, last) else { return Ok(open) };
        // Nearly every time is neither.
        if stamp < EARLY || self.bar_interval.is_some() {
            self.check_step(number, stamp, open, last)?;
        }
        Ok(open)
    }

    /// Refuses a number that cannot be in this unit, after a bar that opened at `last`.
    fn check_step(&self, number: i64, stamp: i64, open: i64, last: i64) -> Result<(), Error> {
        let step = open.saturating_sub(last);
        let unit = self.unit.name();
        let factor = shrunk(stamp);
        // A jump back to January 1970.
        if let Some(factor) = factor.filter(|_| step < 0 && last >= PLAUSIBLE.0) {
            return Err(Error::Timestamp(
                format!(
                    "timestamp {number} in {unit} would be in early 1970, before the last bar. {}",
                    self.advice(factor)
                )
                .into(),
            ));
        }
        if step <= 0 {
            // A repeat, or out of order: refused with the bar.
            return Ok(());
        }
        // Bars in early 1970 that are no whole seconds apart.
        let factor = factor.filter(|_| step % SECOND != 0).or_else(|| {
            let interval = self.bar_interval?;
            let enough = |factor: &i64| step.saturating_mul(*factor) >= interval / 2;
            (step < interval / 100)
                .then(|| [1_000, 1_000_000, 1_000_000_000].into_iter().find(enough).unwrap_or(1))
        });
        let Some(factor) = factor else { return Ok(()) };
        let of = self.bar_interval.map(|i| format!(" of {}", told(i))).unwrap_or_default();
        Err(Error::Timestamp(
            format!(
                "timestamp {number} in {unit} is only {} after the bar before it, too soon for a bar{of}. {}",
                told(step),
                self.advice(factor)
            )
            .into(),
        ))
    }

    #[cold]
    fn too_late(&self, number: i64) -> Error {
        let fits = |unit: &Unit| {
            let time = i128::from(number) * i128::from(unit.nanoseconds());
            (i128::from(PLAUSIBLE.0)..=i128::from(PLAUSIBLE.1)).contains(&time)
        };
        let advice = Unit::ALL.into_iter().find(fits).map_or_else(
            || UNKNOWN.to_owned(),
            |unit| format!("If times are in {0}, give unit='{0}'", unit.name()),
        );
        Error::Timestamp(
            format!(
                "timestamp {number} in {} lies outside the years 1678 to 2261. {advice}",
                self.unit.name()
            )
            .into(),
        )
    }

    /// What to do about numbers whose unit is `factor` times coarser than this feed's.
    fn advice(&self, factor: i64) -> String {
        let coarser = self.unit.nanoseconds().saturating_mul(factor);
        match Unit::ALL.into_iter().find(|unit| unit.nanoseconds() == coarser && factor > 1) {
            Some(unit) => format!("If times are in {0}, give unit='{0}'", unit.name()),
            None => UNKNOWN.to_owned(),
        }
    }

    pub(super) fn save(&self, writer: &mut Writer) {
        writer.u8(self.close.into());
        writer.option(self.bar_interval, Writer::i64);
        writer.u8(self.unit as u8);
    }

    pub(super) fn load(reader: &mut Reader<'_>) -> Result<Self, Error> {
        const DAMAGED: Error = Error::State("it is damaged");
        let (close, bar_interval, unit) = (reader.u8()?, reader.option(Reader::i64)?, reader.u8()?);
        let unit = Unit::ALL.get(usize::from(unit)).copied().ok_or(DAMAGED)?;
        if close > 1 {
            return Err(DAMAGED);
        }
        Feed::new(close == 1, bar_interval, unit).map_err(|_| DAMAGED)
    }
}

const UNKNOWN: &str = "Give the unit of your times: unit='s', 'ms', 'us' or 'ns'";

#[cold]
fn before_time(stamp: i64) -> Error {
    Error::Timestamp(format!("timestamp {stamp} lies outside the years 1678 to 2261").into())
}

/// A stamp just before a full minute means that minute, as in a store. A store of 0.1.0 kept such times: they then stay.
fn full(stamp: i64, last: Option<i64>) -> i64 {
    if last.is_some_and(|last| full_minute(last) != last) { stamp } else { full_minute(stamp) }
}

/// How many times too fine the unit was, where a time in early 1970 looks like a time from 1974 to 2103.
fn shrunk(stamp: i64) -> Option<i64> {
    [1_000_000_000, 1_000_000, 1_000]
        .into_iter()
        .find(|factor| (PLAUSIBLE.0 / factor..=PLAUSIBLE.1 / factor).contains(&stamp))
}

/// A length of time in the coarsest unit that divides it.
fn told(nanoseconds: i64) -> String {
    let unit = Unit::ALL.into_iter().find(|unit| nanoseconds % unit.nanoseconds() == 0).unwrap_or_default();
    format!("{} {}", nanoseconds / unit.nanoseconds(), unit.name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: i64 = 60 * SECOND;

    fn unit() -> impl Strategy<Value = Unit> {
        prop::sample::select(Unit::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn a_stamp_in_any_unit_gives_the_open_time(
            minute in 2_500_000i64..70_000_000, interval in 1i64..1500, close: bool, unit in unit(), known: bool,
        ) {
            let (open, interval) = (minute * MINUTE, interval * MINUTE);
            let feed = Feed::new(close, (close || known).then_some(interval), unit).unwrap();
            let stamp = open + if close { interval } else { 0 };
            let number = Given::Number(stamp / unit.nanoseconds());
            for last in [None, Some(open - interval), Some(open)] {
                prop_assert_eq!(feed.open_of(number, last).unwrap(), open);
                prop_assert_eq!(feed.open_of(Given::Instant(stamp), last).unwrap(), open);
            }
        }

        #[test]
        fn numbers_in_another_unit_are_refused_by_the_second_bar(
            minute in 2_500_000i64..70_000_000, interval in prop::sample::select(vec![1i64, 5, 15, 30, 60, 240, 1440]),
            close: bool, known: bool, right in unit(), wrong in unit(),
        ) {
            let interval = interval * MINUTE;
            let feed = Feed::new(close, (close || known).then_some(interval), wrong).unwrap();
            let time = |bar: i64| Given::Number((minute * MINUTE + bar * interval) / right.nanoseconds());
            let second = feed.open_of(time(0), None).and_then(|first| feed.open_of(time(1), Some(first)));
            match second {
                Ok(_) => prop_assert_eq!(right, wrong),
                Err(error) => {
                    prop_assert_ne!(right, wrong);
                    prop_assert!(error.to_string().ends_with(&format!("give unit='{}'", right.name())), "{}", error);
                }
            }
        }

        #[test]
        fn the_next_bar_of_a_store_in_another_unit_is_refused(
            minute in 2_500_000i64..70_000_000, close: bool, right in unit(), wrong in unit(), later in 0i64..100_000,
        ) {
            let feed = Feed::new(close, Some(MINUTE), wrong).unwrap();
            let stamp = (minute + 1 + later + i64::from(close)) * MINUTE;
            let next = feed.open_of(Given::Number(stamp / right.nanoseconds()), Some(minute * MINUTE));
            prop_assert_eq!(next.is_ok(), right == wrong);
        }
    }

    #[test]
    fn a_close_just_before_the_full_minute_means_it() {
        let feed = Feed::new(true, Some(MINUTE), Unit::Ms).unwrap();
        let stamp = 1_499_040_059_999;
        assert_eq!(feed.open_of(Given::Number(stamp), None).unwrap(), (stamp + 1) * 1_000_000 - MINUTE);
        // A store of an earlier version kept such times as they were.
        let last = stamp * 1_000_000 - 2 * MINUTE;
        assert_eq!(feed.open_of(Given::Number(stamp), Some(last)).unwrap(), last + MINUTE);
    }

    #[test]
    fn a_feed_needs_an_interval_for_closes() {
        assert!(Feed::new(true, None, Unit::Ns).is_err());
        assert!(Feed::new(false, Some(0), Unit::Ns).is_err());
        assert!(Unit::from_name("m").is_err());
    }
}
