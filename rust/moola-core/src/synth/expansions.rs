//! Planted expansions: their contexts, their places, and the price moves in them.

use super::draws::Draws;
use super::moods::Mood;

/// Bars in the window that holds a planted expansion.
pub const WINDOW: usize = 105;

/// Probability that a session holds a planted expansion: about one in 2,700 bars.
const PLANTED: f64 = 0.5;
/// Bars of a session before the window of a planted expansion. Features are past their warm-up in the window, even if
/// each session is a segment of its own.
pub const LEAD: usize = 105;

/// What precedes a planted expansion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// A narrow range without direction.
    Consolidation,
    /// A move in the direction of the expansion, then a partial pullback.
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

/// A planted expansion. All times are times of bars, in UTC nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expansion {
    /// What precedes the expansion.
    pub context: Context,
    /// The last bar of a window of [`WINDOW`] bars that lies in one session and holds context and expansion.
    pub window_end: i64,
    /// The expansion's first bar.
    pub start: i64,
    /// The expansion's last bar.
    pub end: i64,
}

/// A planned expansion. Bars are counted from the start of the session.
pub(super) struct Plan {
    pub(super) context: Context,
    /// The moods from bar `from` on: the context, the expansion, and a pause that ends it.
    moods: Vec<Mood>,
    from: usize,
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) window_end: usize,
}

impl Plan {
    /// Draws whether a session of `bars` bars holds an expansion, and where.
    pub(super) fn draw(draws: &mut Draws, bars: usize) -> Option<Plan> {
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
        // 6 to 30 bars, 14 on average: short expansions are more frequent.
        let u = draws.unit();
        let length = 6 + (25.0 * u * u) as usize;
        moods.push(mood(length, direction * draws.between(0.8, 1.5), 0.8, 2.0));
        moods.push(mood(draws.count(6, 15), 0.0, 0.7, 1.0));

        // The expansion may lie anywhere in the window, as long as the window holds its context.
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

    /// The mood of bar `i` of the session if the plan covers it, and whether it is the mood's first bar.
    pub(super) fn mood(&self, i: usize) -> Option<(Mood, bool)> {
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
