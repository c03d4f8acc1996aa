//! Dates with slashes, and the orders of their numbers that fit a column.

use chrono::{NaiveDate, NaiveTime};

use super::column::Texts;
use super::cursor::{Cursor, on_24_hours};
use super::local::Moment;

/// The order of the numbers in a date with slashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `M/D/Y`
    MonthFirst,
    /// `D/M/Y`
    DayFirst,
    /// `Y/M/D`
    YearFirst,
}

impl Order {
    /// All orders, as [`Fit::misfits`] lists them.
    pub const ALL: [Order; 3] = [Order::MonthFirst, Order::DayFirst, Order::YearFirst];
}

/// A date of three numbers in an unknown order, and its time of day.
#[derive(Clone, Copy)]
pub(super) struct SlashedDate {
    numbers: [u32; 3],
    year_first: bool,
    time: NaiveTime,
}

pub(super) fn slashed(text: &[u8]) -> Option<SlashedDate> {
    let mut rest = Cursor(text);
    let first = rest.number(1, 4)?;
    let digits = text.len() - rest.0.len();
    rest.eat(b'/')?;
    let second = rest.number(1, 2)?;
    rest.eat(b'/')?;
    let year_first = digits == 4;
    let third = match digits {
        4 => rest.number(1, 2)?,
        1 | 2 => rest.number(4, 4)?,
        _ => return None,
    };
    let mut time = NaiveTime::MIN;
    if !rest.at_end() {
        if rest.spaces() == 0 {
            return None;
        }
        let (mut hour, minute, second, nanosecond) = rest.clock(1)?;
        rest.spaces();
        if let Some(half) = rest.word(&["AM", "PM"]) {
            hour = on_24_hours(hour, half)?;
        }
        time = NaiveTime::from_hms_nano_opt(hour, minute, second, nanosecond)?;
    }
    rest.at_end().then_some(SlashedDate { numbers: [first, second, third], year_first, time })
}

impl SlashedDate {
    pub(super) fn date(self, order: Order) -> Option<NaiveDate> {
        let [a, b, c] = self.numbers;
        let (year, month, day) = match (order, self.year_first) {
            (Order::MonthFirst, false) => (c, a, b),
            (Order::DayFirst, false) => (c, b, a),
            (Order::YearFirst, true) => (a, b, c),
            _ => return None,
        };
        NaiveDate::from_ymd_opt(year as i32, month, day)
    }

    pub(super) fn moment(self, order: Order) -> Option<Moment> {
        Some(Moment { wall: self.date(order)?.and_time(self.time), offset: None })
    }
}

/// Which orders the numbers of a column of slashed dates allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fit {
    /// For each of [`Order::ALL`], the first text that is a date only in other orders.
    pub misfits: [Option<usize>; 3],
    /// The first text that means different dates with the month first and with the day first.
    pub differs: Option<usize>,
}

/// Finds which orders fit a column of slashed dates. Texts that are not a date in any order are ignored.
pub fn fit_dates(texts: Texts<'_>) -> Fit {
    let mut fit = Fit::default();
    for (i, text) in texts.iter().enumerate() {
        let Some(date) = text.and_then(slashed) else { continue };
        let readings = Order::ALL.map(|order| date.date(order));
        if readings == [None; 3] {
            continue;
        }
        for (misfit, reading) in fit.misfits.iter_mut().zip(readings) {
            if reading.is_none() {
                misfit.get_or_insert(i);
            }
        }
        if let [Some(month_first), Some(day_first), _] = readings
            && month_first != day_first
        {
            fit.differs.get_or_insert(i);
        }
    }
    fit
}
