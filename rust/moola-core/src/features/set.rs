//! The list of feature sets.

use super::definition::{Definition, Feature, Features};
use super::parameters::Parameters;
use super::{ohlc4, relative_transform, relativity};
use crate::bar::Prices;
use crate::error::Error;

/// Every feature set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureSet {
    /// Ten features: candle, range and swings. The default.
    Relativity10,
    /// The ten features, and two products of them.
    Relativity12,
    /// Log returns, candle and z-scores.
    RelativeTransform11,
    /// The four prices in units of the ATR.
    Ohlc4,
    /// Wider than any set that ships.
    #[cfg(test)]
    Wide,
}

impl FeatureSet {
    /// Every set, the default first.
    pub const ALL: [FeatureSet; 4] = [
        FeatureSet::Relativity10,
        FeatureSet::Relativity12,
        FeatureSet::RelativeTransform11,
        FeatureSet::Ohlc4,
    ];

    fn definition(self) -> &'static Definition {
        match self {
            FeatureSet::Relativity10 => &relativity::RELATIVITY10,
            FeatureSet::Relativity12 => &relativity::RELATIVITY12,
            FeatureSet::RelativeTransform11 => &relative_transform::RELATIVE_TRANSFORM11,
            FeatureSet::Ohlc4 => &ohlc4::OHLC4,
            #[cfg(test)]
            FeatureSet::Wide => &wide::WIDE,
        }
    }

    /// The name by which users select it.
    pub fn name(self) -> &'static str {
        self.definition().name
    }

    /// The set of that name. The error for an unknown name lists the known ones.
    pub fn from_name(name: &str) -> Result<Self, Error> {
        FeatureSet::ALL.into_iter().find(|set| set.name() == name).ok_or_else(|| {
            let known = FeatureSet::ALL.map(FeatureSet::name).join(", ");
            Error::Config {
                name: "feature_set",
                problem: format!("there is no {name:?}; choose one of {known}"),
            }
        })
    }

    /// The number of features in a row.
    pub fn width(self) -> usize {
        self.definition().width
    }

    /// Whether its prices may be zero or negative.
    pub fn any_sign(self) -> bool {
        self.definition().any_sign
    }

    /// Refuses prices that the set's formulas do not allow.
    pub fn check_prices(self, prices: Prices) -> Result<(), Error> {
        if prices == Prices::Positive || self.any_sign() {
            return Ok(());
        }
        let sets = FeatureSet::ALL.into_iter().filter(|set| set.any_sign()).map(FeatureSet::name);
        Err(Error::Config {
            name: "allow_nonpositive",
            problem: format!(
                "cannot be combined with {}, which takes logarithms of prices: leave it out, or choose one \
                 of the feature sets {}",
                self.name(),
                sets.collect::<Vec<_>>().join(", ")
            ),
        })
    }

    /// The names of the parameters that its values depend on, in the order of [`Parameters::NAMES`].
    pub fn depends_on(self) -> &'static [&'static str] {
        self.definition().depends_on
    }

    /// The features in the order of their columns.
    pub fn features(self, parameters: &Parameters) -> Vec<Feature> {
        (self.definition().features)(parameters)
    }

    pub(super) fn start(self, parameters: &Parameters) -> Box<dyn Features> {
        (self.definition().start)(parameters)
    }
}

/// A set of 40 features. It tests that nothing outside the definitions assumes a width.
#[cfg(test)]
mod wide {
    use super::super::block::Slot;
    use super::super::state::{Reader, Writer};
    use super::*;
    use crate::bar::Bar;
    use crate::bars::Bars;
    use crate::simd::Level;

    pub(super) static WIDE: Definition = Definition {
        name: "wide",
        width: 40,
        any_sign: true,
        depends_on: &[],
        features: |_| vec![Feature::unbounded("close"); 40],
        start: |_| Box::new(Wide),
    };

    struct Wide;

    impl Features for Wide {
        fn push(&mut self, bar: &Bar, out: &mut [f32]) {
            out.fill(bar.close as f32);
        }

        fn has_block_path(&self) -> bool {
            false
        }

        fn push_blocks(&mut self, _level: Level, _bars: Bars<'_>, _out: &mut [Slot]) {}

        fn is_known(&self) -> bool {
            true
        }

        fn save(&self, _writer: &mut Writer) {}

        fn load(&mut self, _reader: &mut Reader<'_>) -> Result<(), Error> {
            Ok(())
        }
    }
}
