//! How volatility follows the time of day.

/// Minutes of a session, from 17:00 to 16:00 of the next day. The remaining hour is the break.
pub const SESSION: usize = 1380;

/// Volatility of one minute over the day, as corners of a line: minutes since 17:00, and a relative level. The night is
/// quiet until London opens at 2:00. Economic data come at 7:30. Stocks trade from 8:30 to 15:00, with a lull at noon.
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

/// Volatility of each minute of the session, scaled to a mean square of 1.
pub(super) fn activity() -> [f64; SESSION] {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_square_of_the_profile_is_1() {
        let mean_square = activity().iter().map(|x| x * x).sum::<f64>() / SESSION as f64;
        assert!((mean_square - 1.0).abs() < 1e-12);
    }
}
