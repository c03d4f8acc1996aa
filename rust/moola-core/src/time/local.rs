//! Conversion of local time to UTC, and the codes for times that cannot be converted.

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, TimeDelta};

use super::zone::Zone;

/// The value is missing.
pub const NULL: i64 = i64::MIN;
/// The text is not a time in this notation.
pub const UNREADABLE: i64 = NULL + 1;
/// A local time that occurred twice, because the clocks went back.
pub const AMBIGUOUS: i64 = NULL + 2;
/// A local time that never occurred, because the clocks went forward.
pub const NONEXISTENT: i64 = NULL + 3;
/// A time without an offset, and the zone is unknown.
pub const LOCAL: i64 = NULL + 4;

/// A time as written: the local time, and its offset in seconds ahead of UTC if the text gives one.
pub(super) struct Moment {
    pub(super) wall: NaiveDateTime,
    pub(super) offset: Option<i32>,
}

/// Converts local times (nanoseconds of local time since 1970-01-01T00:00) to UTC nanoseconds.
pub fn localize(local: &[i64], zone: Zone) -> Vec<i64> {
    let resolve = |&wall: &i64| match wall {
        NULL..=LOCAL => wall,
        _ => localize_one(DateTime::from_timestamp_nanos(wall).naive_utc(), zone),
    };
    local.iter().map(resolve).collect()
}

pub(super) fn localize_one(wall: NaiveDateTime, zone: Zone) -> i64 {
    match zone.offsets(&wall) {
        MappedLocalTime::Single(offset) => to_utc(wall, offset),
        // The zone changed only its name, so both readings are the same instant.
        MappedLocalTime::Ambiguous(a, b) if a == b => to_utc(wall, a),
        MappedLocalTime::Ambiguous(..) => AMBIGUOUS,
        MappedLocalTime::None => NONEXISTENT,
    }
}

pub(super) fn to_utc(wall: NaiveDateTime, offset: i32) -> i64 {
    wall.checked_sub_signed(TimeDelta::seconds(offset.into()))
        .and_then(|utc| utc.and_utc().timestamp_nanos_opt())
        // A time at the very start of the range would look like one of the codes above.
        .filter(|&ns| ns > LOCAL)
        .unwrap_or(UNREADABLE)
}

/// The first instant at which local clocks show this time, in UTC nanoseconds. `local` is in seconds since
/// 1970-01-01T00:00 local time. If clocks show the time twice, the first instant is returned. A time that
/// clocks skip is read with the offset before the change, so that a skipped midnight is the instant of the
/// change. `None` if the result does not fit in int64 nanoseconds. The zones' rules reach to the year 2099.
pub fn first_instant(local: i64, zone: Zone) -> Option<i64> {
    let wall = DateTime::from_timestamp(local, 0)?.naive_utc();
    let offset = match zone.offsets(&wall) {
        MappedLocalTime::Single(offset) | MappedLocalTime::Ambiguous(offset, _) => offset,
        MappedLocalTime::None => zone.offset_before_gap(&wall)?,
    };
    wall.checked_sub_signed(TimeDelta::seconds(offset.into()))?.and_utc().timestamp_nanos_opt()
}

/// The names of all zones.
pub fn zones() -> impl Iterator<Item = &'static str> {
    chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name())
}
