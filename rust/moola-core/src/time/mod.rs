//! Reads the times in files strictly. The result is UTC nanoseconds, or a code for the reason why there are
//! none.
//!
//! Strict means that February has no 31st, nothing may follow the time, and a local time that the clocks
//! showed twice or never is not guessed. The calendar and the zones are chrono's. The zone rules are compiled
//! in, so that a file means the same times on every machine.

mod column;
mod cursor;
mod iso;
mod local;
mod parse;
mod pattern;
mod slashed;
mod zone;

pub use chrono_tz::Tz;

pub use column::Texts;
pub use local::{AMBIGUOUS, LOCAL, NONEXISTENT, NULL, UNREADABLE, first_instant, localize, zones};
pub use parse::{Notation, notation, parse, parse_epochs};
pub use pattern::Pattern;
pub use slashed::{Fit, Order, fit_dates};
pub use zone::{UnknownZone, Zone};
