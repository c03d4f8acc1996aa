//! A causal zigzag: swings that are known at the close of the bar that confirms them, never before.
//!
//! One pass, O(1) state. The rules are those of the feature specification, "Building blocks"; the two traps they
//! avoid are a bar whose own range confirms its own extreme, and ties on the tick grid that rounding decides.

use super::state::{Reader, Writer};
use crate::error::Error;

/// A price and the bar at which it stood.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// The price.
    pub price: f64,
    /// The bar, counted from the segment's first.
    pub bar: u64,
}

/// Which way the current leg runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Leg {
    /// From a swing high down.
    Down = -1,
    /// Before the first swing.
    None = 0,
    /// From a swing low up.
    Up = 1,
}

/// Whether a move reaches a threshold: the tolerance settles exact ties, which rounding would otherwise decide.
#[inline(always)]
fn reaches(size: f64, threshold: f64) -> bool {
    threshold > 0.0 && size >= threshold - 1e-9 * threshold
}

/// Running state.
#[derive(Clone, Debug, PartialEq)]
pub struct Zigzag {
    /// The direction of the current leg.
    pub leg: Leg,
    /// The last confirmed swing high.
    pub swing_high: Option<Point>,
    /// The last confirmed swing low.
    pub swing_low: Option<Point>,
    /// Up: the leg's highest high; down: its lowest low; before the first leg the running high.
    pub extreme: Point,
    /// The most adverse price since the extreme's bar; before the first leg the running low.
    pub pullback: Point,
}

impl Zigzag {
    /// No bars yet.
    pub fn new() -> Self {
        let nowhere = Point { price: 0.0, bar: 0 };
        Zigzag { leg: Leg::None, swing_high: None, swing_low: None, extreme: nowhere, pullback: nowhere }
    }

    /// Takes bar `bar`; `threshold` is `zigzag_k · ATR` at it. True when this bar confirms a swing.
    #[inline(always)]
    pub fn push(&mut self, bar: u64, high: f64, low: f64, close: f64, threshold: f64) -> bool {
        let here = |price| Point { price, bar };
        match self.leg {
            Leg::Up => {
                if high > self.extreme.price {
                    self.extreme = here(high);
                    self.pullback = here(close);
                } else if low < self.pullback.price {
                    self.pullback = here(low);
                }
                let turns = reaches(self.extreme.price - close, threshold);
                if turns {
                    self.swing_high = Some(self.extreme);
                    self.leg = Leg::Down;
                    self.extreme = self.pullback;
                    self.pullback = here(close);
                }
                turns
            }
            Leg::Down => {
                if low < self.extreme.price {
                    self.extreme = here(low);
                    self.pullback = here(close);
                } else if high > self.pullback.price {
                    self.pullback = here(high);
                }
                let turns = reaches(close - self.extreme.price, threshold);
                if turns {
                    self.swing_low = Some(self.extreme);
                    self.leg = Leg::Up;
                    self.extreme = self.pullback;
                    self.pullback = here(close);
                }
                turns
            }
            Leg::None => self.start(bar, high, low, close, threshold),
        }
    }

    /// Before the first leg: keeps the running high and low until the close leaves one of them.
    #[cold]
    fn start(&mut self, bar: u64, high: f64, low: f64, close: f64, threshold: f64) -> bool {
        let here = |price| Point { price, bar };
        if bar == 0 {
            (self.extreme, self.pullback) = (here(high), here(low));
            return false;
        }
        if high > self.extreme.price {
            self.extreme = here(high);
        }
        if low < self.pullback.price {
            self.pullback = here(low);
        }
        let (highest, lowest) = (self.extreme, self.pullback);
        let (rise, fall) = (close - lowest.price, highest.price - close);
        let (rises, falls) = (reaches(rise, threshold), reaches(fall, threshold));
        if rises && (!falls || rise >= fall - 1e-9 * fall) {
            self.leg = Leg::Up;
            self.swing_low = Some(lowest);
            self.extreme = here(if lowest.bar == bar { close } else { high });
        } else if falls {
            self.leg = Leg::Down;
            self.swing_high = Some(highest);
            self.extreme = here(if highest.bar == bar { close } else { low });
        } else {
            return false;
        }
        self.pullback = here(close);
        true
    }

    /// Writes the state.
    pub fn save(&self, writer: &mut Writer) {
        writer.i8(self.leg as i8);
        for point in [Some(self.extreme), Some(self.pullback), self.swing_high, self.swing_low] {
            writer.option(point, |w, point| {
                w.f64(point.price);
                w.u64(point.bar);
            });
        }
    }

    /// Goes on from written state.
    pub fn load(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        let damaged = || Error::State("it is damaged");
        self.leg = match reader.i8()? {
            -1 => Leg::Down,
            0 => Leg::None,
            1 => Leg::Up,
            _ => return Err(damaged()),
        };
        let mut point = || reader.option(|r| Ok(Point { price: r.f64()?, bar: r.u64()? }));
        self.extreme = point()?.ok_or_else(damaged)?;
        self.pullback = point()?.ok_or_else(damaged)?;
        self.swing_high = point()?;
        self.swing_low = point()?;
        Ok(())
    }
}

impl Default for Zigzag {
    fn default() -> Self {
        Zigzag::new()
    }
}
