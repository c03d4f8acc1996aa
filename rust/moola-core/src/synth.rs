//! The sample market: one-minute bars like those of an index future, so that everything can be tried without
//! a data vendor.
//!
//! It looks like a market where features look: prices on a tick grid, a session with a daily break and
//! weekends, volatility that clusters and follows the time of day, trends and consolidations, bars without a
//! range, a few missing minutes. It is no model of any market, and nothing learned from it is worth money.
//!
//! The same seed gives the same bytes on every machine. Randomness is ChaCha8, whose output is portable;
//! `exp` and `ln` come from a pure-Rust libm; everything else is IEEE arithmetic that no compiler may
//! reorder. Each bar is made from those before it alone, so a shorter run is the beginning of a longer one,
//! planted expansions included.

use chrono::{Datelike, Days, NaiveDate, Weekday};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::bar::Bar;

/// Every price is a multiple of this.
pub const TICK: f64 = 0.25;
/// Bars in the window that shows a planted expansion.
pub const WINDOW: usize = 105;
/// The longest run whose timestamps fit in int64 nanoseconds (which end in the year 2262), rounded down.
pub const MAX_BARS: u64 = 80_000_000;

/// The first session opens on this Sunday at 17:00 in Chicago.
const FIRST_EVENING: NaiveDate = NaiveDate::from_ymd_opt(2020, 6, 7).unwrap();
/// Minutes from 17:00 to 16:00 of the next day: the break is the hour that is left.
const SESSION: usize = 1380;

/// Volatility of one minute over the day, as the corners of a line: minutes since 17:00, and a level of which
/// only the proportions matter. The night is quiet, London wakes it at 2:00, the data at 7:30, and stocks
/// trade from 8:30 to 15:00 with a lull at noon.
const PROFILE: [(usize, f64); 19] = [
    (0, 0.90),
    (15, 0.55),
    (120, 0.60),
    (200, 0.50),
    (420, 0.42),
    (539, 0.50),
    (540, 0.95),
    (620, 0.75),
    (780, 0.60),
    (869, 0.70),
    (870, 1.20),
    (929, 1.00),
    (930, 2.80),
    (960, 2.10),
    (1140, 1.20),
    (1260, 1.50),
    (1319, 2.20),
    (1335, 0.80),
    (SESSION, 0.45),
];

/// Standard deviation of one minute's return, root mean square over the day: about 1 % a day.
const MINUTE_SIGMA: f64 = 2.1e-4;
/// Log-volatility moves on two scales. From session to session …
const SLOW_MEMORY: f64 = 0.95;
const SLOW_SPREAD: f64 = 0.30;
/// … and from minute to minute, with a half-life of three quarters of an hour.
const FAST_MEMORY: f64 = 0.985;
const FAST_SPREAD: f64 = 0.35;
/// The price returns to this level with a half-life of two years, so that however long the run, 0.25 stays
/// what a tick is.
const LEVEL: f64 = 4000.0 / TICK;
const RETURN_TO_LEVEL: f64 = 9.5e-7;
/// Spread of the jump from one session's close to the next open, in minutes' standard deviations.
const OVERNIGHT_JUMP: f64 = 4.0;
const WEEKEND_JUMP: f64 = 14.0;
/// One bar in so many carries news, …
const NEWS_EVERY: f64 = 700.0;
/// … which multiplies what its minute would have moved.
const NEWS_SIZE: f64 = 3.5;
/// How likely a minute of average activity is missing, and the next one too. Quieter minutes are likelier to
/// be.
const MISSING: f64 = 1.08e-3;
const MISSING_RUN: f64 = 0.3;
/// How likely a session holds a planted expansion: about one in 2,700 bars.
const PLANTED: f64 = 0.5;
/// Bars of a session before the window of a planted expansion, so that features are past their warm-up in it
/// even where each session is a segment of its own.
const LEAD: usize = 105;

/// One minute of the sample market.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampleBar {
    /// When the minute begins, UTC nanoseconds.
    pub timestamp: i64,
    /// Open, high, low and close, multiples of [`TICK`].
    pub bar: Bar,
    /// Contracts traded, at least 1.
    pub volume: i64,
}

/// What a planted expansion follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// A narrow range without direction.
    Consolidation,
    /// A move in the direction of the expansion, of which a part is taken back.
    Retracement,
}

impl Context {
    /// The name of the class in the labels.
    pub fn name(self) -> &'static str {
        match self {
            Context::Consolidation => "consolidation",
            Context::Retracement => "retracement",
        }
    }
}

/// Where an expansion was planted. All times are those of bars, UTC nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expansion {
    /// What it follows.
    pub context: Context,
    /// The last bar of a window of [`WINDOW`] bars that lies in one session and holds context and expansion.
    pub window_end: i64,
    /// The expansion's first bar.
    pub start: i64,
    /// The expansion's last bar.
    pub end: i64,
}

/// An endless run of bars of one symbol, and where expansions were planted in it.
///
/// Draws some ten random numbers a bar; 1.8 million bars take less than half a second.
pub struct SampleMarket {
    bars: Draws,
    gaps: Draws,
    plans: Option<Draws>,
    activity: Box<[f64; SESSION]>,
    expansions: Vec<Expansion>,

    session: Session,
    /// The session's next bar, as an index into its minutes.
    next: usize,
    price: f64,
    slow: f64,
    fast: f64,
    mood: Mood,
}

/// One trading day: the minutes that have a bar, and what is planted among them.
struct Session {
    /// The Chicago date of its 17:00.
    evening: NaiveDate,
    /// Minutes since 17:00.
    minutes: Vec<u16>,
    plan: Option<Plan>,
}

/// How the price moves for a while. Units are the standard deviation that the minute would otherwise have.
#[derive(Clone, Copy)]
struct Mood {
    bars_left: usize,
    drift: f64,
    noise: f64,
    /// Share of the distance to `centre` that one bar takes back.
    pull: f64,
    /// The price, in ticks, to which a consolidation returns.
    centre: f64,
    /// Factor on the volume.
    volume: f64,
}

/// An expansion to come: bars counted in the session.
struct Plan {
    context: Context,
    /// One after the other from bar `from`: the context, the expansion, and a pause that ends it.
    moods: Vec<Mood>,
    from: usize,
    start: usize,
    end: usize,
    window_end: usize,
}

impl SampleMarket {
    /// The market of one symbol: each has random streams of its own, so none depends on how many there are.
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

    /// Hands over the expansions whose windows have ended since the last call, oldest first.
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

    /// The mood of bar `i` of the session: the plan's where it has one, else the market's own.
    fn mood(&mut self, i: usize) -> Mood {
        let planned = self.session.plan.as_ref().and_then(|plan| plan.mood(i));
        match planned {
            // What was going on before does not go on after it.
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
        // A minute moves by a few basis points; the clamp only keeps the price positive whatever is drawn.
        let to = from * (1.0 + (step / from).clamp(-0.1, 0.1));
        self.price = to;

        // The extremes of a Brownian path between its ends, each drawn from its exact distribution.
        let half =
            |u: f64| 0.5 * ((to - from) * (to - from) - 2.0 * noise * noise * libm::log(1.0 - u)).sqrt();
        let high = 0.5 * (from + to) + half(draws.unit());
        let low = 0.5 * (from + to) - half(draws.unit());
        // Trades alternate between bid and ask around the true price: rounding is up or down by chance.
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

    /// The next bar; there always is one.
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

impl Session {
    fn new(
        evening: NaiveDate,
        activity: &[f64; SESSION],
        gaps: &mut Draws,
        plans: Option<&mut Draws>,
    ) -> Self {
        let mut minutes = Vec::with_capacity(SESSION);
        let mut missing = false;
        for (minute, activity) in activity.iter().enumerate() {
            let chance = if missing { MISSING_RUN } else { MISSING / activity };
            // The opening auction always prints.
            missing = gaps.unit() < chance && minute > 0;
            if !missing {
                minutes.push(minute as u16);
            }
        }
        let plan = plans.and_then(|draws| Plan::draw(draws, minutes.len()));
        Session { evening, minutes, plan }
    }

    /// The time of its bar `i`, UTC nanoseconds.
    fn timestamp(&self, i: usize) -> i64 {
        (opens_at(self.evening) + 60 * i64::from(self.minutes[i])) * 1_000_000_000
    }

    fn is_planned(&self, i: usize) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.mood(i).is_some())
    }
}

/// Seconds since 1970 at 17:00 in Chicago. Clocks change early on Sundays, when the market is closed, so a
/// session has one offset: summer time from the second Sunday in March to the first in November.
fn opens_at(evening: NaiveDate) -> i64 {
    let sunday = |month, n| NaiveDate::from_weekday_of_month_opt(evening.year(), month, Weekday::Sun, n);
    let summer = sunday(3, 2) <= Some(evening) && Some(evening) < sunday(11, 1);
    let epoch = const { NaiveDate::from_ymd_opt(1970, 1, 1).unwrap() };
    (evening - epoch).num_days() * 86_400 + if summer { 22 } else { 23 } * 3600
}

/// Volatility by minute of the session, its mean square 1.
fn activity() -> [f64; SESSION] {
    let mut levels = [0.0; SESSION];
    for corners in PROFILE.windows(2) {
        let ((from, a), (to, b)) = (corners[0], corners[1]);
        for (k, level) in levels[from..to].iter_mut().enumerate() {
            *level = a + (b - a) * k as f64 / (to - from) as f64;
        }
    }
    let mean_square = levels.iter().map(|x| x * x).sum::<f64>() / SESSION as f64;
    levels.map(|x| x / mean_square.sqrt())
}

impl Mood {
    /// Neither trend nor consolidation, and over at once.
    const fn still() -> Self {
        Mood { bars_left: 0, drift: 0.0, noise: 1.0, pull: 0.0, centre: 0.0, volume: 1.0 }
    }

    /// What the market does next of its own: nothing in particular, a trend or a consolidation.
    fn draw(draws: &mut Draws, price: f64) -> Self {
        let bars_left = (20.0 - 60.0 * libm::log(1.0 - draws.unit())).min(400.0) as usize;
        let kind = draws.unit();
        let mut mood = Mood { bars_left, centre: price, ..Mood::still() };
        if kind < 0.35 {
            mood.drift = draws.sign() * draws.between(0.05, 0.20);
        } else if kind < 0.55 {
            mood.noise = draws.between(0.5, 0.8);
            mood.pull = draws.between(0.02, 0.10);
            mood.volume = 0.8;
        }
        mood
    }
}

impl Plan {
    /// What is planted in a session of so many bars, if anything.
    fn draw(draws: &mut Draws, bars: usize) -> Option<Plan> {
        if draws.unit() >= PLANTED || bars < LEAD + WINDOW {
            return None;
        }
        let direction = draws.sign();
        let mood =
            |bars_left, drift, noise, volume| Mood { bars_left, drift, noise, volume, ..Mood::still() };
        let (context, mut moods) = if draws.unit() < 0.5 {
            let range = Mood { pull: draws.between(0.10, 0.25), ..mood(draws.count(24, 50), 0.0, 0.45, 0.7) };
            (Context::Consolidation, vec![range])
        } else {
            let (bars, drift) = (draws.count(10, 22), draws.between(0.6, 1.0));
            let (back, share) = (draws.count(7, 16), draws.between(0.35, 0.65));
            let pullback = -direction * drift * bars as f64 * share / back as f64;
            let moods = vec![mood(bars, direction * drift, 0.9, 1.2), mood(back, pullback, 0.7, 0.8)];
            (Context::Retracement, moods)
        };
        let before: usize = moods.iter().map(|mood| mood.bars_left).sum();
        // Short ones are commoner: 6 to 30 bars, 14 on average.
        let u = draws.unit();
        let length = 6 + (25.0 * u * u) as usize;
        moods.push(mood(length, direction * draws.between(0.8, 1.5), 0.8, 2.0));
        moods.push(mood(draws.count(6, 15), 0.0, 0.7, 1.0));

        // The span may lie anywhere in the window that leaves the context in view.
        let window_start = draws.count(LEAD, bars - WINDOW);
        let start = window_start + draws.count(before, WINDOW - length);
        let plan = Plan {
            context,
            moods,
            from: start - before,
            start,
            end: start + length - 1,
            window_end: window_start + WINDOW - 1,
        };
        Some(plan)
    }

    /// The mood of bar `i` of the session where it is part of the plan, and whether it is the mood's first
    /// bar.
    fn mood(&self, i: usize) -> Option<(Mood, bool)> {
        let mut from = self.from;
        for mood in &self.moods {
            if (from..from + mood.bars_left).contains(&i) {
                return Some((*mood, i == from));
            }
            from += mood.bars_left;
        }
        None
    }
}

/// Random numbers of one purpose.
struct Draws {
    rng: ChaCha8Rng,
    /// Normals come in pairs.
    spare: Option<f64>,
}

impl Draws {
    fn new(seed: u64, stream: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(stream);
        Draws { rng, spare: None }
    }

    /// Uniform in [0, 1), on a grid of 2⁻⁵³.
    fn unit(&mut self) -> f64 {
        (self.rng.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// A whole number from `low` to `high`, both included.
    fn count(&mut self, low: usize, high: usize) -> usize {
        low + (self.unit() * (high - low + 1) as f64) as usize
    }

    fn sign(&mut self) -> f64 {
        if self.unit() < 0.5 { -1.0 } else { 1.0 }
    }

    /// Standard normal, by Marsaglia's polar method: a logarithm and a square root for two.
    fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let (x, y) = (2.0 * self.unit() - 1.0, 2.0 * self.unit() - 1.0);
            let s = x * x + y * y;
            if s < 1.0 && s > 0.0 {
                let factor = (-2.0 * libm::log(s) / s).sqrt();
                self.spare = Some(y * factor);
                return x * factor;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, Utc};
    use proptest::prelude::*;

    const MINUTE: i64 = 60_000_000_000;
    const YEAR: usize = 52 * 5 * SESSION;

    fn run(seed: u64, symbol: u32, expansions: bool, bars: usize) -> (Vec<SampleBar>, Vec<Expansion>) {
        let mut market = SampleMarket::new(seed, symbol, expansions);
        let bars = market.by_ref().take(bars).collect();
        (bars, market.take_expansions())
    }

    fn utc(timestamp: i64) -> String {
        DateTime::<Utc>::from_timestamp_nanos(timestamp).naive_utc().to_string()
    }

    fn hash(bars: &[SampleBar], expansions: &[Expansion]) -> String {
        let mut hasher = blake3::Hasher::new();
        for SampleBar { timestamp, bar, volume } in bars {
            hasher.update(&timestamp.to_le_bytes());
            for price in [bar.open, bar.high, bar.low, bar.close] {
                hasher.update(&price.to_le_bytes());
            }
            hasher.update(&volume.to_le_bytes());
        }
        for e in expansions {
            hasher.update(e.context.name().as_bytes());
            for time in [e.window_end, e.start, e.end] {
                hasher.update(&time.to_le_bytes());
            }
        }
        hasher.finalize().to_hex().to_string()
    }

    /// One minute's returns in basis points, 0 across what is not one minute.
    fn returns(bars: &[SampleBar]) -> Vec<f64> {
        bars.windows(2)
            .map(|w| {
                if w[1].timestamp - w[0].timestamp == MINUTE {
                    w[1].bar.close / w[0].bar.close - 1.0
                } else {
                    0.0
                }
            })
            .map(|r| r * 1e4)
            .collect()
    }

    fn mean(values: impl Iterator<Item = f64>) -> f64 {
        let (sum, n) = values.fold((0.0, 0), |(sum, n), x| (sum + x, n + 1));
        sum / f64::from(n)
    }

    fn autocorrelation(x: &[f64], lag: usize) -> f64 {
        let m = mean(x.iter().copied());
        let products = x.iter().zip(&x[lag..]).map(|(a, b)| (a - m) * (b - m));
        mean(products) / mean(x.iter().map(|a| (a - m) * (a - m)))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn every_bar_is_sound_on_the_grid_and_later_than_the_last(seed: u64, symbol: u32, expansions: bool) {
            let (bars, _) = run(seed, symbol, expansions, 20_000);
            for SampleBar { bar, volume, .. } in &bars {
                prop_assert!(bar.is_sound(), "{bar:?}");
                for price in [bar.open, bar.high, bar.low, bar.close] {
                    prop_assert_eq!(price % TICK, 0.0);
                    prop_assert!((500.0..20_000.0).contains(&price), "{}", price);
                }
                prop_assert!(*volume >= 1);
            }
            for pair in bars.windows(2) {
                prop_assert!(pair[0].timestamp < pair[1].timestamp);
                prop_assert_eq!(pair[1].timestamp % MINUTE, 0);
            }
        }

        #[test]
        fn a_shorter_run_begins_a_longer_one(seed: u64, expansions: bool, cut in 1usize..15_000) {
            let (long, all) = run(seed, 3, expansions, 15_000);
            let (short, some) = run(seed, 3, expansions, cut);
            prop_assert_eq!(&long[..cut], &short[..]);
            let last = short[cut - 1].timestamp;
            let ended: Vec<_> = all.into_iter().filter(|e| e.window_end <= last).collect();
            prop_assert_eq!(ended, some);
        }

        #[test]
        fn an_expansion_and_what_it_follows_lie_in_a_window_of_one_session(seed: u64) {
            let (bars, expansions) = run(seed, 0, true, 60_000);
            prop_assert!((8..=36).contains(&expansions.len()), "{} in 60,000 bars", expansions.len());
            let row = |time| bars.binary_search_by_key(&time, |b| b.timestamp).expect("the time of a bar");
            let mut free = 0;
            for e in &expansions {
                let (last, start, end) = (row(e.window_end), row(e.start), row(e.end));
                let first = last + 1 - WINDOW;
                prop_assert!(first >= free, "windows must not overlap");
                free = last + 1;
                prop_assert!((6..=30).contains(&(end + 1 - start)));
                // At least the shortest context is in view, and the bars before the window let features warm
                // up.
                prop_assert!(start >= first + 17 && end <= last && first >= LEAD);
                let span = e.window_end - bars[first - LEAD].timestamp;
                prop_assert!(span < 1380 * MINUTE, "the window and its lead straddle the break");
            }
        }
    }

    #[test]
    fn the_bytes_are_pinned() {
        let (bars, expansions) = run(17, 0, true, 20_000);
        assert_eq!(
            hash(&bars, &expansions),
            "cc236f88411f080b03070e8a897291de704af7bacd8019922881a4029a74499b"
        );
        let (bars, _) = run(u64::MAX, 2, false, 20_000);
        assert_eq!(hash(&bars, &[]), "071e65ff978646776982da2daffb42fb5d5b906281e9ba1075c4f31001a92723");
    }

    #[test]
    fn seeds_and_symbols_differ() {
        let closes =
            |seed, symbol| run(seed, symbol, false, 500).0.iter().map(|b| b.bar.close).collect::<Vec<_>>();
        let runs = [closes(1, 0), closes(2, 0), closes(1, 1), closes(1 << 40, 0)];
        for (i, a) in runs.iter().enumerate() {
            for b in &runs[..i] {
                assert_ne!(a, b);
            }
        }
    }

    #[test]
    fn the_default_run_ends_in_june_2025() {
        let last = SampleMarket::new(17, 0, false).nth(1_818_449).unwrap();
        assert_eq!(&utc(last.timestamp)[..10], "2025-06-30");
    }

    #[test]
    fn trading_keeps_chicago_hours_through_both_clock_changes() {
        let (bars, _) = run(17, 0, false, 2 * YEAR);
        assert_eq!(utc(bars[0].timestamp), "2020-06-07 22:00:00");
        let breaks: Vec<_> = bars
            .windows(2)
            .filter(|w| w[1].timestamp - w[0].timestamp > 55 * MINUTE)
            .map(|w| (utc(w[0].timestamp + MINUTE), utc(w[1].timestamp)))
            .collect();
        let opens: Vec<_> = breaks.iter().map(|(_, open)| open.as_str()).collect();
        for (open, there) in [
            ("2020-06-08 22:00:00", true),
            ("2020-06-12 22:00:00", false), // a Friday
            ("2020-06-14 22:00:00", true),
            ("2020-10-29 22:00:00", true),
            ("2020-11-01 23:00:00", true), // clocks went back that morning
            ("2021-03-11 23:00:00", true),
            ("2021-03-14 22:00:00", true), // and forward again
            ("2021-11-04 22:00:00", true),
            ("2021-11-07 23:00:00", true),
            ("2022-03-13 22:00:00", true),
        ] {
            assert_eq!(opens.contains(&open), there, "{open}");
        }
        // The last minutes of a session may be missing, never more than a few.
        let on_time =
            breaks.iter().filter(|(close, _)| close.ends_with("21:00:00") || close.ends_with("22:00:00"));
        assert!(on_time.count() * 100 >= breaks.len() * 98, "sessions end at 16:00");
        let weekends = bars.windows(2).filter(|w| w[1].timestamp - w[0].timestamp > 40 * 60 * MINUTE).count();
        assert_eq!(weekends, bars.len() / (5 * SESSION));
    }

    #[test]
    fn a_few_minutes_are_missing() {
        let (bars, _) = run(17, 0, false, YEAR);
        let steps = bars.windows(2).map(|w| (w[1].timestamp - w[0].timestamp) / MINUTE);
        let missing: i64 = steps.filter(|&step| step < 55).map(|step| step - 1).sum();
        let share = missing as f64 / YEAR as f64;
        assert!((0.0015..0.0035).contains(&share), "{share}");
    }

    #[test]
    fn volatility_clusters_and_returns_do_not() {
        for seed in [17, 18] {
            let returns = returns(&run(seed, 0, false, YEAR).0);
            let sizes: Vec<_> = returns.iter().map(|r| r.abs()).collect();
            assert!(autocorrelation(&sizes, 1) > 0.2);
            assert!(autocorrelation(&sizes, 60) > 0.1);
            assert!(autocorrelation(&returns, 1).abs() < 0.05);
        }
    }

    #[test]
    fn volatility_and_volume_follow_the_time_of_day() {
        let (bars, _) = run(17, 0, false, YEAR);
        let open = |bar: &&SampleBar| (bar.timestamp / MINUTE + 1440) % 1440;
        // Chicago is five or six hours behind: the hours below are inside the phase either way.
        let phase = |from: i64, to: i64| {
            let inside = bars.iter().filter(move |bar| (from * 60..to * 60).contains(&open(bar)));
            let range = mean(inside.clone().map(|b| (b.bar.high - b.bar.low) / b.bar.close * 1e4));
            (range, mean(inside.map(|b| b.volume as f64)))
        };
        let (asia, europe, lunch, stocks) = (phase(1, 6), phase(8, 11), phase(17, 19), phase(14, 16));
        assert!(asia.0 * 1.2 < europe.0 && europe.0 * 1.2 < lunch.0 && lunch.0 * 1.2 < stocks.0);
        assert!(asia.1 * 1.5 < europe.1 && europe.1 * 1.5 < lunch.1 && lunch.1 * 1.5 < stocks.1);
        let mean_square = mean(activity().iter().map(|x| x * x));
        assert!((mean_square - 1.0).abs() < 1e-12);
    }

    #[test]
    fn some_bars_have_no_range() {
        for seed in [17, 18, 19] {
            let (bars, _) = run(seed, 0, false, YEAR);
            let flat = bars.iter().filter(|b| b.bar.high == b.bar.low).count() as f64 / YEAR as f64;
            assert!((0.002..0.08).contains(&flat), "{flat}");
        }
    }

    #[test]
    fn the_price_stays_where_a_tick_is_a_tick() {
        for symbol in 0..4 {
            let closes = SampleMarket::new(5, symbol, false).take(4 * YEAR).map(|b| b.bar.close);
            let (low, high) = closes.fold((f64::MAX, 0.0f64), |(low, high), c| (low.min(c), high.max(c)));
            assert!(low > 1000.0 && high < 16_000.0 && high / low > 1.2, "{low} to {high}");
        }
    }

    #[test]
    fn expansions_are_surges_after_what_their_class_says() {
        let (bars, expansions) = run(17, 0, true, 2 * YEAR);
        let row = |time| bars.binary_search_by_key(&time, |b| b.timestamp).unwrap();
        let move_of = |from: usize, to: usize| bars[to].bar.close - bars[from].bar.open;
        let (mut surges, mut quiet, mut against) = (Vec::new(), Vec::new(), Vec::new());
        let mut offsets = Vec::new();
        for e in &expansions {
            let (start, end) = (row(e.start), row(e.end));
            offsets.push(row(e.window_end) - end);
            let surge = move_of(start, end);
            let path: f64 = (start..=end).map(|i| (bars[i].bar.close - bars[i].bar.open).abs()).sum();
            surges.push(surge.abs() / path.max(TICK));
            // Both contexts last at least seven bars to the surge; consolidations at least 24.
            match e.context {
                Context::Consolidation => {
                    quiet.push(move_of(start - 24, start - 1).abs() / surge.abs().max(TICK))
                }
                Context::Retracement => against.push(move_of(start - 7, start - 1) * surge.signum()),
            }
        }
        assert!(mean(surges.into_iter()) > 0.85, "most of a surge's path is its move");
        assert!(mean(quiet.iter().copied()) < 0.35, "a consolidation goes nowhere");
        let negative = against.iter().filter(|&&x| x < 0.0).count();
        assert!(negative * 100 > against.len() * 85, "a retracement goes against the surge");
        let (a, b) = (quiet.len(), against.len());
        assert!(a.min(b) * 10 > (a + b) * 4, "classes are even: {a} and {b}");
        assert!(offsets.contains(&0) && offsets.iter().any(|&x| x > 40), "spans lie anywhere");
    }
}
