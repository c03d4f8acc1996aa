//! Exponential moving average, `E₀ = x₀`, `Eᵢ = Eᵢ₋₁ + α(xᵢ − Eᵢ₋₁)`. O(1) per bar.

use super::state::{Reader, Writer};
use crate::error::Error;

/// The average and its weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Ema {
    alpha: f64,
    /// The average so far; `None` before the first value.
    pub(super) value: Option<f64>,
}

impl Ema {
    /// `α = 2/(period + 1)`.
    pub fn new(period: u32) -> Self {
        Ema { alpha: 2.0 / (f64::from(period) + 1.0), value: None }
    }

    /// Takes the next value and returns the average that includes it.
    #[inline(always)]
    pub fn push(&mut self, x: f64) -> f64 {
        let value = self.value.map_or(x, |e| self.after(e, x));
        self.value = Some(value);
        value
    }

    /// The average that follows the average `e`.
    #[inline(always)]
    pub(super) fn after(&self, e: f64, x: f64) -> f64 {
        e + self.alpha * (x - e)
    }

    /// Saves the state.
    pub fn save(&self, writer: &mut Writer) {
        writer.option(self.value, Writer::f64);
    }

    /// Restores a saved state.
    pub fn load(&mut self, reader: &mut Reader<'_>) -> Result<(), Error> {
        self.value = reader.option(Reader::f64)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_its_definition() {
        let mut ema = Ema::new(3);
        assert_eq!([1.0, 3.0, 5.0].map(|x| ema.push(x)), [1.0, 2.0, 3.5]);
    }

    #[test]
    fn a_period_of_one_is_the_value_itself() {
        let mut ema = Ema::new(1);
        assert_eq!([2.0, 7.0, 1.0].map(|x| ema.push(x)), [2.0, 7.0, 1.0]);
    }
}
