//! What every feature set has: its features, its definition, and what it does with bars.

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
    /// The name, as metadata and tables give it.
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
    /// The name under which users ask for it.
    pub(super) name: &'static str,
    /// How many features a row has. There is no largest width.
    pub(super) width: usize,
    /// The names of the parameters that its values depend on. The warm-up changes no value, only which rows are valid.
    pub(super) depends_on: &'static [&'static str],
    /// The features in the order of their columns.
    pub(super) features: fn(&Parameters) -> Vec<Feature>,
    /// Its state before the first bar.
    pub(super) start: fn(&Parameters) -> Box<dyn Features>,
}

/// What a feature set does with bars that have passed [`Bars::check`].
pub(super) trait Features: Send + Sync {
    /// The definition: takes the next bar, writes its row.
    fn push(&mut self, bar: &Bar, out: &mut [f32]);

    /// Whether enough bars have been seen for [`Features::push_blocks`].
    fn has_block_path(&self) -> bool;

    /// The same as pushing the bars, a whole number of blocks, one by one.
    fn push_blocks(&mut self, level: Level, bars: Bars<'_>, out: &mut [Slot]);

    /// Whether everything that the rows refer to exists by now.
    fn is_known(&self) -> bool;

    /// Writes the state.
    fn save(&self, writer: &mut Writer);

    /// Continues from written state; called on a new object with the same parameters.
    fn load(&mut self, reader: &mut Reader<'_>) -> Result<(), Error>;
}
