//! The interface of a feature set: its features, its definition, and how it processes bars.

use super::block::Slot;
use super::parameters::Parameters;
use super::state::{Reader, Writer};
use crate::bar::Bar;
use crate::bars::Bars;
use crate::error::Error;
use crate::simd::Level;

/// A feature's name and the range of its values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Feature {
    /// The name, as in metadata and tables.
    pub name: &'static str,
    /// Lowest and highest value, both attained; `None` where there is no bound.
    pub range: Option<(f64, f64)>,
}

impl Feature {
    pub(super) const fn bounded(name: &'static str, low: f64, high: f64) -> Self {
        Feature { name, range: Some((low, high)) }
    }

    pub(super) const fn unbounded(name: &'static str) -> Self {
        Feature { name, range: None }
    }
}

/// The description of a feature set.
pub(super) struct Definition {
    /// The name by which users select it.
    pub(super) name: &'static str,
    /// The number of features in a row. There is no maximum.
    pub(super) width: usize,
    /// Whether prices may be zero or negative: no formula divides by a price or takes its logarithm.
    pub(super) any_sign: bool,
    /// The names of the parameters that its values depend on. The warm-up changes no value, only which rows are valid.
    pub(super) depends_on: &'static [&'static str],
    /// The features in the order of their columns.
    pub(super) features: fn(&Parameters) -> Vec<Feature>,
    /// Its state before the first bar.
    pub(super) start: fn(&Parameters) -> Box<dyn Features>,
}

/// How a feature set processes bars that have passed [`Bars::check`].
pub(super) trait Features: Send + Sync {
    /// Takes the next bar and writes its row. This defines the set.
    fn push(&mut self, bar: &Bar, out: &mut [f32]);

    /// Whether enough bars have been seen for [`Features::push_blocks`].
    fn has_block_path(&self) -> bool;

    /// Takes a whole number of blocks of bars. Gives the same as pushing the bars one by one.
    fn push_blocks(&mut self, level: Level, bars: Bars<'_>, out: &mut [Slot]);

    /// Whether everything that the rows refer to exists yet.
    fn is_known(&self) -> bool;

    /// Saves the state.
    fn save(&self, writer: &mut Writer);

    /// Restores a saved state. Called on a new object with the same parameters.
    fn load(&mut self, reader: &mut Reader<'_>) -> Result<(), Error>;
}
