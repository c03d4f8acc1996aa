//! Times in a `strptime` pattern.

use chrono::{Datelike, NaiveDate};

use super::cursor::{Cursor, on_24_hours};
use super::local::Moment;
use crate::error::Error;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const MONTHS_SHORT: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const WEEKDAYS_SHORT: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Literal(u8),
    Spaces,
    Year,
    YearOfCentury,
    Month,
    MonthName,
    MonthShort,
    Day,
    DayOfYear,
    Weekday,
    WeekdayShort,
    Hour,
    Hour12,
    Half,
    Minute,
    Second,
    Fraction,
    Offset,
    ZoneName,
}

/// A compiled `strptime` pattern, with the same meaning as in Python. The only zone names that `%Z` reads are UTC, GMT
/// and Z; an offset may follow them, as in GMT+0100. Numbers may lack leading zeros; `%Y` has four digits; `%f` has up to
/// nine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    tokens: Vec<Token>,
}

impl Pattern {
    /// Compiles a pattern. It must give a whole date. Without a time of day it means midnight.
    pub fn new(format: &str) -> Result<Self, Error> {
        let mut pattern = Pattern { tokens: Vec::new() };
        pattern.compile(format).and_then(|()| pattern.check()).map_err(|problem| Error::Config {
            name: "time_format",
            problem: format!("{format:?} {problem}"),
        })?;
        Ok(pattern)
    }

    fn compile(&mut self, format: &str) -> Result<(), String> {
        let mut bytes = format.bytes();
        while let Some(byte) = bytes.next() {
            if byte.is_ascii_whitespace() {
                if self.tokens.last() != Some(&Token::Spaces) {
                    self.tokens.push(Token::Spaces);
                }
                continue;
            }
            if byte != b'%' {
                self.tokens.push(Token::Literal(byte));
                continue;
            }
            let token = match bytes.next() {
                Some(b'%') => Token::Literal(b'%'),
                Some(b'Y') => Token::Year,
                Some(b'y') => Token::YearOfCentury,
                Some(b'm') => Token::Month,
                Some(b'B') => Token::MonthName,
                Some(b'b' | b'h') => Token::MonthShort,
                Some(b'd' | b'e') => Token::Day,
                Some(b'j') => Token::DayOfYear,
                Some(b'A') => Token::Weekday,
                Some(b'a') => Token::WeekdayShort,
                Some(b'H') => Token::Hour,
                Some(b'I') => Token::Hour12,
                Some(b'p') => Token::Half,
                Some(b'M') => Token::Minute,
                Some(b'S') => Token::Second,
                Some(b'f') => Token::Fraction,
                Some(b'z') => Token::Offset,
                Some(b'Z') => Token::ZoneName,
                Some(short @ (b'T' | b'R' | b'F' | b'D')) => {
                    self.compile(match short {
                        b'T' => "%H:%M:%S",
                        b'R' => "%H:%M",
                        b'F' => "%Y-%m-%d",
                        _ => "%m/%d/%y",
                    })?;
                    continue;
                }
                other => {
                    let what = other.map_or("nothing after %".into(), |b| format!("%{}", char::from(b)));
                    return Err(format!(
                        "has {what}; use the directives of Python's strptime: \
                         %Y %y %m %B %b %d %j %A %a %H %I %p %M %S %f %z %Z %F %T %R %D %%"
                    ));
                }
            };
            self.tokens.push(token);
        }
        Ok(())
    }

    fn has(&self, tokens: &[Token]) -> bool {
        self.tokens.iter().any(|token| tokens.contains(token))
    }

    fn check(&self) -> Result<(), String> {
        let fields: [(&str, &[Token]); 9] = [
            ("the year", &[Token::Year, Token::YearOfCentury]),
            ("the month", &[Token::Month, Token::MonthName, Token::MonthShort, Token::DayOfYear]),
            ("the day", &[Token::Day, Token::DayOfYear]),
            ("the hour", &[Token::Hour, Token::Hour12]),
            ("AM or PM", &[Token::Half]),
            ("the minute", &[Token::Minute]),
            ("the second", &[Token::Second]),
            ("the fraction", &[Token::Fraction]),
            ("the offset", &[Token::Offset, Token::ZoneName]),
        ];
        for (name, tokens) in fields {
            if self.tokens.iter().filter(|token| tokens.contains(token)).count() > 1 {
                return Err(format!("gives {name} twice"));
            }
        }
        for (name, tokens) in &fields[..3] {
            if !self.has(tokens) {
                return Err(format!(
                    "lacks {name}; a time needs year, month and day, such as %Y-%m-%d %H:%M"
                ));
            }
        }
        match (self.has(&[Token::Hour12]), self.has(&[Token::Half])) {
            (true, false) => Err("has %I (hours to 12) without %p (AM or PM); %H is hours to 24".into()),
            (false, true) => Err("has %p (AM or PM) without %I (hours to 12); %H takes no %p".into()),
            _ => Ok(()),
        }
    }

    /// Whether the pattern reads an offset from UTC.
    pub fn has_offset(&self) -> bool {
        self.has(&[Token::Offset, Token::ZoneName])
    }

    pub(super) fn read(&self, text: &[u8]) -> Option<Moment> {
        let mut rest = Cursor(text);
        let (mut year, mut month, mut day, mut day_of_year) = (0, 0, 0, None);
        let (mut hour, mut minute, mut second, mut nanosecond) = (0, 0, 0, 0);
        let (mut half, mut offset, mut weekday) = (None, None, None);
        for token in &self.tokens {
            match token {
                Token::Literal(byte) => rest.eat(*byte)?,
                Token::Spaces if rest.spaces() == 0 => return None,
                Token::Spaces => {}
                Token::Year => year = rest.number(4, 4)?,
                // POSIX: 69–99 mean 1969–1999.
                Token::YearOfCentury => {
                    let short = rest.number(2, 2)?;
                    year = if short < 69 { 2000 + short } else { 1900 + short };
                }
                Token::Month => month = rest.number(1, 2)?,
                Token::MonthName => month = rest.word(&MONTHS)? as u32 + 1,
                Token::MonthShort => month = rest.word(&MONTHS_SHORT)? as u32 + 1,
                Token::Day => day = rest.number(1, 2)?,
                Token::DayOfYear => day_of_year = Some(rest.number(1, 3)?),
                Token::Weekday => weekday = Some(rest.word(&WEEKDAYS)?),
                Token::WeekdayShort => weekday = Some(rest.word(&WEEKDAYS_SHORT)?),
                Token::Hour | Token::Hour12 => hour = rest.number(1, 2)?,
                Token::Half => half = Some(rest.word(&["AM", "PM"])?),
                Token::Minute => minute = rest.number(1, 2)?,
                Token::Second => second = rest.number(1, 2)?,
                Token::Fraction => nanosecond = rest.fraction()?,
                Token::Offset => offset = Some(rest.offset()?),
                Token::ZoneName if matches!(rest.peek(), Some(b'+' | b'-')) => return None,
                Token::ZoneName => offset = Some(rest.offset()?),
            }
        }
        if !rest.at_end() {
            return None;
        }
        if let Some(half) = half {
            hour = on_24_hours(hour, half)?;
        }
        let date = match day_of_year {
            Some(day) => NaiveDate::from_yo_opt(year as i32, day)?,
            None => NaiveDate::from_ymd_opt(year as i32, month, day)?,
        };
        if weekday.is_some_and(|weekday| weekday != date.weekday().num_days_from_monday() as usize) {
            return None;
        }
        Some(Moment { wall: date.and_hms_nano_opt(hour, minute, second, nanosecond)?, offset })
    }
}
