//! Moods: how the price moves for a while.

use super::draws::Draws;

/// How the price moves for a while. `drift` and `noise` are in standard deviations of the minute.
#[derive(Clone, Copy)]
pub(super) struct Mood {
    pub(super) bars_left: usize,
    pub(super) drift: f64,
    pub(super) noise: f64,
    /// Share of the distance to `centre` that the price returns in one bar.
    pub(super) pull: f64,
    /// The price, in ticks, to which a consolidation returns.
    pub(super) centre: f64,
    /// Factor on the volume.
    pub(super) volume: f64,
}

impl Mood {
    /// Neither a trend nor a consolidation, for no bars.
    pub(super) const fn still() -> Self {
        Mood { bars_left: 0, drift: 0.0, noise: 1.0, pull: 0.0, centre: 0.0, volume: 1.0 }
    }

    /// The market's next mood: neutral, a trend or a consolidation.
    pub(super) fn draw(draws: &mut Draws, price: f64) -> Self {
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
