//! Columns of bars, and the check that every bar must pass.

use crate::bar::{Bar, Prices};
use crate::error::Error;
use crate::refusals::{Refusals, Sample};
use crate::simd::{Level, at_level};

/// Four columns of one length. The features need bars that have passed [`Bars::check`].
#[derive(Clone, Copy, Debug)]
pub struct Bars<'a> {
    /// Opens.
    pub open: &'a [f64],
    /// Highs.
    pub high: &'a [f64],
    /// Lows.
    pub low: &'a [f64],
    /// Closes.
    pub close: &'a [f64],
}

impl<'a> Bars<'a> {
    /// Four columns. Refused if their lengths differ.
    pub fn new(open: &'a [f64], high: &'a [f64], low: &'a [f64], close: &'a [f64]) -> Result<Self, Error> {
        let n = open.len();
        if [high.len(), low.len(), close.len()] != [n; 3] {
            return Err(Error::Lengths { open: n, high: high.len(), low: low.len(), close: close.len() });
        }
        Ok(Bars { open, high, low, close })
    }

    /// Number of bars.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// True when there are no bars.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Bar `i`.
    #[inline(always)]
    pub fn bar(&self, i: usize) -> Bar {
        Bar { open: self.open[i], high: self.high[i], low: self.low[i], close: self.close[i] }
    }

    /// The bars of a range of rows.
    pub fn slice(&self, rows: std::ops::Range<usize>) -> Bars<'a> {
        Bars {
            open: &self.open[rows.clone()],
            high: &self.high[rows.clone()],
            low: &self.low[rows.clone()],
            close: &self.close[rows],
        }
    }

    /// Checks every bar and reports the refused ones. If all pass, this costs one vectorised read of the
    /// columns.
    pub fn check(&self, prices: Prices) -> Result<(), Error> {
        let sound = match prices {
            Prices::Positive => all_sound(Level::best(), *self),
            Prices::AnySign => all_sound_of_any_sign(Level::best(), *self),
        };
        if sound {
            return Ok(());
        }
        let mut refusals = Refusals::default();
        for i in 0..self.len() {
            let bar = self.bar(i);
            if let Some((fault, column, value)) = bar.fault(prices) {
                refusals.add(Sample {
                    fault,
                    file: 0,
                    row: i as u64,
                    timestamp: None,
                    column: column.to_owned(),
                    value,
                    symbol: None,
                    bar,
                    previous: None,
                });
            }
        }
        Err(Error::Bars(refusals))
    }
}

at_level! {
    /// Whether every bar passes.
    fn all_sound(bars: Bars<'_>) -> bool = are_sound;
}

at_level! {
    /// The same where prices may have any sign.
    fn all_sound_of_any_sign(bars: Bars<'_>) -> bool = are_sound_of_any_sign;
}

#[inline(always)]
fn are_sound_of_any_sign(bars: Bars<'_>) -> bool {
    let n = bars.len();
    let (open, high, low, close) = (&bars.open[..n], &bars.high[..n], &bars.low[..n], &bars.close[..n]);
    let mut sound = true;
    for i in 0..n {
        sound &= Bar { open: open[i], high: high[i], low: low[i], close: close[i] }.is_sound_of_any_sign();
    }
    sound
}

#[inline(always)]
fn are_sound(bars: Bars<'_>) -> bool {
    let n = bars.len();
    let (open, high, low, close) = (&bars.open[..n], &bars.high[..n], &bars.low[..n], &bars.close[..n]);
    let mut sound = true;
    for i in 0..n {
        sound &= Bar { open: open[i], high: high[i], low: low[i], close: close[i] }.is_sound();
    }
    sound
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusals::MAX_SAMPLES;

    #[test]
    fn all_are_counted_and_the_first_are_kept() {
        let n = 50;
        let (good, bad) = (vec![1.0; n], vec![f64::NAN; n]);
        let Err(Error::Bars(refusals)) =
            Bars::new(&good, &good, &good, &bad).unwrap().check(Prices::Positive)
        else {
            panic!("NaN closes must be refused")
        };
        assert_eq!(refusals.total(), 50);
        assert_eq!(refusals.samples().len(), MAX_SAMPLES);
        assert_eq!(refusals.samples()[7].row, 7);
    }

    #[test]
    fn every_kind_is_among_the_samples() {
        let n = 100;
        let (good, mut close) = (vec![1.0; n], vec![f64::NAN; n]);
        (close[30], close[80], close[99]) = (-1.0, 2.0, -2.0);
        let Err(Error::Bars(refusals)) =
            Bars::new(&good, &good, &good, &close).unwrap().check(Prices::Positive)
        else {
            panic!("bad closes must be refused")
        };
        let rows: Vec<u64> = refusals.samples().iter().map(|sample| sample.row).collect();
        assert_eq!(rows, (0..17).chain([30, 80, 99]).collect::<Vec<_>>());
    }
}
