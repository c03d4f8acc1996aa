//! One bar: its prices, and the faults that cause its refusal.

/// Smallest price accepted, just above the smallest normal float32.
pub const MIN_PRICE: f64 = 1.2e-38;
/// Largest price accepted, just below the largest float32.
pub const MAX_PRICE: f64 = 3.4e38;

/// Which prices a bar may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prices {
    /// From [`MIN_PRICE`] to [`MAX_PRICE`].
    #[default]
    Positive,
    /// These, the same below zero, and zero: spreads and back-adjusted contracts.
    AnySign,
}

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
    /// A price is outside the range of float32, where prices may be ≤ 0.
    BeyondFloat32,
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
    pub const ALL: [Fault; 10] = [
        Fault::NotFinite,
        Fault::OutOfRange,
        Fault::BeyondFloat32,
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
            Fault::BeyondFloat32 => "beyond_float32",
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
    /// Whether the bar passes as one of positive prices. The check of whole columns vectorises this same chain of comparisons.
    #[inline(always)]
    pub fn is_sound(&self) -> bool {
        (self.low >= MIN_PRICE)
            & (self.high <= MAX_PRICE)
            & (self.low <= self.open)
            & (self.open <= self.high)
            & (self.low <= self.close)
            & (self.close <= self.high)
    }

    /// Whether the bar passes where prices may have any sign, as one chain of comparisons too. Prices just above zero are
    /// refused: differences of the others are never so small that their reciprocal overflows.
    #[inline(always)]
    pub fn is_sound_of_any_sign(&self) -> bool {
        (self.low >= -MAX_PRICE)
            & (self.high <= MAX_PRICE)
            & (self.low <= self.open)
            & (self.open <= self.high)
            & (self.low <= self.close)
            & (self.close <= self.high)
            & is_normal(self.open)
            & is_normal(self.high)
            & is_normal(self.low)
            & is_normal(self.close)
    }

    /// Whether the bar passes.
    #[inline(always)]
    pub fn passes(&self, prices: Prices) -> bool {
        // A bar of positive prices passes in both cases, without a look at the choice.
        self.is_sound() || (prices == Prices::AnySign && self.is_sound_of_any_sign())
    }

    /// The bar's first fault, with its column and value.
    pub fn fault(&self, prices: Prices) -> Option<(Fault, &'static str, f64)> {
        if self.passes(prices) {
            return None;
        }
        let (beyond, out_of_range): (fn(f64) -> bool, Fault) = match prices {
            Prices::Positive => (|x| !(MIN_PRICE..=MAX_PRICE).contains(&x), Fault::OutOfRange),
            Prices::AnySign => (|x| x.abs() > MAX_PRICE || !is_normal(x), Fault::BeyondFloat32),
        };
        let named = [("open", self.open), ("high", self.high), ("low", self.low), ("close", self.close)];
        let first = |bad: fn(f64) -> bool| named.into_iter().find(|&(_, x)| bad(x));
        Some(if let Some((column, x)) = first(|x| !x.is_finite()) {
            (Fault::NotFinite, column, x)
        } else if let Some((column, x)) = first(beyond) {
            (out_of_range, column, x)
        } else if self.high < self.low {
            (Fault::HighBelowLow, "high", self.high)
        } else if self.open < self.low || self.open > self.high {
            (Fault::OpenOutside, "open", self.open)
        } else {
            (Fault::CloseOutside, "close", self.close)
        })
    }
}

/// Whether a price of any sign is zero or far enough from it.
#[inline(always)]
fn is_normal(x: f64) -> bool {
    (x == 0.0) | (x.abs() >= MIN_PRICE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Bar = Bar { open: 2.0, high: 4.0, low: 1.0, close: 3.0 };

    #[test]
    fn sound_bars_pass() {
        let flat = |price| Bar { open: price, high: price, low: price, close: price };
        assert_eq!(GOOD.fault(Prices::Positive), None);
        for price in [MIN_PRICE, 1.0, MAX_PRICE] {
            assert_eq!(flat(price).fault(Prices::Positive), None);
        }
        for price in [-MAX_PRICE, -1.0, -MIN_PRICE, -0.0, 0.0, MIN_PRICE, 1.0, MAX_PRICE] {
            assert_eq!(flat(price).fault(Prices::AnySign), None);
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
            let (got, at, _) = bar.fault(Prices::Positive).expect("refused");
            assert_eq!((got, at), (fault, column), "{bar:?}");
        }
    }

    #[test]
    fn below_zero_only_the_size_and_the_order_count() {
        let below = Bar { open: -3.0, high: -1.0, low: -4.0, close: 0.0 };
        for (bar, fault, column) in [
            (below, Fault::CloseOutside, "close"),
            (Bar { low: f64::NAN, ..below }, Fault::NotFinite, "low"),
            (Bar { low: f64::NEG_INFINITY, ..below }, Fault::NotFinite, "low"),
            (Bar { low: -3.5e38, ..below }, Fault::BeyondFloat32, "low"),
            (Bar { high: 3.5e38, ..below }, Fault::BeyondFloat32, "high"),
            (Bar { close: -1e-39, ..below }, Fault::BeyondFloat32, "close"),
            (Bar { high: -5.0, close: -4.0, ..below }, Fault::HighBelowLow, "high"),
            (Bar { open: -0.5, close: -4.0, ..below }, Fault::OpenOutside, "open"),
        ] {
            let (got, at, _) = bar.fault(Prices::AnySign).expect("refused");
            assert_eq!((got, at), (fault, column), "{bar:?}");
        }
    }
}
