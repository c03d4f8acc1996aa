//! The zigzag and the ATR that the features use, bar by bar, for checks and pictures.

use super::atr::Atr;
use super::parameters::Parameters;
use super::zigzag::{Zigzag, least_move};
use crate::bar::Prices;
use crate::bars::Bars;
use crate::cancel::Cancel;
use crate::error::Error;

/// What was known at each bar.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Swings {
    /// The bar of the last confirmed swing high, −1 before there is one.
    pub high_index: Vec<i64>,
    /// The bar of the last confirmed swing low, −1 before there is one.
    pub low_index: Vec<i64>,
    /// +1 while the leg runs up, −1 while it runs down, 0 before the first.
    pub leg: Vec<i8>,
    /// The average true range, in prices.
    pub atr: Vec<f64>,
}

/// The swings of one segment.
pub fn swings(
    bars: Bars<'_>,
    parameters: &Parameters,
    prices: Prices,
    cancel: &Cancel,
) -> Result<Swings, Error> {
    parameters.check()?;
    bars.check(prices)?;
    let (mut atr, mut zigzag, mut all) = (Atr::new(parameters.atr_period), Zigzag::new(), Swings::default());
    for i in 0..bars.len() {
        if i % 65_536 == 0 {
            cancel.check()?;
        }
        let bar = bars.bar(i);
        let range = atr.push(bar.high, bar.low, bar.close);
        zigzag.push(i as u64, bar.high, bar.low, bar.close, least_move(parameters.zigzag_k * range));
        all.high_index.push(zigzag.swing_high.map_or(-1, |p| p.bar as i64));
        all.low_index.push(zigzag.swing_low.map_or(-1, |p| p.bar as i64));
        all.leg.push(zigzag.leg as i8);
        all.atr.push(range);
    }
    Ok(all)
}
