//! One bar: its prices, and the faults that cause its refusal.

/// Smallest price accepted, just above the smallest normal float32.
pub const MIN_PRICE: f64 = 1.2e-38;
/// Largest price accepted, just below the largest float32.
pub const MAX_PRICE: f64 = 3.4e38;

/// One bar: open, high, low and close.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bar {
    /// First price of the minute.
    pub open: f64,
    /// Highest price of the minute.
    pub high: f64,
    /// Lowest price of the minute.
    pub low: f64,
    /// Last price of the minute.
    pub close: f64,
}

/// Why a bar, its time or a kept column is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Fault {
    /// A price is NaN, null or infinite.
    NotFinite,
    /// A price is ≤ 0 or outside the range of float32.
    OutOfRange,
    /// The high lies below the low.
    HighBelowLow,
    /// The open lies outside [low, high].
    OpenOutside,
    /// The close lies outside [low, high].
    CloseOutside,
    /// The bar has no time.
    NoTimestamp,
    /// The bar has the time of the bar before it.
    Duplicate,
    /// The bar is earlier than the bar before it.
    OutOfOrder,
    /// A kept column is null, NaN, infinite or outside the range of float32.
    ExtraNotFinite,
}

impl Fault {
    /// Every fault, in the order of reports.
    pub const ALL: [Fault; 9] = [
        Fault::NotFinite,
        Fault::OutOfRange,
        Fault::HighBelowLow,
        Fault::OpenOutside,
        Fault::CloseOutside,
        Fault::NoTimestamp,
        Fault::Duplicate,
        Fault::OutOfOrder,
        Fault::ExtraNotFinite,
    ];

    /// The fault's name in Python.
    pub fn name(self) -> &'static str {
        match self {
            Fault::NotFinite => "not_finite",
            Fault::OutOfRange => "out_of_range",
            Fault::HighBelowLow => "high_below_low",
            Fault::OpenOutside => "open_outside",
            Fault::CloseOutside => "close_outside",
            Fault::NoTimestamp => "no_timestamp",
            Fault::Duplicate => "duplicate_timestamp",
            Fault::OutOfOrder => "out_of_order",
            Fault::ExtraNotFinite => "extra_not_finite",
        }
    }
}

impl Bar {
    /// Whether the bar passes. The check of whole columns vectorises this same chain of comparisons.
    #[inline(always)]
    pub fn is_sound(&self) -> bool {
        (self.low >= MIN_PRICE)
            & (self.high <= MAX_PRICE)
            & (self.low <= self.open)
            & (self.open <= self.high)
            & (self.low <= self.close)
            & (self.close <= self.high)
    }

    /// The bar's first fault, with its column and value.
    pub fn fault(&self) -> Option<(Fault, &'static str, f64)> {
        if self.is_sound() {
            return None;
        }
        let named = [("open", self.open), ("high", self.high), ("low", self.low), ("close", self.close)];
        let first = |bad: fn(f64) -> bool| named.into_iter().find(|&(_, x)| bad(x));
        Some(if let Some((column, x)) = first(|x| !x.is_finite()) {
            (Fault::NotFinite, column, x)
        } else if let Some((column, x)) = first(|x| !(MIN_PRICE..=MAX_PRICE).contains(&x)) {
            (Fault::OutOfRange, column, x)
        } else if self.high < self.low {
            (Fault::HighBelowLow, "high", self.high)
        } else if self.open < self.low || self.open > self.high {
            (Fault::OpenOutside, "open", self.open)
        } else {
            (Fault::CloseOutside, "close", self.close)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Bar = Bar { open: 2.0, high: 4.0, low: 1.0, close: 3.0 };

    #[test]
    fn sound_bars_pass() {
        assert_eq!(GOOD.fault(), None);
        for price in [MIN_PRICE, 1.0, MAX_PRICE] {
            assert_eq!(Bar { open: price, high: price, low: price, close: price }.fault(), None);
        }
    }

    #[test]
    fn every_fault_is_told_apart() {
        for (bar, fault, column) in [
            (Bar { open: f64::NAN, ..GOOD }, Fault::NotFinite, "open"),
            (Bar { high: f64::INFINITY, ..GOOD }, Fault::NotFinite, "high"),
            (Bar { low: 0.0, ..GOOD }, Fault::OutOfRange, "low"),
            (Bar { low: -1.0, ..GOOD }, Fault::OutOfRange, "low"),
            (Bar { low: 1e-39, ..GOOD }, Fault::OutOfRange, "low"),
            (Bar { high: 3.5e38, ..GOOD }, Fault::OutOfRange, "high"),
            (Bar { high: 0.5, ..GOOD }, Fault::HighBelowLow, "high"),
            (Bar { open: 4.5, ..GOOD }, Fault::OpenOutside, "open"),
            (Bar { open: 0.5, ..GOOD }, Fault::OpenOutside, "open"),
            (Bar { close: 4.5, ..GOOD }, Fault::CloseOutside, "close"),
        ] {
            let (got, at, _) = bar.fault().expect("refused");
            assert_eq!((got, at), (fault, column), "{bar:?}");
        }
    }
}
