//! The feature sets. Each is defined once, by how one bar changes its state ([`Features::push`]). The batch path
//! ([`Features::push_blocks`]) does the same operations on vectors of bars and gives the same bits.
//!
//! A set's file also says what there is to know about it ([`Definition`]): its name, width, columns and the parameters
//! it depends on. The binding, the command line and the metadata read them from here.

mod arithmetic;
pub mod atr;
mod block;
pub mod ema;
pub mod engine;
pub mod ohlc4;
pub mod relative_transform;
pub mod relativity;
mod state;
pub mod stream;
pub mod swings;
mod window;
pub mod zigzag;

pub use crate::simd::Level;
pub use engine::{Engine, compute};
pub use stream::Stream;

use crate::bar::Bar;
use crate::bars::Bars;
use crate::error::Error;
use state::{Reader, Writer};

/// A feature's name and the range of its values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Feature {
    /// The name, as metadata and tables give it.
    pub name: &'static str,
    /// Lowest and highest value, both attained; `None` where there is no bound.
    pub range: Option<(f64, f64)>,
}

impl Feature {
    const fn bounded(name: &'static str, low: f64, high: f64) -> Self {
        Feature { name, range: Some((low, high)) }
    }

    const fn unbounded(name: &'static str) -> Self {
        Feature { name, range: None }
    }
}

/// What there is to know about a feature set.
struct Definition {
    /// The name under which users ask for it.
    name: &'static str,
    /// How many features a row has. There is no largest width.
    width: usize,
    /// The names of the parameters that its values depend on. The warm-up changes no value, only which rows are valid.
    depends_on: &'static [&'static str],
    /// The features in the order of their columns.
    features: fn(&Parameters) -> Vec<Feature>,
    /// Its state before the first bar.
    start: fn(&Parameters) -> Box<dyn Features>,
}

/// What a feature set does with bars that have passed [`Bars::check`].
trait Features: Send + Sync {
    /// The definition: takes the next bar, writes its row.
    fn push(&mut self, bar: &Bar, out: &mut [f32]);

    /// Whether enough bars have been seen for [`Features::push_blocks`].
    fn has_block_path(&self) -> bool;

    /// The same as pushing the bars, a whole number of blocks, one by one.
    fn push_blocks(&mut self, level: Level, bars: Bars<'_>, out: &mut [f32]);

    /// Whether everything that the rows refer to exists by now.
    fn is_known(&self) -> bool;

    /// Writes the state.
    fn save(&self, writer: &mut Writer);

    /// Continues from written state; called on a new object with the same parameters.
    fn load(&mut self, reader: &mut Reader<'_>) -> Result<(), Error>;
}

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

/// The longest period. Windows are summed afresh at every bar, so a long one costs time.
pub const MAX_PERIOD: u32 = 10_000;

impl Parameters {
    /// The names of the fields, in order: as configurations, metadata and the binding have them.
    pub const NAMES: [&'static str; 6] =
        ["range_ema_period", "atr_period", "zigzag_k", "swing_time_scale", "zscore_period", "warmup_bars"];

    /// Accepts the parameters, or says which one is out of its range.
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

    fn save(&self, writer: &mut Writer) {
        writer.u32(self.range_ema_period);
        writer.u32(self.atr_period);
        writer.f64(self.zigzag_k);
        writer.f64(self.swing_time_scale);
        writer.u32(self.zscore_period);
        writer.u32(self.warmup_bars);
    }

    fn load(reader: &mut Reader<'_>) -> Result<Self, Error> {
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

/// Every feature set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureSet {
    /// Ten features: candle, range and swings. The default.
    Relativity10,
    /// The ten, and two products of them.
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

    /// The name under which users ask for it.
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

    /// How many features a row has.
    pub fn width(self) -> usize {
        self.definition().width
    }

    /// The names of the parameters that its values depend on, in the order of [`Parameters::NAMES`].
    pub fn depends_on(self) -> &'static [&'static str] {
        self.definition().depends_on
    }

    /// The features in the order of their columns.
    pub fn features(self, parameters: &Parameters) -> Vec<Feature> {
        (self.definition().features)(parameters)
    }

    fn start(self, parameters: &Parameters) -> Box<dyn Features> {
        (self.definition().start)(parameters)
    }
}

/// A set of 40 features: no width is written down outside the definitions.
#[cfg(test)]
mod wide {
    use super::*;

    pub(super) const WIDE: Definition = Definition {
        name: "wide",
        width: 40,
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

        fn push_blocks(&mut self, _level: Level, _bars: Bars<'_>, _out: &mut [f32]) {}

        fn is_known(&self) -> bool {
            true
        }

        fn save(&self, _writer: &mut Writer) {}

        fn load(&mut self, _reader: &mut Reader<'_>) -> Result<(), Error> {
            Ok(())
        }
    }
}
