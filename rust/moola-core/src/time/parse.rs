//! Reads a whole column of times, and recognises the notation of a text.

use super::column::Texts;
use super::iso::iso;
use super::local::{LOCAL, Moment, NULL, UNREADABLE, localize_one, to_utc};
use super::pattern::Pattern;
use super::slashed::{Order, slashed};
use super::zone::Zone;

/// How a column writes its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notation {
    /// ISO 8601: `2023-03-01T09:30:00.123456789+01:00`. A space may replace the T; the offset, the seconds or the whole time
    /// may be missing.
    Iso,
    /// Numbers separated by slashes, with a year of four digits. A time may follow, and may end in AM or PM.
    Slashed(Order),
    /// A `strptime` pattern.
    Pattern(Pattern),
}

/// Reads every text as UTC nanoseconds, or as the reason why it is not a time: [`NULL`], [`UNREADABLE`],
/// [`AMBIGUOUS`](super::AMBIGUOUS), [`NONEXISTENT`](super::NONEXISTENT) or [`LOCAL`]. Also counts the times
/// without an offset, which are local times of `zone`.
pub fn parse(texts: Texts<'_>, notation: &Notation, zone: Option<Zone>) -> (Vec<i64>, usize) {
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

/// The notation of one text: `iso`, `slashed` or `epoch`; `None` if it fits none of them.
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
