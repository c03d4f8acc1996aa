//! A causal zigzag: a swing is known at the close of the bar that confirms it, and not before.
//!
//! One pass with O(1) state. The rules are in the feature specification, "Building blocks". They avoid two
//! traps: a bar whose own range confirms its own extreme, and ties on the tick grid that rounding decides.

use std::hint::select_unpredictable;

use super::block::{BLOCK, Block, Column};
use super::state::{Reader, Writer};
use crate::error::Error;

/// A price and the bar of that price.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// The price.
    pub price: f64,
    /// The bar, counted from the segment's first.
    pub bar: u64,
}

/// The direction of the current leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Leg {
    /// Down from a swing high.
    Down = -1,
    /// Before the first swing.
    None = 0,
    /// Up from a swing low.
    Up = 1,
}

/// The smallest move that counts as reaching `threshold`. The tolerance settles exact ties, which rounding
/// would otherwise decide. No move reaches a threshold of 0.
#[inline(always)]
pub fn least_move(threshold: f64) -> f64 {
    if threshold > 0.0 { threshold - 1e-9 * threshold } else { f64::INFINITY }
}

/// What is known at each bar of a block.
pub(super) struct SwingColumns {
    /// Price of the last swing high.
    pub high: Column,
    /// Its bar.
    pub high_bar: Column,
    /// Price of the last swing low.
    pub low: Column,
    /// Its bar.
    pub low_bar: Column,
    /// +1 or −1.
    pub leg: Column,
}

impl SwingColumns {
    /// All zeros.
    pub fn new() -> Self {
        let zero = [0.0; BLOCK];
        SwingColumns { high: zero, high_bar: zero, low: zero, low_bar: zero, leg: zero }
    }

    #[inline(always)]
    fn set(&mut self, i: usize, known: &Known) {
        (self.high[i], self.high_bar[i]) = known.high;
        (self.low[i], self.low_bar[i]) = known.low;
        self.leg[i] = known.leg;
    }
}

/// One row of the columns: price and bar of each swing, and the leg.
struct Known {
    high: (f64, f64),
    low: (f64, f64),
    leg: f64,
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
    /// Leg up: its highest high. Leg down: its lowest low. Before the first leg: the running high.
    pub extreme: Point,
    /// The most adverse price since the extreme's bar. Before the first leg: the running low.
    pub pullback: Point,
}

impl Zigzag {
    /// No bars yet.
    pub fn new() -> Self {
        let nowhere = Point { price: 0.0, bar: 0 };
        Zigzag { leg: Leg::None, swing_high: None, swing_low: None, extreme: nowhere, pullback: nowhere }
    }

    /// Takes bar `bar`. `turn` is the [`least_move`] that turns a leg here. True if this bar confirms a
    /// swing.
    #[inline(always)]
    pub fn push(&mut self, bar: u64, high: f64, low: f64, close: f64, turn: f64) -> bool {
        match self.leg {
            Leg::Up => self.extend::<true>(bar, high, low, close, turn),
            Leg::Down => self.extend::<false>(bar, high, low, close, turn),
            Leg::None => self.start(bar, high, low, close, turn),
        }
    }

    /// Adds a bar to a leg that runs up, or down (the mirror image). True if the bar turns the leg.
    #[inline(always)]
    fn extend<const UP: bool>(&mut self, bar: u64, high: f64, low: f64, close: f64, turn: f64) -> bool {
        self.reach::<UP>(bar, high, low, close);
        let turns = self.retraced::<UP>(close) >= turn;
        if turns {
            self.confirm::<UP>(bar, close);
        }
        turns
    }

    /// Moves the extreme and the pullback. Selects are faster than branches here: whether a bar reaches further than the
    /// earlier ones is hard to predict.
    #[inline(always)]
    fn reach<const UP: bool>(&mut self, bar: u64, high: f64, low: f64, close: f64) {
        let (ahead, behind) = if UP { (high, low) } else { (low, high) };
        let beyond = |a: f64, b: f64| if UP { a > b } else { a < b };
        let Zigzag { extreme, pullback, .. } = self;
        let further = beyond(ahead, extreme.price);
        let deeper = beyond(pullback.price, behind);
        pullback.price = select_unpredictable(deeper, behind, pullback.price);
        pullback.price = select_unpredictable(further, close, pullback.price);
        pullback.bar = select_unpredictable(further | deeper, bar, pullback.bar);
        extreme.price = select_unpredictable(further, ahead, extreme.price);
        extreme.bar = select_unpredictable(further, bar, extreme.bar);
    }

    /// How far the close has retraced from the extreme.
    #[inline(always)]
    fn retraced<const UP: bool>(&self, close: f64) -> f64 {
        if UP { self.extreme.price - close } else { close - self.extreme.price }
    }

    /// The leg has turned: its extreme is a swing, and the next leg starts at the pullback.
    #[inline(always)]
    fn confirm<const UP: bool>(&mut self, bar: u64, close: f64) {
        let swing = Some(self.extreme);
        if UP {
            (self.swing_high, self.leg) = (swing, Leg::Down);
        } else {
            (self.swing_low, self.leg) = (swing, Leg::Up);
        }
        self.extreme = self.pullback;
        self.pullback = Point { price: close, bar };
    }

    /// Gives the same as pushing the bars one by one. Both swings must exist. `turns` holds the move that
    /// turns a leg at each bar. `swings` gets the swings known at each bar. `also` is called at every bar, in
    /// order; the processor overlaps its work with this loop's.
    #[inline(always)]
    pub(super) fn push_block(
        &mut self,
        first: u64,
        block: Block<'_>,
        turns: &Column,
        swings: &mut SwingColumns,
        mut also: impl FnMut(usize),
    ) {
        let mut zigzag = self.clone();
        let mut i = 0;
        while i < BLOCK {
            i = match zigzag.leg {
                Leg::Up => zigzag.push_leg::<true>(i, first, block, turns, swings, &mut also),
                Leg::Down => zigzag.push_leg::<false>(i, first, block, turns, swings, &mut also),
                Leg::None => return,
            };
        }
        *self = zigzag;
    }

    /// Takes bars from `i` on until the leg has turned or the block ends, and returns the first bar not
    /// taken. The last swings do not change within a leg.
    #[inline(always)]
    fn push_leg<const UP: bool>(
        &mut self,
        mut i: usize,
        first: u64,
        block: Block<'_>,
        turns: &Column,
        swings: &mut SwingColumns,
        also: &mut impl FnMut(usize),
    ) -> usize {
        let known = self.known();
        while i < BLOCK {
            also(i);
            self.reach::<UP>(first + i as u64, block.high[i], block.low[i], block.close[i]);
            if self.retraced::<UP>(block.close[i]) >= turns[i] {
                self.confirm::<UP>(first + i as u64, block.close[i]);
                swings.set(i, &self.known());
                return i + 1;
            }
            swings.set(i, &known);
            i += 1;
        }
        i
    }

    /// The swings and the leg known now. Both swings must exist.
    #[inline(always)]
    fn known(&self) -> Known {
        let [high, low] = [self.swing_high, self.swing_low].map(|swing| swing.unwrap_or(self.extreme));
        Known {
            high: (high.price, high.bar as f64),
            low: (low.price, low.bar as f64),
            leg: f64::from(self.leg as i8),
        }
    }

    /// Takes a bar before the first leg: keeps the running high and low until the close leaves one of them.
    #[cold]
    fn start(&mut self, bar: u64, high: f64, low: f64, close: f64, turn: f64) -> bool {
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
        let (rises, falls) = (rise >= turn, fall >= turn);
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

    /// Saves the state.
    pub fn save(&self, writer: &mut Writer) {
        writer.i8(self.leg as i8);
        for point in [Some(self.extreme), Some(self.pullback), self.swing_high, self.swing_low] {
            writer.option(point, |w, point| {
                w.f64(point.price);
                w.u64(point.bar);
            });
        }
    }

    /// Restores a saved state.
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
