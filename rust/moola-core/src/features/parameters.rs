//! The parameters of the feature sets: their names, their defaults and their ranges.

use super::state::{Reader, Writer};
use crate::error::Error;

/// The parameters of all feature sets; each set reads those it needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameters {
    /// Bars of the EMA of the range.
    pub range_ema_period: u32,
    /// Bars of the average true range.
    pub atr_period: u32,
    /// ATRs by which the close must leave an extreme to confirm it as a swing.
    pub zigzag_k: f64,
    /// Bars that count as one in the age of a swing.
    pub swing_time_scale: f64,
    /// Bars of the z-scores.
    pub zscore_period: u32,
    /// Bars of a segment before the first valid one.
    pub warmup_bars: u32,
}

impl Default for Parameters {
    fn default() -> Self {
        Parameters {
            range_ema_period: 20,
            atr_period: 10,
            zigzag_k: 1.2,
            swing_time_scale: 105.0,
            zscore_period: 20,
            warmup_bars: 105,
        }
    }
}

/// The longest period. Windows are summed again at every bar, so a long one costs time.
pub const MAX_PERIOD: u32 = 10_000;

impl Parameters {
    /// The names of the fields in order, as used by configurations, metadata and the binding.
    pub const NAMES: [&'static str; 6] =
        ["range_ema_period", "atr_period", "zigzag_k", "swing_time_scale", "zscore_period", "warmup_bars"];

    /// Accepts the parameters, or refuses the first one that is out of its range.
    pub fn check(&self) -> Result<(), Error> {
        for (name, period) in [
            ("range_ema_period", self.range_ema_period),
            ("atr_period", self.atr_period),
            ("zscore_period", self.zscore_period),
        ] {
            if !(1..=MAX_PERIOD).contains(&period) {
                return Err(Error::Config {
                    name,
                    problem: format!("must be from 1 to {MAX_PERIOD}, not {period}"),
                });
            }
        }
        for (name, x) in [("zigzag_k", self.zigzag_k), ("swing_time_scale", self.swing_time_scale)] {
            if !(x > 0.0 && x <= 1e9) {
                return Err(Error::Config {
                    name,
                    problem: format!("must be above 0 and at most 1e9, not {x}"),
                });
            }
        }
        Ok(())
    }

    pub(super) fn save(&self, writer: &mut Writer) {
        writer.u32(self.range_ema_period);
        writer.u32(self.atr_period);
        writer.f64(self.zigzag_k);
        writer.f64(self.swing_time_scale);
        writer.u32(self.zscore_period);
        writer.u32(self.warmup_bars);
    }

    pub(super) fn load(reader: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Parameters {
            range_ema_period: reader.u32()?,
            atr_period: reader.u32()?,
            zigzag_k: reader.f64()?,
            swing_time_scale: reader.f64()?,
            zscore_period: reader.u32()?,
            warmup_bars: reader.u32()?,
        })
    }
}
