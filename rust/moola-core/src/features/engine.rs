//! The features of one segment: the state of a feature set, and which bars are valid.

use std::mem::MaybeUninit;

use super::block::{BLOCK, Slot};
use super::definition::Features;
use super::parameters::Parameters;
use super::set::FeatureSet;
use super::state::{Reader, Writer};
use crate::bar::{Bar, Prices};
use crate::bars::Bars;
use crate::cancel::Cancel;
use crate::error::Error;
use crate::simd::Level;

/// Bars between two checks of the cancel flag and of the input. The columns of this many bars fit into the
/// second-level cache, so checking them and then computing on them reads memory once.
const STEP: usize = 4 * 1024;

/// The features of a growing segment.
pub struct Engine {
    set: FeatureSet,
    parameters: Parameters,
    features: Box<dyn Features>,
    level: Level,
    prices: Prices,
    bars: u64,
    known_at: Option<u64>,
}

impl Engine {
    /// An empty segment.
    pub fn new(set: FeatureSet, parameters: Parameters) -> Result<Self, Error> {
        Engine::at_level(set, parameters, Level::best())
    }

    /// The same with a chosen vector width, which must be one of [`Level::available`].
    pub fn at_level(set: FeatureSet, parameters: Parameters, level: Level) -> Result<Self, Error> {
        parameters.check()?;
        if !Level::available().contains(&level) {
            return Err(Error::Config { name: "level", problem: format!("this processor has no {level:?}") });
        }
        let features = set.start(&parameters);
        Ok(Engine { set, parameters, features, level, prices: Prices::Positive, bars: 0, known_at: None })
    }

    /// Sets which prices bars may have. Refuses those that the set's formulas do not allow.
    pub fn set_prices(&mut self, prices: Prices) -> Result<(), Error> {
        self.set.check_prices(prices)?;
        self.prices = prices;
        Ok(())
    }

    /// Which prices bars may have.
    pub fn prices(&self) -> Prices {
        self.prices
    }

    /// Begins a new segment.
    pub fn reset(&mut self) {
        self.features = self.set.start(&self.parameters);
        (self.bars, self.known_at) = (0, None);
    }

    /// Features a row.
    pub fn width(&self) -> usize {
        self.set.width()
    }

    /// The set.
    pub fn set(&self) -> FeatureSet {
        self.set
    }

    /// Its parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Bars taken so far.
    pub fn bars(&self) -> u64 {
        self.bars
    }

    /// Takes a bar that [`Bar::passes`] and writes its row of [`Engine::width`] values.
    pub fn push(&mut self, bar: &Bar, out: &mut [f32]) {
        self.features.push(bar, out);
        if self.known_at.is_none() && self.features.is_known() {
            self.known_at = Some(self.bars);
        }
        self.bars += 1;
    }

    /// Takes bars that have passed [`Bars::check`] and writes one row per bar to `out`.
    pub fn push_many(&mut self, bars: Bars<'_>, out: &mut [f32]) {
        self.push_many_new(bars, slots(out));
    }

    /// As [`Engine::push_many`], into memory that may be uninitialised.
    pub fn push_many_new(&mut self, bars: Bars<'_>, out: &mut [MaybeUninit<f32>]) {
        let (n, width) = (bars.len(), self.width());
        assert_eq!(out.len(), n * width, "a row for every bar");
        let mut done = 0;
        while done < n {
            let whole = (n - done) / BLOCK * BLOCK;
            let step = if whole > 0 && self.features.has_block_path() {
                let rows = &mut out[done * width..(done + whole) * width];
                self.features.push_blocks(self.level, bars.slice(done..done + whole), rows);
                self.bars += whole as u64;
                whole
            } else {
                self.push(&bars.bar(done), zeroed(&mut out[done * width..(done + 1) * width]));
                1
            };
            done += step;
        }
    }

    /// The bar of the segment (counted from 0) at which everything that the rows refer to was first known.
    pub fn known_at(&self) -> Option<u64> {
        self.known_at
    }

    /// The first valid bar of the segment: past the warm-up, with everything known. `None` while it is not
    /// determined yet.
    pub fn first_valid(&self) -> Option<u64> {
        self.known_at.map(|bar| bar.max(self.parameters.warmup_bars.into()))
    }

    /// Whether the last bar taken is valid.
    pub fn is_valid(&self) -> bool {
        self.first_valid().is_some_and(|first| first < self.bars)
    }

    pub(super) fn save(&self, writer: &mut Writer) {
        let name = self.set.name().as_bytes();
        writer.u8(name.len() as u8);
        writer.bytes(name);
        self.parameters.save(writer);
        writer.u64(self.bars);
        writer.option(self.known_at, Writer::u64);
        self.features.save(writer);
    }

    pub(super) fn load(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let length = reader.u8()?;
        let name = (0..length).map(|_| reader.u8()).collect::<Result<Vec<u8>, Error>>()?;
        let set = FeatureSet::ALL
            .into_iter()
            .find(|set| set.name().as_bytes() == name)
            .ok_or(Error::State("its feature set does not exist in this version of moola"))?;
        let mut engine = Engine::new(set, Parameters::load(reader)?)?;
        engine.bars = reader.u64()?;
        engine.known_at = reader.option(Reader::u64)?;
        engine.features.load(reader)?;
        Ok(engine)
    }
}

/// Treats initialised numbers as slots.
pub(super) fn slots(out: &mut [f32]) -> &mut [Slot] {
    // SAFETY: both types have the same layout, and the engine writes nothing but numbers to slots.
    unsafe { &mut *(std::ptr::from_mut(out) as *mut [Slot]) }
}

/// Writes zeros.
fn zeroed(out: &mut [Slot]) -> &mut [f32] {
    out.fill(Slot::new(0.0));
    // SAFETY: every value has just been written, and both types have the same layout.
    unsafe { &mut *(std::ptr::from_mut(out) as *mut [f32]) }
}

/// Checks the bars of one segment and writes their rows. After an error the content of `out` is unspecified.
pub fn compute(engine: &mut Engine, bars: Bars<'_>, out: &mut [f32], cancel: &Cancel) -> Result<(), Error> {
    compute_new(engine, bars, slots(out), cancel)
}

/// As [`compute`], into memory that may be uninitialised. After success every value is written.
pub fn compute_new(
    engine: &mut Engine,
    bars: Bars<'_>,
    out: &mut [MaybeUninit<f32>],
    cancel: &Cancel,
) -> Result<(), Error> {
    let width = engine.width();
    assert_eq!(out.len(), bars.len() * width, "a row for every bar");
    let mut start = 0;
    for out in out.chunks_mut(STEP * width) {
        cancel.check()?;
        let step = bars.slice(start..start + out.len() / width);
        if step.check(engine.prices).is_err() {
            // Check all bars again, so that every refusal is counted.
            return bars.check(engine.prices);
        }
        engine.push_many_new(step, out);
        start += step.len();
    }
    Ok(())
}
