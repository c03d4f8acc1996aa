//! Times in ISO 8601.

use chrono::{NaiveDate, NaiveTime};

use super::cursor::Cursor;
use super::local::Moment;

pub(super) fn iso(text: &[u8]) -> Option<Moment> {
    let mut rest = Cursor(text);
    let year = rest.number(4, 4)? as i32;
    rest.eat(b'-')?;
    let month = rest.number(2, 2)?;
    rest.eat(b'-')?;
    let day = rest.number(2, 2)?;
    let date = NaiveDate::from_ymd_opt(year, month, day)?;
    if rest.at_end() {
        return Some(Moment { wall: date.and_time(NaiveTime::MIN), offset: None });
    }
    if rest.eat(b'T').is_none() && rest.eat(b't').is_none() && rest.spaces() == 0 {
        return None;
    }
    let (hour, minute, second, nanosecond) = rest.clock(2)?;
    let wall = date.and_hms_nano_opt(hour, minute, second, nanosecond)?;
    rest.spaces();
    let offset = if rest.at_end() { None } else { Some(rest.offset()?) };
    rest.at_end().then_some(Moment { wall, offset })
}
