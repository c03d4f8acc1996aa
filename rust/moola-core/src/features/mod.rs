//! The feature sets. Each is defined once, as what one more bar makes of its state ([`Features::push`]); the batch
//! path ([`Features::push_blocks`]) does the same operations on vectors of bars and gives the same bits.

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

/// A feature's name and the range of its values; `None` where it has no bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Feature {
    /// The name, as metadata and tables give it.
    pub name: &'static str,
    /// Lowest and highest value, both attained.
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

/// What a feature set does with bars that have passed [`Bars::check`].
trait Features: Send + Sync {
    /// The definition: takes the next bar, writes its row.
    fn push(&mut self, bar: &Bar, out: &mut [f32]);

    /// Whether enough bars have been seen for [`Features::push_blocks`].
    fn has_block_path(&self) -> bool;

    /// The same as pushing the bars, a whole number of blocks, one by one.
    fn push_blocks(&mut self, level: Level, bars: Bars<'_>, out: &mut [f32]);

    /// Whether everything the rows speak of exists by now.
    fn is_known(&self) -> bool;

    /// Writes the state.
    fn save(&self, writer: &mut Writer);

    /// Goes on from written state; called on a new object with the same parameters.
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

/// The longest period: windows are summed afresh at every bar, so that a long one costs.
pub const MAX_PERIOD: u32 = 10_000;

impl Parameters {
    /// Passes the parameters, or says which one is out of its range.
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

/// The sets that there are.
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
}

impl FeatureSet {
    /// Every set, the default first.
    pub const ALL: [FeatureSet; 4] = [
        FeatureSet::Relativity10,
        FeatureSet::Relativity12,
        FeatureSet::RelativeTransform11,
        FeatureSet::Ohlc4,
    ];

    /// The name under which users ask for it.
    pub fn name(self) -> &'static str {
        match self {
            FeatureSet::Relativity10 => "relativity10",
            FeatureSet::Relativity12 => "relativity12",
            FeatureSet::RelativeTransform11 => "relative_transform11",
            FeatureSet::Ohlc4 => "ohlc4",
        }
    }

    /// The set of that name; a name that is nearly right is answered with the right one.
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
        match self {
            FeatureSet::Relativity10 => 10,
            FeatureSet::Relativity12 => 12,
            FeatureSet::RelativeTransform11 => 11,
            FeatureSet::Ohlc4 => 4,
        }
    }

    /// The features in the order of their columns.
    pub fn features(self, parameters: &Parameters) -> Vec<Feature> {
        match self {
            FeatureSet::Relativity10 => relativity::FEATURES[..10].to_vec(),
            FeatureSet::Relativity12 => relativity::FEATURES.to_vec(),
            FeatureSet::RelativeTransform11 => relative_transform::features(parameters),
            FeatureSet::Ohlc4 => ohlc4::FEATURES.to_vec(),
        }
    }

    fn start(self, parameters: &Parameters) -> Box<dyn Features> {
        match self {
            FeatureSet::Relativity10 => Box::new(relativity::Relativity::<10>::new(parameters)),
            FeatureSet::Relativity12 => Box::new(relativity::Relativity::<12>::new(parameters)),
            FeatureSet::RelativeTransform11 => {
                Box::new(relative_transform::RelativeTransform::new(parameters))
            }
            FeatureSet::Ohlc4 => Box::new(ohlc4::Ohlc4::new(parameters)),
        }
    }
}
