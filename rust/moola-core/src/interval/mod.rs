//! The bar interval of a source: one length for all its symbols, told or inferred from all their steps together.
//!
//! A minute without a trade has no bar, so the steps of an illiquid symbol say little about how long its bars are. The steps
//! of all symbols together do: the bar interval divides nearly all of them, and occurs often.
//!
//! Memory is bounded as in [`crate::steps`]: steps that did not fit are counted again from the times in the file.

mod frequent;
mod runs;

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use crate::cancel::Cancel;
use crate::error::Error;
use crate::npy::NpyReader;
use crate::steps::{self, Counted, Counts, Steps, Tally};
use frequent::Frequent;

pub use runs::{Length, RUN, Runs};

/// The bar interval occurs in at least this share of the steps, unless it comes in a run of [`RUN`].
const OFTEN: u64 = 20;
/// Of this many steps one may be no multiple of the bar interval.
const EXCEPT: u64 = 100;
/// Below this many steps each counts, the last ones too.
const FEW: u64 = 20;
/// The most distinct places on the grid that are told apart.
const PLACES: usize = 1 << 16;
const HOUR: i64 = 3_600_000_000_000;

/// How the bar interval is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rule {
    /// One for the source: the largest step that divides at least 99 % of all symbols' steps and occurs often: in 5 % of
    /// them, or 50 times in a row.
    #[default]
    Inferred,
    /// The user has said it, in nanoseconds.
    Told(i64),
    /// Each symbol's commonest step, as in stores before 0.2.0.
    OfEachSymbol,
}

/// Whether a step is a whole number of bar intervals. Bars of four hours and more may keep to a local clock, which is changed
/// by an hour twice a year.
#[inline]
pub fn divides(interval: i64, step: i64) -> bool {
    let rest = step % interval;
    rest == 0 || (step >= interval.saturating_sub(HOUR) && by_the_clock(interval, rest))
}

/// Whether bars that begin `rest` after a multiple of the interval, less than one interval, may keep to a local clock.
fn by_the_clock(interval: i64, rest: i64) -> bool {
    rest == 0 || (interval >= 4 * HOUR && (rest == HOUR || rest == interval - HOUR))
}

/// What was found of the steps of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// The bar interval in nanoseconds; 0 where there is none.
    pub interval: i64,
    /// Whether it divides nearly all steps, so that a bar off its grid stands out.
    pub regular: bool,
    /// How many steps are longer than it, or where there is none, than their symbol's commonest step.
    pub longer: u64,
    /// How many steps are shorter.
    pub shorter: u64,
    /// The longest step.
    pub longest: i64,
    /// Bars that lie elsewhere between the multiples of the bar interval than most.
    pub off_grid: u64,
    /// The commonest steps with their counts, at most three, of the symbols that were counted in memory.
    pub commonest: Vec<(i64, u64)>,
    /// How many steps there are.
    pub steps: u64,
    /// How many bars lie at each place between the multiples of the bar interval.
    places: Counts,
}

impl Survey {
    /// Which of the last bars of symbols, given by time and the step to them, are off the grid of the bars before them and
    /// of all others: a vendor's live row.
    pub fn live(&self, last: &[(i64, i64)]) -> Vec<bool> {
        let place = |time: i64| time.rem_euclid(self.interval);
        let odd =
            |&(_, step): &(i64, i64)| self.regular && self.interval > 0 && !divides(self.interval, step);
        let mut found: HashMap<i64, u64> = HashMap::new();
        for bar in last.iter().filter(|bar| odd(bar)) {
            *found.entry(place(bar.0)).or_insert(0) += 1;
        }
        let alone = |time: i64| self.places.get(&place(time)) <= found.get(&place(time));
        last.iter().map(|bar| odd(bar) && alone(bar.0)).collect()
    }
}

/// The steps of all symbols of a source.
#[derive(Debug, Default)]
pub struct Pool {
    counts: Counts,
    /// The step to the last bar of each symbol. A vendor's live row may stand there.
    last: Counts,
    /// The rows of symbols that are counted in the file.
    large: Vec<Range<u64>>,
    symbols: Vec<Range<u64>>,
}

impl Pool {
    /// Adds a symbol's steps, `None` where they did not fit, and its rows in the file.
    pub fn add(&mut self, counted: Option<Counted>, rows: Range<u64>) {
        self.symbols.push(rows.clone());
        let Some(counted) = counted else {
            self.large.push(rows);
            return;
        };
        if rows.end - rows.start > 1 {
            *self.last.entry(counted.last).or_insert(0) += 1;
        }
        if self.counts.is_empty() {
            self.counts = counted.counts;
        } else {
            for (step, count) in counted.counts {
                *self.counts.entry(step).or_insert(0) += count;
            }
        }
    }

    /// Finds the bar interval, and counts by it. `runs` are the steps that come in runs.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Damaged`] or [`Error::Cancelled`].
    pub fn survey<T>(
        mut self,
        rule: Rule,
        runs: &Runs<T>,
        times: &NpyReader<i64>,
        cancel: &Cancel,
    ) -> Result<Survey, Error> {
        let mut survey = Survey { steps: self.counts.values().sum(), ..Survey::default() };
        for rows in &self.large {
            survey.steps += rows.end - rows.start - 1;
            let mut ends = [0; 2];
            times.read(rows.end - 2, &mut ends)?;
            *self.last.entry(steps::step(ends[0], ends[1])).or_insert(0) += 1;
        }
        let mut candidates = match rule {
            Rule::Told(interval) => vec![interval],
            _ => self.candidates(runs, survey.steps, times, cancel)?,
        };
        candidates.sort_unstable_by(|a, b| b.cmp(a));
        candidates.dedup();
        let misses = self.misses(&candidates, times, cancel)?;
        let lasts: u64 = self.last.values().sum();
        let fits = |at: usize, with_last: bool| {
            let of_last: u64 =
                self.last.iter().filter(|&(&step, _)| !divides(candidates[at], step)).map(|(_, n)| n).sum();
            if with_last {
                misses[at] * EXCEPT <= survey.steps
            } else {
                let others = survey.steps - lasts;
                others >= FEW && (misses[at] - of_last) * EXCEPT <= others
            }
        };
        let fitting =
            [true, false].into_iter().find_map(|last| (0..candidates.len()).find(|&at| fits(at, last)));
        survey.regular = fitting.is_some();
        survey.interval = match rule {
            Rule::Told(interval) => interval,
            _ => fitting.map_or(0, |at| candidates[at]),
        };
        self.count(&mut survey, times, cancel)?;
        Ok(survey)
    }

    /// Steps that may be the bar interval: those that occur often.
    fn candidates<T>(
        &self,
        runs: &Runs<T>,
        total: u64,
        times: &NpyReader<i64>,
        cancel: &Cancel,
    ) -> Result<Vec<i64>, Error> {
        // A step with 1 in OFTEN of all steps has half of that in memory or in the file.
        let mut common: Counts = Counts::default();
        for (&step, &count) in self.counts.iter().filter(|&(_, &count)| count * 2 * OFTEN >= total) {
            common.insert(step, count);
        }
        let mut frequent = Frequent::default();
        self.each_large(times, cancel, |step, run| frequent.add(step, run))?;
        for step in frequent.counters.into_keys().chain(runs.steps()) {
            common.entry(step).or_insert_with(|| self.counts.get(&step).copied().unwrap_or(0));
        }
        self.each_large(times, cancel, |step, run| {
            if let Some(count) = common.get_mut(&step) {
                *count += run;
            }
        })?;
        let in_runs: Vec<i64> = runs.steps().collect();
        let often =
            |&(&step, &count): &(&i64, &u64)| step > 0 && (count * OFTEN >= total || in_runs.contains(&step));
        Ok(common.iter().filter(often).map(|(&step, _)| step).collect())
    }

    /// How many steps each candidate does not divide.
    fn misses(&self, candidates: &[i64], times: &NpyReader<i64>, cancel: &Cancel) -> Result<Vec<u64>, Error> {
        let mut misses = vec![0; candidates.len()];
        let mut take = |step: i64, count: u64| {
            for (&interval, missed) in candidates.iter().zip(&mut misses) {
                if step != interval && !divides(interval, step) {
                    *missed += count;
                }
            }
        };
        self.counts.iter().for_each(|(&step, &count)| take(step, count));
        self.each_large(times, cancel, take)?;
        Ok(misses)
    }

    /// Counts longer and shorter steps, and bars off the grid.
    fn count(&self, survey: &mut Survey, times: &NpyReader<i64>, cancel: &Cancel) -> Result<(), Error> {
        let interval = survey.interval;
        let mut even = self.large.is_empty();
        let mut take = |step: i64, count: u64| {
            survey.longest = survey.longest.max(step);
            if interval > 0 {
                survey.longer += if step > interval { count } else { 0 };
                survey.shorter += if step < interval { count } else { 0 };
                even &= step % interval == 0;
            }
        };
        self.counts.iter().for_each(|(&step, &count)| take(step, count));
        self.each_large(times, cancel, take)?;
        let mut ranked: Vec<(i64, u64)> = self.counts.iter().map(|(&step, &count)| (step, count)).collect();
        ranked.sort_unstable_by_key(|&(step, count)| (std::cmp::Reverse(count), step));
        ranked.truncate(3);
        survey.commonest = ranked;
        if interval == 0 {
            for rows in &self.symbols {
                let steps = steps::recount(times, rows.clone(), cancel)?;
                survey.longer += steps.longer;
                survey.shorter += steps.shorter;
            }
        } else {
            let places = self.places(interval, even, times, cancel)?;
            survey.off_grid = off_grid(interval, &places, self.symbols.iter().map(|r| r.end - r.start).sum());
            survey.places = places;
        }
        Ok(())
    }

    /// How many bars lie at each place between the multiples of the interval, for the first [`PLACES`] of them. `even`: in
    /// each symbol all bars lie at one place.
    fn places(
        &self,
        interval: i64,
        even: bool,
        times: &NpyReader<i64>,
        cancel: &Cancel,
    ) -> Result<Counts, Error> {
        let mut places = Counts::default();
        let mut add = |place: i64, bars: u64| {
            if let Some(count) = places.get_mut(&place) {
                *count += bars;
            } else if places.len() < PLACES {
                places.insert(place, bars);
            }
        };
        for rows in &self.symbols {
            let mut first = [0];
            times.read(rows.start, &mut first)?;
            let mut place = first[0].rem_euclid(interval);
            if even {
                add(place, rows.end - rows.start);
                continue;
            }
            add(place, 1);
            steps::each_run(times, rows.clone(), cancel, |step, run| {
                if step % interval == 0 {
                    add(place, run);
                } else {
                    // Without a sum that may not fit.
                    let back = interval - step.rem_euclid(interval);
                    for _ in 0..run {
                        place = if place >= back { place - back } else { place + (interval - back) };
                        add(place, 1);
                    }
                }
                true
            })?;
        }
        Ok(places)
    }

    /// Calls `take` with every run of one step of the symbols that are counted in the file.
    fn each_large(
        &self,
        times: &NpyReader<i64>,
        cancel: &Cancel,
        mut take: impl FnMut(i64, u64),
    ) -> Result<(), Error> {
        for rows in &self.large {
            steps::each_run(times, rows.clone(), cancel, |step, run| {
                take(step, run);
                true
            })?;
        }
        Ok(())
    }
}

/// Bars that lie elsewhere than most. Those an hour off lie on the grid of a local clock, if bars are long.
fn off_grid(interval: i64, places: &Counts, bars: u64) -> u64 {
    let Some((&most, _)) = places.iter().max_by_key(|&(&place, &count)| (count, -place)) else { return bars };
    let on: u64 = places
        .iter()
        .filter(|&(&place, _)| by_the_clock(interval, (place - most).rem_euclid(interval)))
        .map(|(_, count)| count)
        .sum();
    bars - on
}

/// The steps of a store: its bar interval by `rule`, or every symbol's commonest step with [`Rule::OfEachSymbol`], one
/// [`Survey`] a symbol. Symbol `i` has the rows from `firsts[i]` up to the next symbol's first. The second value is the
/// commonest step of runs other than the bar interval; 0 where there is none.
///
/// # Errors
/// [`Error::Io`], [`Error::Damaged`] or [`Error::Cancelled`].
pub fn of_store(
    path: &Path,
    rows: u64,
    firsts: &[u64],
    rule: Rule,
    cancel: &Cancel,
) -> Result<(Vec<Survey>, i64), Error> {
    let times = NpyReader::open(path, &[rows])?;
    let ends = firsts.iter().skip(1).copied().chain([rows]);
    let symbols: Vec<Range<u64>> = firsts.iter().zip(ends).map(|(&first, end)| first..end).collect();
    if rule == Rule::OfEachSymbol {
        let surveys = symbols
            .into_iter()
            .map(|rows| Ok(by_symbol(&steps::recount(&times, rows, cancel)?)))
            .collect::<Result<Vec<_>, Error>>()?;
        return Ok((surveys, 0));
    }
    let (mut pool, mut runs, mut room) = (Pool::default(), Runs::default(), steps::SHARED);
    for rows in symbols {
        let mut tally = Tally::default();
        steps::each_run(&times, rows.clone(), cancel, |step, run| {
            tally.add_run(step, run, &mut room);
            runs.add((step, run), || ());
            true
        })?;
        pool.add(tally.finish(&mut room), rows);
    }
    let survey = pool.survey(rule, &runs, &times, cancel)?;
    let another = runs.another(survey.interval);
    Ok((vec![survey], another))
}

/// The survey of one symbol on its own.
pub fn by_symbol(steps: &Steps) -> Survey {
    Survey {
        interval: steps.commonest,
        longer: steps.longer,
        shorter: steps.shorter,
        longest: steps.longest,
        ..Survey::default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::npy::NpyWriter;

    fn times_of(symbols: &[Vec<i64>]) -> (Vec<i64>, Vec<u64>) {
        let (mut times, mut firsts) = (Vec::new(), Vec::new());
        for steps in symbols {
            firsts.push(times.len() as u64);
            let mut now = 1_000;
            times.push(now);
            for step in steps {
                now += step;
                times.push(now);
            }
        }
        (times, firsts)
    }

    proptest! {
        #[test]
        fn steps_counted_in_the_file_give_what_those_counted_in_memory_give(
            symbols in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(prop_oneof![6 => Just(60_i64), 1 => Just(120), 1 => 1..400_i64], 1..150),
                    prop::collection::vec(prop_oneof![200 => Just(300_i64), 1 => Just(60)], 1..300),
                    (1..6_i64, 40..70_usize).prop_map(|(step, n)| vec![60 * step; n]),
                ],
                1..4,
            ),
            in_file in prop::collection::vec(any::<bool>(), 4),
            told in prop::option::of(1..100_i64),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("timestamps.npy");
            let (times, firsts) = times_of(&symbols);
            let mut file = NpyWriter::create(&path).unwrap();
            file.append(&times).unwrap();
            let rows = times.len() as u64;
            file.finish(&[rows]).unwrap();
            let (rule, cancel) = (told.map_or(Rule::Inferred, Rule::Told), Cancel::new());
            let (expected, another) = of_store(&path, rows, &firsts, rule, &cancel).unwrap();
            let reader = NpyReader::open(&path, &[rows]).unwrap();
            let (mut pool, mut runs, mut room) = (Pool::default(), Runs::default(), steps::SHARED);
            for (number, own) in symbols.iter().enumerate() {
                let mut tally = Tally::default();
                for &step in own {
                    if let Some(ended) = tally.follow(step, &mut room) {
                        runs.add(ended, || ());
                    }
                }
                runs.add(tally.current(), || ());
                let first = firsts[number];
                let counted = tally.finish(&mut room).filter(|_| !in_file[number]);
                pool.add(counted, first..first + own.len() as u64 + 1);
            }
            let found = pool.survey(rule, &runs, &reader, &cancel).unwrap();
            prop_assert_eq!(runs.another(found.interval), another);
            // The commonest steps are told of those in memory alone.
            let plain = |survey: &Survey| Survey { commonest: Vec::new(), ..survey.clone() };
            prop_assert_eq!(plain(&found), plain(&expected[0]));

            // Bars off the grid, by counting places.
            if found.interval > 0 {
                let mut places: HashMap<i64, u64> = HashMap::new();
                times.iter().for_each(|t| *places.entry(t % found.interval).or_insert(0) += 1);
                let most = places.values().copied().max().unwrap_or(0);
                prop_assert_eq!(found.off_grid, rows - most);
            }
        }
    }

    #[test]
    fn bars_of_a_local_day_keep_to_its_clock() {
        let day = 24 * HOUR;
        for step in [day, day - HOUR, day + HOUR, 3 * day + HOUR] {
            assert!(divides(day, step));
        }
        for step in [HOUR, day / 2, day + 2 * HOUR, day + HOUR / 2] {
            assert!(!divides(day, step));
        }
        assert!(!divides(2 * HOUR, HOUR) && !divides(4 * HOUR, HOUR));
    }
}
