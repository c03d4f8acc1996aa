//! The steps of a symbol: the times between its consecutive bars. [`crate::interval`] finds the bar interval from them.
//!
//! Nearly all steps of ordinary bars are the same, so a count for each distinct step is small. Bars at
//! irregular times may have as many distinct steps as bars. So [`Tally`] counts while bars come in, within a
//! budget that all symbols share. If a symbol's steps do not fit, [`recount`] counts them again from its
//! times in the file. Both are exact.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;

use crate::cancel::Cancel;
use crate::error::Error;
use crate::npy::NpyReader;

/// Distinct steps that each symbol may always count.
pub const OWN: usize = 16;
/// Distinct steps that all symbols together may count in addition.
pub const SHARED: usize = 1 << 16;
/// Distinct steps that are counted in one pass over the file.
pub const PASS: usize = 1 << 19;
/// Times that are read at once.
const CHUNK: u64 = 1 << 16;

/// How often each step occurs.
pub(crate) type Counts = HashMap<i64, u64, BuildHasherDefault<StepHasher>>;

/// Several times as fast as the standard library's hasher. The standard hasher resists crafted input. Here
/// crafted bars can make counting slow, but do no other harm.
#[derive(Clone, Debug, Default)]
pub(crate) struct StepHasher(u64);

impl Hasher for StepHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(self.0 ^ u64::from(byte)));
    }

    fn write_i64(&mut self, step: i64) {
        self.write_u64(step as u64);
    }

    fn write_u64(&mut self, step: u64) {
        // Use both halves of the product: steps are multiples of a minute, so their lowest bits are all the
        // same.
        let product = u128::from(step) * u128::from(SPREAD);
        self.0 = product as u64 ^ (product >> 64) as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// 2⁶⁴ divided by the golden ratio: products with it are spread evenly.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// A summary of a symbol's steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// The commonest step, the smallest on ties; 0 for fewer than two bars.
    pub commonest: i64,
    /// How many steps are longer than the commonest.
    pub longer: u64,
    /// How many are shorter.
    pub shorter: u64,
    /// The longest step.
    pub longest: i64,
}

impl Steps {
    pub(crate) fn of(counts: &Counts) -> Steps {
        let (commonest, _) = commonest(counts).unwrap_or_default();
        let mut steps = Steps { commonest, ..Steps::default() };
        for (&step, &count) in counts {
            steps.add(step, count);
        }
        steps
    }

    /// Adds a step that occurs `count` times. The commonest step must be set.
    fn add(&mut self, step: i64, count: u64) {
        self.longer += if step > self.commonest { count } else { 0 };
        self.shorter += if step < self.commonest { count } else { 0 };
        self.longest = self.longest.max(step);
    }
}

/// The commonest step, the smallest on ties, and how often it occurs.
fn commonest(counts: &Counts) -> Option<(i64, u64)> {
    counts.iter().map(|(&step, &count)| (step, count)).max_by_key(|&(step, count)| (count, Reverse(step)))
}

/// The step from one time to a later one, in nanoseconds, limited to the range of int64.
#[inline]
pub fn step(before: i64, time: i64) -> i64 {
    time.saturating_sub(before)
}

/// Counts each step of a symbol while its bars come in.
#[derive(Debug, Default)]
pub struct Tally {
    counts: Counts,
    current: i64,
    run: u64,
    overflowed: bool,
}

/// The steps of a symbol that fit into its [`Tally`].
#[derive(Debug, Default)]
pub struct Counted {
    pub(crate) counts: Counts,
    /// The step to the symbol's last bar.
    pub(crate) last: i64,
}

impl Counted {
    /// The steps, measured by the commonest of them.
    pub fn steps(&self) -> Steps {
        Steps::of(&self.counts)
    }
}

impl Tally {
    /// Counts a step. `room` is the unused part of [`SHARED`].
    #[inline]
    pub fn add(&mut self, step: i64, room: &mut usize) {
        if step != self.current {
            self.turn(step, room);
        }
        self.run += 1;
    }

    /// Counts a step, as [`Tally::add`] does. Where it differs from the step before it, returns the run that ends here: its
    /// step and its length, 0 for the first step of all.
    #[inline]
    pub fn follow(&mut self, step: i64, room: &mut usize) -> Option<(i64, u64)> {
        let ended = if step != self.current { Some(self.turn(step, room)) } else { None };
        self.run += 1;
        ended
    }

    /// Counts a whole run of one step.
    pub fn add_run(&mut self, step: i64, run: u64, room: &mut usize) {
        if step != self.current {
            self.turn(step, room);
        }
        self.run += run;
    }

    /// The run of equal steps that has not ended: the step and how often it came.
    pub fn current(&self) -> (i64, u64) {
        (self.current, self.run)
    }

    fn turn(&mut self, step: i64, room: &mut usize) -> (i64, u64) {
        let ended = (self.current, self.run);
        self.flush(room);
        self.current = step;
        ended
    }

    fn flush(&mut self, room: &mut usize) {
        let run = std::mem::take(&mut self.run);
        if run == 0 || self.overflowed {
            return;
        }
        if let Some(count) = self.counts.get_mut(&self.current) {
            *count += run;
        } else if self.counts.len() < OWN || *room > 0 {
            *room -= usize::from(self.counts.len() >= OWN);
            self.counts.insert(self.current, run);
        } else {
            *room += self.counts.len().saturating_sub(OWN);
            self.counts = Counts::default();
            self.overflowed = true;
        }
    }

    /// The steps, or `None` if they did not fit and must be [counted again](recount).
    pub fn finish(mut self, room: &mut usize) -> Option<Counted> {
        self.flush(room);
        (!self.overflowed).then_some(Counted { counts: self.counts, last: self.current })
    }

    /// How many distinct steps are held.
    pub fn held(&self) -> usize {
        self.counts.len()
    }
}

/// The steps between the times of a range of rows, which ascend. At most [`PASS`] distinct steps are held at
/// once. If there are more, each pass over the rows counts the steps in one part of the range of hashes. Time
/// grows with the number of passes, about the number of distinct steps divided by [`PASS`].
///
/// # Errors
/// [`Error::Io`], [`Error::Damaged`] or [`Error::Cancelled`].
pub fn recount(times: &NpyReader<i64>, rows: Range<u64>, cancel: &Cancel) -> Result<Steps, Error> {
    recount_within(PASS, times, rows, cancel)
}

/// [`recount`] with at most `most` distinct steps held at once.
fn recount_within(
    most: usize,
    times: &NpyReader<i64>,
    rows: Range<u64>,
    cancel: &Cancel,
) -> Result<Steps, Error> {
    let total = rows.end - rows.start;
    let mut best: Option<(i64, u64)> = None;
    let mut counts = Counts::default();
    let mut parts = vec![Part { bits: 0, number: 0 }];
    while let Some(part) = parts.pop() {
        counts.clear();
        let read = each_run(times, rows.clone(), cancel, |step, run| {
            if part.has(step) {
                *counts.entry(step).or_insert(0) += run;
            }
            counts.len() <= most
        })?;
        if read < total {
            // An early stop means that more parts are needed, but later rows may have few new steps.
            parts.extend(part.split(if read < total / 4 { 2 } else { 1 }));
            continue;
        }
        if part.bits == 0 {
            return Ok(Steps::of(&counts));
        }
        if let Some((step, count)) = commonest(&counts)
            && best.is_none_or(|(other, most)| (count, Reverse(step)) > (most, Reverse(other)))
        {
            best = Some((step, count));
        }
    }
    let mut steps = Steps { commonest: best.unwrap_or_default().0, ..Steps::default() };
    each_run(times, rows, cancel, |step, run| {
        steps.add(step, run);
        true
    })?;
    Ok(steps)
}

/// The steps whose hashes begin with these bits.
#[derive(Clone, Copy)]
struct Part {
    bits: u32,
    number: u64,
}

impl Part {
    #[inline]
    fn has(self, step: i64) -> bool {
        let hash = (step as u64).wrapping_mul(SPREAD);
        hash.checked_shr(64 - self.bits).unwrap_or(0) == self.number
    }

    fn split(self, bits: u32) -> impl Iterator<Item = Part> {
        (0..1 << bits).map(move |part| Part { bits: self.bits + bits, number: (self.number << bits) | part })
    }
}

/// Calls `take` with every run of one step and its length, until it returns false. Returns the number of rows
/// read: all, unless it was stopped.
pub(crate) fn each_run(
    times: &NpyReader<i64>,
    rows: Range<u64>,
    cancel: &Cancel,
    mut take: impl FnMut(i64, u64) -> bool,
) -> Result<u64, Error> {
    let (mut before, mut current, mut run) = (None, 0, 0);
    let mut buffer = vec![0; CHUNK.min(rows.end - rows.start) as usize];
    let mut first = rows.start;
    while first < rows.end {
        cancel.check()?;
        let chunk = &mut buffer[..CHUNK.min(rows.end - first) as usize];
        times.read(first, chunk)?;
        for &time in &*chunk {
            if let Some(before) = before {
                let step = step(before, time);
                if step != current {
                    if run > 0 && !take(current, run) {
                        return Ok(first - rows.start);
                    }
                    (current, run) = (step, 0);
                }
                run += 1;
            }
            before = Some(time);
        }
        first += chunk.len() as u64;
    }
    let all = rows.end - rows.start;
    Ok(if run == 0 || take(current, run) { all } else { all - 1 })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::npy::NpyWriter;

    /// The same, by counting each step among all steps.
    fn plainly(steps: &[i64]) -> Steps {
        let count = |step: i64| steps.iter().filter(|&&s| s == step).count();
        let commonest = steps.iter().copied().max_by_key(|&s| (count(s), -s)).unwrap_or(0);
        Steps {
            commonest,
            longer: steps.iter().filter(|&&s| s > commonest).count() as u64,
            shorter: steps.iter().filter(|&&s| s < commonest).count() as u64,
            longest: steps.iter().copied().max().unwrap_or(0),
        }
    }

    proptest! {
        #[test]
        fn steps_do_not_depend_on_the_memory_limit(
            steps in prop::collection::vec(prop_oneof![1..6_i64, Just(60_000_000_000), 1..400_i64], 0..400),
            most in 1..50_usize,
            before in 0..3_usize,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("timestamps.npy");
            let mut times = vec![7; before];
            times.push(100);
            for step in &steps {
                times.push(times[times.len() - 1] + step);
            }
            let mut file = NpyWriter::create(&path).unwrap();
            file.append(&times).unwrap();
            let rows = times.len() as u64;
            file.finish(&[rows]).unwrap();
            let reader = NpyReader::open(&path, &[rows]).unwrap();
            let range = before as u64..rows;
            let expected = plainly(&steps);
            prop_assert_eq!(recount_within(most, &reader, range.clone(), &Cancel::new()).unwrap(), expected);
            prop_assert_eq!(recount(&reader, range, &Cancel::new()).unwrap(), expected);

            let (mut tally, mut room) = (Tally::default(), most);
            steps.iter().for_each(|&step| tally.add(step, &mut room));
            let distinct = steps.iter().collect::<std::collections::HashSet<_>>().len();
            match tally.finish(&mut room) {
                Some(found) => {
                    prop_assert_eq!(found.steps(), expected);
                    prop_assert_eq!(found.last, steps.last().copied().unwrap_or(0));
                    prop_assert!(distinct <= OWN + most);
                }
                None => {
                    prop_assert!(distinct > OWN + most);
                    prop_assert_eq!(room, most);
                }
            }
        }
    }

    #[test]
    fn a_tally_holds_no_more_than_its_room() {
        let mut room = 100;
        let mut tallies: [Tally; 5] = Default::default();
        for step in 1..100_000 {
            for tally in &mut tallies {
                tally.add(step, &mut room);
            }
            assert!(tallies.iter().map(Tally::held).sum::<usize>() <= 5 * OWN + 100);
        }
        assert_eq!(room, 100, "a symbol that does not fit returns its room");
    }
}
