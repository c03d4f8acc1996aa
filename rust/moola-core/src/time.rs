//! Times as files write them, read strictly: UTC nanoseconds come out, or the reason why there are none.
//!
//! Strict means that February has no 31st, that nothing may follow the time, and that a local time which a change
//! of clocks made twice or never is not guessed at. The calendar and the zones are chrono's; the zone rules are
//! compiled in, so that the same file means the same times on every machine.

use chrono::{
    DateTime, Datelike, MappedLocalTime, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeDelta, TimeZone,
};
pub use chrono_tz::Tz;

use crate::error::Error;

/// There is no time.
pub const NULL: i64 = i64::MIN;
/// There is text, and it is not a time in the notation asked for.
pub const UNREADABLE: i64 = NULL + 1;
/// A local time that occurs twice, because the clocks went back.
pub const AMBIGUOUS: i64 = NULL + 2;
/// A local time that never was, because the clocks went forward.
pub const NONEXISTENT: i64 = NULL + 3;
/// A time without offset where no zone is known.
pub const LOCAL: i64 = NULL + 4;

/// Spellings of "no value", beside the empty text.
const NULLS: [&[u8]; 9] = [b"NaN", b"nan", b"NaT", b"null", b"NULL", b"None", b"NA", b"N/A", b"n/a"];

/// A column of texts in Arrow's layout: text `i` is `data[offsets[i]..offsets[i + 1]]`.
#[derive(Clone, Copy)]
pub struct Texts<'a> {
    offsets: &'a [i64],
    data: &'a [u8],
    null: Option<&'a [bool]>,
}

impl<'a> Texts<'a> {
    /// The column, or `None` where the offsets do not describe texts within `data`.
    pub fn new(offsets: &'a [i64], data: &'a [u8], null: Option<&'a [bool]>) -> Option<Self> {
        let (first, last) = (*offsets.first()?, *offsets.last()?);
        let sound = first >= 0
            && usize::try_from(last).is_ok_and(|last| last <= data.len())
            && offsets.windows(2).all(|pair| pair[0] <= pair[1])
            && null.is_none_or(|null| null.len() + 1 == offsets.len());
        sound.then_some(Texts { offsets, data, null })
    }

    /// Every text without the white space around it; `None` where there is none.
    fn iter(self) -> impl Iterator<Item = Option<&'a [u8]>> {
        self.offsets.windows(2).enumerate().map(move |(i, range)| {
            if self.null.is_some_and(|null| null[i]) {
                return None;
            }
            let text = self.data[range[0] as usize..range[1] as usize].trim_ascii();
            (!text.is_empty() && !NULLS.contains(&text)).then_some(text)
        })
    }
}

/// The order of the numbers in a slashed date.
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
    /// Every order, in the order of [`Fit::misfits`].
    pub const ALL: [Order; 3] = [Order::MonthFirst, Order::DayFirst, Order::YearFirst];
}

/// How a column writes its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notation {
    /// ISO 8601: `2023-03-01T09:30:00.123456789+01:00`; a space for the T, seconds, time and offset as they come.
    Iso,
    /// Numbers with slashes between them and a year of four digits; the time, if any, may end in AM or PM.
    Slashed(Order),
    /// As a `strptime` pattern says.
    Pattern(Pattern),
}

/// A time as it is written: what the clock on the wall shows, and how far it is ahead of UTC if the text says so.
struct Moment {
    wall: NaiveDateTime,
    offset: Option<i32>,
}

/// Reads every text as UTC nanoseconds, or as one of the reasons above, and counts the times without offset.
/// Those are local times of `zone`.
pub fn parse(texts: Texts<'_>, notation: &Notation, zone: Option<Tz>) -> (Vec<i64>, usize) {
    let mut locals = 0;
    let mut resolve = |text| {
        let moment = match notation {
            Notation::Iso => iso(text),
            Notation::Slashed(order) => slashed(text).and_then(|date| date.moment(*order)),
            Notation::Pattern(pattern) => pattern.read(text),
        };
        match moment {
            None => UNREADABLE,
            Some(Moment { wall, offset: Some(offset) }) => to_utc(wall, offset),
            Some(Moment { wall, offset: None }) => {
                locals += 1;
                zone.map_or(LOCAL, |zone| localize_one(wall, zone))
            }
        }
    };
    let times = texts.iter().map(|text| text.map_or(NULL, &mut resolve)).collect();
    (times, locals)
}

/// Turns local times (nanoseconds of the clock on the wall since 1970-01-01T00:00) into UTC nanoseconds.
pub fn localize(local: &[i64], zone: Tz) -> Vec<i64> {
    let resolve = |&wall: &i64| match wall {
        NULL..=LOCAL => wall,
        _ => localize_one(DateTime::from_timestamp_nanos(wall).naive_utc(), zone),
    };
    local.iter().map(resolve).collect()
}

fn localize_one(wall: NaiveDateTime, zone: Tz) -> i64 {
    match zone.offset_from_local_datetime(&wall) {
        MappedLocalTime::Single(offset) => to_utc(wall, offset.fix().local_minus_utc()),
        // Where a zone changed no more than its name, both readings are one.
        MappedLocalTime::Ambiguous(a, b) if a.fix() == b.fix() => to_utc(wall, a.fix().local_minus_utc()),
        MappedLocalTime::Ambiguous(..) => AMBIGUOUS,
        MappedLocalTime::None => NONEXISTENT,
    }
}

fn to_utc(wall: NaiveDateTime, offset: i32) -> i64 {
    wall.checked_sub_signed(TimeDelta::seconds(offset.into()))
        .and_then(|utc| utc.and_utc().timestamp_nanos_opt())
        // The two seconds of 1677 that the reasons above would be mistaken for hold no bars.
        .filter(|&ns| ns > LOCAL)
        .unwrap_or(UNREADABLE)
}

/// Reads every text as a whole number, as [`NULL`] or as [`UNREADABLE`]. `1672531200.0` is whole.
pub fn parse_epochs(texts: Texts<'_>) -> Vec<i64> {
    texts.iter().map(|text| text.map_or(NULL, |text| epoch(text).unwrap_or(UNREADABLE))).collect()
}

fn epoch(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.bytes().any(|digit| digit != b'0') || whole.starts_with('+') {
        return None;
    }
    whole.parse().ok().filter(|&number| number > LOCAL)
}

/// What the numbers of slashed dates allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fit {
    /// For each of [`Order::ALL`] the first text that is a date in another order only.
    pub misfits: [Option<usize>; 3],
    /// The first text that is one date with the month first and another with the day first.
    pub differs: Option<usize>,
}

/// Finds which orders fit slashed dates. Texts that are a date in no order have no say.
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

/// What a text looks like on its own: `iso`, `slashed`, `epoch`, or nothing known.
pub fn notation(text: &str) -> Option<&'static str> {
    let text = text.trim().as_bytes();
    if epoch(text).is_some() {
        Some("epoch")
    } else if iso(text).is_some() {
        Some("iso")
    } else {
        let date = slashed(text)?;
        Order::ALL.iter().any(|&order| date.date(order).is_some()).then_some("slashed")
    }
}

/// The names of all zones.
pub fn zones() -> impl Iterator<Item = &'static str> {
    chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name())
}

/// What is left of a text.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn skip(&mut self, bytes: usize) {
        self.0 = &self.0[bytes..];
    }

    fn eat(&mut self, wanted: u8) -> Option<()> {
        (self.peek()? == wanted).then(|| self.skip(1))
    }

    fn spaces(&mut self) -> usize {
        let count = self.0.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.skip(count);
        count
    }

    /// A number of `min` to `max` digits, as many as there are.
    fn number(&mut self, min: usize, max: usize) -> Option<u32> {
        let count = self.0.iter().take(max).take_while(|byte| byte.is_ascii_digit()).count();
        if count < min {
            return None;
        }
        let number = self.0[..count].iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
        self.skip(count);
        Some(number)
    }

    /// The digits after a decimal point, as nanoseconds.
    fn fraction(&mut self) -> Option<u32> {
        let before = self.0.len();
        let number = self.number(1, 9)?;
        Some(number * 10u32.pow(9 - (before - self.0.len()) as u32))
    }

    /// `Z`, `+01`, `+0100`, `+01:00`: seconds ahead of UTC.
    fn offset(&mut self) -> Option<i32> {
        let sign = match self.peek()? {
            b'Z' | b'z' => {
                self.skip(1);
                return Some(0);
            }
            b'+' => 1,
            b'-' => -1,
            _ => return None,
        };
        self.skip(1);
        let hours = self.number(2, 2)?;
        let minutes = match self.peek() {
            Some(b':') => {
                self.skip(1);
                self.number(2, 2)?
            }
            Some(b'0'..=b'9') => self.number(2, 2)?,
            _ => 0,
        };
        (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60) as i32)
    }

    /// One of `words` in any case: its index.
    fn word(&mut self, words: &[&str]) -> Option<usize> {
        let found = words.iter().position(|word| {
            self.0.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
        })?;
        self.skip(words[found].len());
        Some(found)
    }

    /// `H:M`, `H:M:S` or `H:M:S.f`; hours of at least `hour_digits` digits.
    fn clock(&mut self, hour_digits: usize) -> Option<(u32, u32, u32, u32)> {
        let hour = self.number(hour_digits, 2)?;
        self.eat(b':')?;
        let minute = self.number(2, 2)?;
        let (mut second, mut nanosecond) = (0, 0);
        if self.eat(b':').is_some() {
            second = self.number(2, 2)?;
            if self.eat(b'.').is_some() || self.eat(b',').is_some() {
                nanosecond = self.fraction()?;
            }
        }
        Some((hour, minute, second, nanosecond))
    }

    fn at_end(&self) -> bool {
        self.0.is_empty()
    }
}

fn iso(text: &[u8]) -> Option<Moment> {
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
    let offset = if rest.at_end() {
        None
    } else if rest.word(&["UTC"]).is_some() {
        Some(0)
    } else {
        Some(rest.offset()?)
    };
    rest.at_end().then_some(Moment { wall, offset })
}

/// A date of three numbers whose order is not yet known, and its time of day.
#[derive(Clone, Copy)]
struct SlashedDate {
    numbers: [u32; 3],
    year_first: bool,
    time: NaiveTime,
}

fn slashed(text: &[u8]) -> Option<SlashedDate> {
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

/// 12 AM is 0, 12 PM is 12; `half` is 0 for AM, 1 for PM.
fn on_24_hours(hour: u32, half: usize) -> Option<u32> {
    (1..=12).contains(&hour).then_some(hour % 12 + 12 * half as u32)
}

impl SlashedDate {
    fn date(self, order: Order) -> Option<NaiveDate> {
        let [a, b, c] = self.numbers;
        let (year, month, day) = match (order, self.year_first) {
            (Order::MonthFirst, false) => (c, a, b),
            (Order::DayFirst, false) => (c, b, a),
            (Order::YearFirst, true) => (a, b, c),
            _ => return None,
        };
        NaiveDate::from_ymd_opt(year as i32, month, day)
    }

    fn moment(self, order: Order) -> Option<Moment> {
        Some(Moment { wall: self.date(order)?.and_time(self.time), offset: None })
    }
}

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

/// A compiled `strptime` pattern with the meaning Python gives it, but for names of zones, of which only UTC's are
/// read. Numbers may lack their leading zeros; `%Y` has four digits; `%f` has up to nine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    tokens: Vec<Token>,
}

impl Pattern {
    /// Compiles a pattern that names a whole date; without a time of day it means midnight.
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
                        "has {what}; the directives are those of Python's strptime: \
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
            (false, true) => {
                Err("has %p (AM or PM) without %I (hours to 12), which it would belong to".into())
            }
            _ => Ok(()),
        }
    }

    /// Whether what it reads says how far it is from UTC.
    pub fn has_offset(&self) -> bool {
        self.has(&[Token::Offset, Token::ZoneName])
    }

    fn read(&self, text: &[u8]) -> Option<Moment> {
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
                // POSIX: 69–99 are the last century's.
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
                Token::ZoneName => {
                    rest.word(&["UTC", "GMT", "Z"])?;
                    offset = Some(0);
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn column(texts: &[&str]) -> (Vec<i64>, Vec<u8>) {
        let mut offsets = vec![0];
        let mut data = Vec::new();
        for text in texts {
            data.extend_from_slice(text.as_bytes());
            offsets.push(data.len() as i64);
        }
        (offsets, data)
    }

    fn read(texts: &[&str], notation: &Notation, zone: Option<Tz>) -> Vec<i64> {
        let (offsets, data) = column(texts);
        parse(Texts::new(&offsets, &data, None).unwrap(), notation, zone).0
    }

    fn utc(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp_nanos_opt().unwrap()
    }

    fn pattern(format: &str) -> Notation {
        Notation::Pattern(Pattern::new(format).unwrap())
    }

    fn fit(texts: &[&str]) -> Fit {
        let (offsets, data) = column(texts);
        fit_dates(Texts::new(&offsets, &data, None).unwrap())
    }

    #[test]
    fn iso_with_every_way_to_write_the_offset() {
        let moment = utc("2023-03-01T09:30:00Z");
        for text in [
            "2023-03-01T09:30:00Z",
            "2023-03-01 09:30:00+00:00",
            "2023-03-01 09:30:00 UTC",
            "2023-03-01T10:30:00+01",
            "2023-03-01T10:30+0100",
            " 2023-03-01t04:30:00.000-05:00 ",
            "2023-03-01 15:15:00,0+05:45",
        ] {
            assert_eq!(read(&[text], &Notation::Iso, None), [moment], "{text}");
        }
        assert_eq!(read(&["2023-03-01T09:30:00.123456789Z"], &Notation::Iso, None), [moment + 123_456_789]);
        assert_eq!(read(&["2023-03-01T09:30:00.5Z"], &Notation::Iso, None), [moment + 500_000_000]);
    }

    #[test]
    fn iso_is_strict() {
        for text in [
            "2023-02-29",
            "2023-02-31T00:00Z",
            "2023-13-01",
            "2023-3-01",
            "23-03-01",
            "2023-03-01T24:00Z",
            "2023-03-01T09:60Z",
            "2023-03-01T09:30:60Z",
            "2023-03-01T9:30Z",
            "2023-03-01T09:30:00.Z",
            "2023-03-01T09:30:00.1234567890Z",
            "2023-03-01T09:30:00Z!",
            "2023-03-01T09:30:00+24:00",
            "2023-03-01T09:30:00+1",
            "2023-03-01T",
            "20230301T0930Z",
            "1500-01-01T00:00Z",
            "2300-01-01T00:00Z",
            "é",
        ] {
            assert_eq!(read(&[text], &Notation::Iso, None), [UNREADABLE], "{text}");
        }
    }

    #[test]
    fn local_times_need_a_zone_and_follow_its_rules() {
        let new_york = Some(Tz::America__New_York);
        assert_eq!(read(&["2019-11-05 09:30"], &Notation::Iso, None), [LOCAL]);
        assert_eq!(
            read(
                &[
                    "2019-11-05 09:30",
                    "2019-07-05 09:30",
                    "2019-11-03 01:30",
                    "2019-03-10 02:30",
                    "2019-11-05"
                ],
                &Notation::Iso,
                new_york
            ),
            [
                utc("2019-11-05T14:30:00Z"),
                utc("2019-07-05T13:30:00Z"),
                AMBIGUOUS,
                NONEXISTENT,
                utc("2019-11-05T05:00:00Z")
            ]
        );
        let wall = utc("2019-11-03T01:30:00Z");
        assert_eq!(
            localize(&[wall, NULL, wall + 3_600_000_000_000], Tz::America__New_York),
            [AMBIGUOUS, NULL, utc("2019-11-03T07:30:00Z")]
        );
    }

    #[test]
    fn times_without_offset_are_counted() {
        let (offsets, data) = column(&["2019-11-05 09:30", "2019-11-05 09:30Z", ""]);
        let texts = Texts::new(&offsets, &data, None).unwrap();
        assert_eq!(parse(texts, &Notation::Iso, Some(Tz::UTC)).1, 1);
    }

    #[test]
    fn nothing_is_null() {
        assert_eq!(read(&["", "  ", "NaT", "null"], &Notation::Iso, None), [NULL; 4]);
        let (offsets, data) = column(&["2023-03-01T09:30:00Z"; 2]);
        let texts = Texts::new(&offsets, &data, Some(&[true, false])).unwrap();
        assert_eq!(parse(texts, &Notation::Iso, None).0[0], NULL);
    }

    #[test]
    fn columns_that_reach_beyond_their_data_are_refused() {
        assert!(Texts::new(&[], b"", None).is_none());
        assert!(Texts::new(&[0, 3], b"ab", None).is_none());
        assert!(Texts::new(&[-1, 1], b"ab", None).is_none());
        assert!(Texts::new(&[0, 2, 1], b"ab", None).is_none());
        assert!(Texts::new(&[0, 1], b"ab", Some(&[])).is_none());
    }

    #[test]
    fn slashed_dates_in_each_order() {
        let moment = utc("2019-11-05T09:30:00Z");
        let zone = Some(Tz::UTC);
        for text in
            ["11/5/2019 9:30", "11/05/2019 09:30:00", "11/5/2019 9:30 AM", "11/5/2019 09:30:00.000 am"]
        {
            assert_eq!(read(&[text], &Notation::Slashed(Order::MonthFirst), zone), [moment], "{text}");
        }
        assert_eq!(read(&["5/11/2019 9:30"], &Notation::Slashed(Order::DayFirst), zone), [moment]);
        assert_eq!(read(&["2019/11/5 9:30"], &Notation::Slashed(Order::YearFirst), zone), [moment]);
        assert_eq!(
            read(&["11/5/2019 9:30 PM"], &Notation::Slashed(Order::MonthFirst), zone),
            [utc("2019-11-05T21:30:00Z")]
        );
        assert_eq!(
            read(&["11/5/2019 12:30 AM", "11/5/2019"], &Notation::Slashed(Order::MonthFirst), zone),
            [utc("2019-11-05T00:30:00Z"), utc("2019-11-05T00:00:00Z")]
        );
        for text in
            ["2/31/2019 9:30", "11/5/19 9:30", "11/5/2019 9:30x", "11/5/2019 13:30 PM", "11/5/2019 0:30 AM"]
        {
            assert_eq!(read(&[text], &Notation::Slashed(Order::MonthFirst), zone), [UNREADABLE], "{text}");
        }
    }

    #[test]
    fn the_orders_that_fit() {
        assert_eq!(fit(&["5/5/2019", "1/2/2019"]), Fit { misfits: [None, None, Some(0)], differs: Some(1) });
        assert_eq!(
            fit(&["1/2/2019", "1/13/2019"]),
            Fit { misfits: [None, Some(1), Some(0)], differs: Some(0) }
        );
        assert_eq!(fit(&["13/1/2019", "x", "1/13/2019"]).misfits, [Some(0), Some(2), Some(0)]);
        assert_eq!(fit(&["2019/1/13"]), Fit { misfits: [Some(0), Some(0), None], differs: None });
        assert_eq!(fit(&["31/31/2019", "", "2/30/2019"]), Fit::default());
    }

    #[test]
    fn patterns_mean_what_strptime_means() {
        let moment = utc("2019-11-05T09:30:00Z");
        for (format, text, expected) in [
            ("%m/%d/%Y %H:%M", "11/5/2019 9:30", moment),
            ("%d.%m.%Y %H:%M:%S", "05.11.2019 09:30:00", moment),
            ("%Y%m%d%H%M", "201911050930", moment),
            ("%Y%m%d %H%M%S%f", "20191105 093000250", moment + 250_000_000),
            ("%Y-%m-%d %H:%M:%S.%f", "2019-11-05 09:30:00.000001", moment + 1_000),
            ("%Y-%m-%dT%H:%M:%S%z", "2019-11-05T10:30:00+0100", moment),
            ("%Y-%m-%dT%H:%M:%S%z", "2019-11-05T09:30:00Z", moment),
            ("%F %T %Z", "2019-11-05 09:30:00 UTC", moment),
            ("%m/%d/%y %I:%M %p", "11/05/19 9:30 am", moment),
            ("%a %d %b %Y %R", "Tue 05 nov 2019 09:30", moment),
            ("%A, %B %e %Y %H:%M", "Tuesday, November  5 2019 09:30", moment),
            ("%Y-%j %H:%M", "2019-309 09:30", moment),
            ("%d%%%m%%%Y", "5%11%2019", utc("2019-11-05T00:00:00Z")),
            ("%%F%F", "%F2019-11-05", utc("2019-11-05T00:00:00Z")),
        ] {
            assert_eq!(read(&[text], &pattern(format), Some(Tz::UTC)), [expected], "{format} {text}");
        }
        for (format, text) in [
            ("%m/%d/%Y", "2/31/2019"),
            ("%m/%d/%Y", "2/3/2019 9:30"),
            ("%m/%d/%Y", "2/3/19"),
            ("%Y-%m-%d %H:%M", "2019-11-05  "),
            ("%a %d %b %Y", "Mon 05 Nov 2019"),
            ("%Y-%j", "2019-366"),
            ("%Y-%m-%d %I:%M %p", "2019-11-05 13:30 PM"),
        ] {
            assert_eq!(read(&[text], &pattern(format), Some(Tz::UTC)), [UNREADABLE], "{format} {text}");
        }
        assert!(Pattern::new("%Y-%m-%d %H:%M%z").unwrap().has_offset());
        assert!(!Pattern::new("%Y-%m-%d %H:%M").unwrap().has_offset());
    }

    #[test]
    fn patterns_that_could_mislead_are_refused() {
        for (format, substance) in [
            ("%Y-%m-%d %Q", "%Q"),
            ("%Y-%m-%", "nothing after %"),
            ("%H:%M", "lacks the year"),
            ("%Y-%d", "lacks the month"),
            ("%Y-%m", "lacks the day"),
            ("%Y-%m-%d %d", "gives the day twice"),
            ("%Y-%m-%d %I:%M", "without %p"),
            ("%Y-%m-%d %H:%M %p", "without %I"),
        ] {
            let error = Pattern::new(format).unwrap_err().to_string();
            assert!(error.starts_with("time_format: ") && error.contains(substance), "{error}");
        }
    }

    #[test]
    fn whole_numbers() {
        let (offsets, data) = column(&[
            "1672531200",
            "-5",
            "1672531200.000",
            "1672531200.5",
            "",
            "+5",
            "1e9",
            "9999999999999999999",
        ]);
        assert_eq!(
            parse_epochs(Texts::new(&offsets, &data, None).unwrap()),
            [1_672_531_200, -5, 1_672_531_200, UNREADABLE, NULL, UNREADABLE, UNREADABLE, UNREADABLE]
        );
    }

    #[test]
    fn notations_are_told_apart() {
        assert_eq!(notation("1672531200000"), Some("epoch"));
        assert_eq!(notation(" 2023-03-01 00:00:00+00:00"), Some("iso"));
        assert_eq!(notation("13/1/2019 9:30"), Some("slashed"));
        assert_eq!(notation("31/31/2019"), None);
        assert_eq!(notation("05.11.2019"), None);
    }

    proptest::proptest! {
        #[test]
        fn every_instant_survives_being_written(seconds in -5_000_000_000i64..7_000_000_000, nanosecond in 0u32..1_000_000_000) {
            let instant = DateTime::from_timestamp(seconds, nanosecond).unwrap();
            let expected = [instant.timestamp_nanos_opt().unwrap()];
            let iso = instant.to_rfc3339();
            proptest::prop_assert_eq!(read(&[iso.as_str()], &Notation::Iso, None), expected);
            let text = instant.format("%m/%d/%Y %I:%M:%S.%f %p").to_string();
            proptest::prop_assert_eq!(read(&[text.as_str()], &pattern("%m/%d/%Y %I:%M:%S.%f %p"), Some(Tz::UTC)), expected);
            proptest::prop_assert_eq!(read(&[text.as_str()], &Notation::Slashed(Order::MonthFirst), Some(Tz::UTC)), expected);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,24}", numbers in "[0-9/:. TZ+-]{0,24}") {
            for text in [text.as_str(), numbers.as_str()] {
                let _ = (notation(text), fit(&[text]), read(&[text], &pattern("%Y-%m-%d %H:%M:%S.%f%z"), None));
            }
        }
    }
}
