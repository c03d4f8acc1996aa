//! One trading day: its opening time, and the minutes that have a bar.

use chrono::{Datelike, NaiveDate, Weekday};

use super::draws::Draws;
use super::expansions::Plan;
use super::profile::SESSION;

/// Probability that a minute of average activity is missing. Quieter minutes are missing more often.
const MISSING: f64 = 1.08e-3;
/// Probability that the minute after a missing one is missing too.
const MISSING_RUN: f64 = 0.3;

/// One trading day: the minutes that have a bar, and the expansion planted among them.
pub(super) struct Session {
    /// The Chicago date on which the session opens, at 17:00.
    pub(super) evening: NaiveDate,
    /// Minutes since 17:00.
    pub(super) minutes: Vec<u16>,
    pub(super) plan: Option<Plan>,
}

impl Session {
    pub(super) fn new(
        evening: NaiveDate,
        activity: &[f64; SESSION],
        gaps: &mut Draws,
        plans: Option<&mut Draws>,
    ) -> Self {
        let mut minutes = Vec::with_capacity(SESSION);
        let mut missing = false;
        for (minute, activity) in activity.iter().enumerate() {
            let chance = if missing { MISSING_RUN } else { MISSING / activity };
            // The opening auction always trades.
            missing = gaps.unit() < chance && minute > 0;
            if !missing {
                minutes.push(minute as u16);
            }
        }
        let plan = plans.and_then(|draws| Plan::draw(draws, minutes.len()));
        Session { evening, minutes, plan }
    }

    /// The time of bar `i` of the session, UTC nanoseconds.
    pub(super) fn timestamp(&self, i: usize) -> i64 {
        (opens_at(self.evening) + 60 * i64::from(self.minutes[i])) * 1_000_000_000
    }

    pub(super) fn is_planned(&self, i: usize) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.mood(i).is_some())
    }
}

/// Seconds from 1970 to 17:00 in Chicago. Clocks change early on Sundays, when the market is closed, so a session has one
/// offset. Summer time lasts from the second Sunday in March to the first in November.
fn opens_at(evening: NaiveDate) -> i64 {
    let sunday = |month, n| NaiveDate::from_weekday_of_month_opt(evening.year(), month, Weekday::Sun, n);
    let summer = sunday(3, 2) <= Some(evening) && Some(evening) < sunday(11, 1);
    let epoch = const { NaiveDate::from_ymd_opt(1970, 1, 1).unwrap() };
    (evening - epoch).num_days() * 86_400 + if summer { 22 } else { 23 } * 3600
}
