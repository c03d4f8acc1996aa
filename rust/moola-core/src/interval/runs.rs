//! Runs of equal steps.

use crate::refusals::MAX_SAMPLES;

/// This many equal steps in a row are bars of that length: a symbol that lacks bars by chance does not lack them so
/// regularly.
pub const RUN: u64 = 50;
/// The most distinct lengths of runs that are told apart.
const LENGTHS: usize = 16;

/// The runs of at least [`RUN`] equal steps, by their step. `T` says where a run begins; of each step, the first 20 places
/// are kept.
#[derive(Clone, Debug)]
pub struct Runs<T> {
    lengths: Vec<Length<T>>,
}

/// The runs of one step.
#[derive(Clone, Debug)]
pub struct Length<T> {
    /// The step.
    pub step: i64,
    /// How many runs there are.
    pub runs: u64,
    /// Steps in all of them.
    pub steps: u64,
    /// Where the first of them begin, and how many steps each has.
    pub first: Vec<(T, u64)>,
}

impl<T> Default for Runs<T> {
    fn default() -> Self {
        Runs { lengths: Vec::new() }
    }
}

impl<T> Runs<T> {
    /// Counts a run, unless it is too short to count.
    #[inline]
    pub fn add(&mut self, (step, run): (i64, u64), place: impl FnOnce() -> T) {
        if run >= RUN {
            self.keep(step, run, place());
        }
    }

    fn keep(&mut self, step: i64, run: u64, place: T) {
        let known = self.lengths.iter().position(|length| length.step == step);
        if known.is_none() {
            if self.lengths.len() == LENGTHS {
                return;
            }
            self.lengths.push(Length { step, runs: 0, steps: 0, first: Vec::new() });
        }
        let at = known.unwrap_or(self.lengths.len() - 1);
        let length = &mut self.lengths[at];
        length.runs += 1;
        length.steps += run;
        if length.first.len() < MAX_SAMPLES {
            length.first.push((place, run));
        }
    }

    /// The runs of each step.
    pub fn lengths(&self) -> &[Length<T>] {
        &self.lengths
    }

    pub(super) fn steps(&self) -> impl Iterator<Item = i64> + '_ {
        self.lengths.iter().map(|length| length.step)
    }

    /// The commonest step of runs other than `interval`; 0 where there is none.
    pub fn another(&self, interval: i64) -> i64 {
        let others = self.lengths.iter().filter(|length| length.step != interval);
        others.max_by_key(|length| (length.steps, -length.step)).map_or(0, |length| length.step)
    }
}
