//! The market: bar after bar, session after session.

use chrono::{Datelike, Days, NaiveDate, Weekday};

use super::draws::Draws;
use super::expansions::Expansion;
use super::moods::Mood;
use super::profile::{SESSION, activity};
use super::session::Session;
use crate::bar::Bar;

/// Every price is a multiple of this.
pub const TICK: f64 = 0.25;

/// The longest run whose timestamps fit in int64 nanoseconds, which end in 2262. Rounded down.
pub const MAX_BARS: u64 = 80_000_000;

/// The first session opens on this Sunday at 17:00 in Chicago.
const FIRST_EVENING: NaiveDate = NaiveDate::from_ymd_opt(2020, 6, 7).unwrap();

/// Standard deviation of one minute's return, as root mean square over the day. It gives about 1 % a day.
const MINUTE_SIGMA: f64 = 2.1e-4;
/// Log-volatility moves on two scales. This is its movement from session to session.
const SLOW_MEMORY: f64 = 0.95;
const SLOW_SPREAD: f64 = 0.30;
/// Log-volatility from minute to minute, with a half-life of three quarters of an hour.
const FAST_MEMORY: f64 = 0.985;
const FAST_SPREAD: f64 = 0.35;
/// The price returns to this level with a half-life of two years, so that a tick keeps its relative size in a run of any
/// length.
const LEVEL: f64 = 4000.0 / TICK;
const RETURN_TO_LEVEL: f64 = 9.5e-7;
/// Spread of the jump from one session's close to the next open, in standard deviations of a minute.
const OVERNIGHT_JUMP: f64 = 4.0;
const WEEKEND_JUMP: f64 = 14.0;
/// On average, one bar in this many carries news.
const NEWS_EVERY: f64 = 700.0;
/// News multiplies the minute's random move by this.
const NEWS_SIZE: f64 = 3.5;

/// One minute of the sample market.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampleBar {
    /// The start of the minute, UTC nanoseconds.
    pub timestamp: i64,
    /// Open, high, low and close, multiples of [`TICK`].
    pub bar: Bar,
    /// Contracts traded, at least 1.
    pub volume: i64,
}

/// An endless run of bars of one symbol, and the expansions planted in it.
///
/// A bar takes about ten random numbers; 1.8 million bars take less than half a second.
pub struct SampleMarket {
    bars: Draws,
    gaps: Draws,
    plans: Option<Draws>,
    activity: Box<[f64; SESSION]>,
    expansions: Vec<Expansion>,

    session: Session,
    /// The next bar, as an index into the session's minutes.
    next: usize,
    price: f64,
    slow: f64,
    fast: f64,
    mood: Mood,
}

impl SampleMarket {
    /// The market of one symbol. Each symbol has its own random streams, so no symbol depends on the number of symbols.
    pub fn new(seed: u64, symbol: u32, with_expansions: bool) -> Self {
        let stream = |purpose: u64| Draws::new(seed, 4 * u64::from(symbol) + purpose);
        let mut bars = stream(0);
        let mut gaps = stream(1);
        let mut plans = with_expansions.then(|| stream(2));
        let activity = Box::new(activity());
        let price = LEVEL * (1.0 + 0.15 * bars.normal().clamp(-2.0, 2.0));
        let slow = SLOW_SPREAD * bars.normal();
        let session = Session::new(FIRST_EVENING, &activity, &mut gaps, plans.as_mut());
        let mood = Mood::still();
        SampleMarket {
            bars,
            gaps,
            plans,
            activity,
            expansions: Vec::new(),
            session,
            next: 0,
            price,
            slow,
            fast: 0.0,
            mood,
        }
    }

    /// Takes the expansions whose windows have ended since the last call, oldest first.
    pub fn take_expansions(&mut self) -> Vec<Expansion> {
        std::mem::take(&mut self.expansions)
    }

    fn next_session(&mut self) {
        let mut evening = self.session.evening + Days::new(1);
        let weekend = evening.weekday() == Weekday::Fri;
        if weekend {
            evening = evening + Days::new(2);
        }
        self.slow = SLOW_MEMORY * self.slow
            + SLOW_SPREAD * (1.0 - SLOW_MEMORY * SLOW_MEMORY).sqrt() * self.bars.normal();
        let jump = if weekend { WEEKEND_JUMP } else { OVERNIGHT_JUMP };
        self.price *= 1.0 + jump * MINUTE_SIGMA * libm::exp(self.slow) * self.bars.normal();
        self.session = Session::new(evening, &self.activity, &mut self.gaps, self.plans.as_mut());
        self.next = 0;
        self.mood.bars_left = 0;
    }

    /// The mood of bar `i` of the session: the plan's if the plan covers the bar, else the market's own.
    fn mood(&mut self, i: usize) -> Mood {
        let planned = self.session.plan.as_ref().and_then(|plan| plan.mood(i));
        match planned {
            // A planted mood ends the market's own.
            Some((mut mood, first)) => {
                self.mood.bars_left = 0;
                if first {
                    self.mood.centre = self.price;
                }
                mood.centre = self.mood.centre;
                mood
            }
            None => {
                if self.mood.bars_left == 0 {
                    self.mood = Mood::draw(&mut self.bars, self.price);
                }
                self.mood.bars_left -= 1;
                self.mood
            }
        }
    }

    fn bar(&mut self) -> SampleBar {
        let i = self.next;
        let minute = self.session.minutes[i] as usize;
        let mood = self.mood(i);
        let draws = &mut self.bars;

        self.fast =
            FAST_MEMORY * self.fast + FAST_SPREAD * (1.0 - FAST_MEMORY * FAST_MEMORY).sqrt() * draws.normal();
        let heat = libm::exp(self.slow + self.fast);
        let activity = self.activity[minute];
        let sigma = self.price * MINUTE_SIGMA * activity * heat;
        let noise = sigma * mood.noise;
        let surprise = draws.normal();
        let news = draws.unit() * NEWS_EVERY < 1.0 && !self.session.is_planned(i);

        let from = self.price;
        let step = sigma * mood.drift
            + mood.pull * (mood.centre - from)
            + noise * surprise * if news { NEWS_SIZE } else { 1.0 }
            + RETURN_TO_LEVEL * (LEVEL - from);
        // A minute moves by a few basis points. The clamp keeps the price positive for every draw.
        let to = from * (1.0 + (step / from).clamp(-0.1, 0.1));
        self.price = to;

        // The extremes of a Brownian path with these ends, each drawn from its exact distribution.
        let half =
            |u: f64| 0.5 * ((to - from) * (to - from) - 2.0 * noise * noise * libm::log(1.0 - u)).sqrt();
        let high = 0.5 * (from + to) + half(draws.unit());
        let low = 0.5 * (from + to) - half(draws.unit());
        // Trades alternate between bid and ask around the true price, so prices round up or down at random.
        let open = (from + draws.unit()).floor();
        let close = (to + draws.unit()).floor();
        let (high, low) = (open.max(close).max(high.round()), open.min(close).min(low.round()));

        let bustle = libm::exp(0.35 * draws.normal()) * (0.6 + 0.4 * surprise.abs());
        let volume = 1 + (600.0 * activity * activity * heat * mood.volume * bustle) as i64;
        SampleBar {
            timestamp: self.session.timestamp(i),
            bar: Bar { open: open * TICK, high: high * TICK, low: low * TICK, close: close * TICK },
            volume,
        }
    }
}

impl Iterator for SampleMarket {
    type Item = SampleBar;

    /// The next bar. The market never ends.
    fn next(&mut self) -> Option<SampleBar> {
        if self.next == self.session.minutes.len() {
            self.next_session();
        }
        let bar = self.bar();
        if let Some(plan) = &self.session.plan
            && plan.window_end == self.next
        {
            self.expansions.push(Expansion {
                context: plan.context,
                window_end: bar.timestamp,
                start: self.session.timestamp(plan.start),
                end: self.session.timestamp(plan.end),
            });
        }
        self.next += 1;
        Some(bar)
    }
}
