//! A causal zigzag: swings that are known at the close of the bar that confirms them, never before.
//!
//! One pass, O(1) state. The rules are those of the feature specification, "Building blocks"; the two traps they
//! avoid are a bar whose own range confirms its own extreme, and ties on the tick grid that rounding decides.

use std::hint::select_unpredictable;

use super::block::{BLOCK, Block, Column};
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

/// The least move that reaches a threshold: the tolerance settles exact ties, which rounding would otherwise
/// decide. No move reaches a threshold of 0.
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
    /// Nothing yet.
    pub fn new() -> Self {
        let zero = [0.0; BLOCK];
        SwingColumns { high: zero, high_bar: zero, low: zero, low_bar: zero, leg: zero }
    }
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

    /// Takes bar `bar`; `turn` is the [`least_move`] that turns a leg here. True when this bar confirms a swing.
    #[inline(always)]
    pub fn push(&mut self, bar: u64, high: f64, low: f64, close: f64, turn: f64) -> bool {
        match self.leg {
            Leg::Up => self.go_on::<true>(bar, high, low, close, turn),
            Leg::Down => self.go_on::<false>(bar, high, low, close, turn),
            Leg::None => self.start(bar, high, low, close, turn),
        }
    }

    /// One more bar of a leg that runs up, or down, which is the mirror image.
    ///
    /// Whether a bar goes further than the ones before it is a toss-up, so that a branch on it would be guessed
    /// wrong much of the time: hence the selects. The turn, the one branch, is rarer.
    #[inline(always)]
    fn go_on<const UP: bool>(&mut self, bar: u64, high: f64, low: f64, close: f64, turn: f64) -> bool {
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

        let turns = turn <= if UP { extreme.price - close } else { close - extreme.price };
        if turns {
            let swing = std::mem::replace(extreme, *pullback);
            *pullback = Point { price: close, bar };
            if UP {
                (self.swing_high, self.leg) = (Some(swing), Leg::Down);
            } else {
                (self.swing_low, self.leg) = (Some(swing), Leg::Up);
            }
        }
        turns
    }

    /// The same as pushing the bars one by one, once both swings exist: `turns` holds the least move at each bar,
    /// `swings` gets what is known at it. `also` is called at every bar: other work in the shade of this one.
    #[inline(always)]
    pub(super) fn push_block(
        &mut self,
        first: u64,
        block: Block<'_>,
        turns: &Column,
        swings: &mut SwingColumns,
        mut also: impl FnMut(usize),
    ) {
        let mut state = self.clone();
        let mut i = 0;
        while i < BLOCK {
            // One loop a leg, in which the last swings and the direction stay what they are.
            i = match state.leg {
                Leg::Up => state.push_leg::<true>(i, first, block, turns, swings, &mut also),
                Leg::Down => state.push_leg::<false>(i, first, block, turns, swings, &mut also),
                Leg::None => return,
            };
        }
        *self = state;
    }

    /// Takes the bars of a block from bar `i` on until the leg has turned, and returns the first bar not taken.
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
        let Some((high, low)) = self.swing_high.zip(self.swing_low) else { return BLOCK };
        let (mut high, mut low) = ((high.price, high.bar as f64), (low.price, low.bar as f64));
        while i < BLOCK {
            also(i);
            let turned =
                self.go_on::<UP>(first + i as u64, block.high[i], block.low[i], block.close[i], turns[i]);
            if turned {
                if UP {
                    high = self.swing_high.map_or(high, |p| (p.price, p.bar as f64));
                } else {
                    low = self.swing_low.map_or(low, |p| (p.price, p.bar as f64));
                }
            }
            (swings.high[i], swings.high_bar[i]) = high;
            (swings.low[i], swings.low_bar[i]) = low;
            swings.leg[i] = if UP != turned { 1.0 } else { -1.0 };
            i += 1;
            if turned {
                break;
            }
        }
        i
    }

    /// Before the first leg: keeps the running high and low until the close leaves one of them.
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
