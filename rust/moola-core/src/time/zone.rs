//! The zone of local times: a place of the IANA database, or a fixed offset from UTC.

use std::str::FromStr;

use chrono::{FixedOffset, MappedLocalTime, NaiveDateTime, Offset, TimeZone};
use chrono_tz::{GapInfo, Tz};

use super::cursor::Cursor;

/// A time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    /// A zone of the IANA database, such as `America/New_York`. `Etc/GMT+2` keeps its meaning there, two hours behind UTC.
    Named(Tz),
    /// A fixed offset, such as `UTC+2` or `GMT-05:30`: ahead of UTC where the sign is plus.
    Fixed(FixedOffset),
}

impl From<Tz> for Zone {
    fn from(zone: Tz) -> Self {
        Zone::Named(zone)
    }
}

/// The text names no zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownZone;

impl FromStr for Zone {
    type Err = UnknownZone;

    fn from_str(name: &str) -> Result<Self, UnknownZone> {
        if let Ok(zone) = name.parse() {
            return Ok(Zone::Named(zone));
        }
        let mut rest = Cursor(name.as_bytes());
        rest.word(&["UTC", "GMT"]);
        rest.hours_ahead(1)
            .filter(|_| rest.at_end())
            .and_then(FixedOffset::east_opt)
            .map(Zone::Fixed)
            .ok_or(UnknownZone)
    }
}

impl Zone {
    /// The offsets in seconds ahead of UTC that a clock on the wall may have when it shows this time: one, two where the
    /// clocks went back, none where they went forward.
    pub(super) fn offsets(self, wall: &NaiveDateTime) -> MappedLocalTime<i32> {
        match self {
            Zone::Named(zone) => {
                zone.offset_from_local_datetime(wall).map(|offset| offset.fix().local_minus_utc())
            }
            Zone::Fixed(offset) => MappedLocalTime::Single(offset.local_minus_utc()),
        }
    }

    /// The offset before the change of clocks that skips this time.
    pub(super) fn offset_before_gap(self, wall: &NaiveDateTime) -> Option<i32> {
        match self {
            Zone::Named(zone) => Some(GapInfo::new(wall, &zone)?.begin?.1.fix().local_minus_utc()),
            Zone::Fixed(_) => None,
        }
    }
}
