//! Completes the files of an ingest: groups rows by symbol, finds the bar interval, and cuts segments.

use std::fs;

use super::rewrite::{regroup, shift_times};
use super::{Ingest, OddBar, OddSteps, Quality, Row, Segment, Summary, Symbol};
use crate::cancel::Cancel;
use crate::error::Error;
use crate::interval::{self, Pool, Rule, Runs, Survey};
use crate::npy::NpyReader;
use crate::refusals::MAX_SAMPLES;
use crate::steps;

impl Ingest {
    /// Completes the files once [`Ingest::settle`] has been called; `order` lists the symbols' numbers in the order in
    /// which the store has them.
    pub fn finish(mut self, order: &[u32], cancel: &Cancel) -> Result<Summary, Error> {
        if !self.refusals.is_empty() {
            return Err(Error::Bars(self.refusals));
        }
        let (folder, width) = (self.folder, self.options.extra.len() as u64);
        let rows = self.timestamps.len();
        self.bars.finish(&[rows, 4])?;
        self.timestamps.finish(&[rows])?;
        if let Some(file) = self.extra {
            file.finish(&[rows, width])?;
        }
        if let Some(file) = self.codes {
            file.finish(&[rows])?;
        }

        let mut starts = vec![0; self.symbols.len()];
        let mut first_row = 0;
        for &symbol in order {
            let Some(Some(state)) = self.symbols.get(symbol as usize) else { continue };
            starts[symbol as usize] = first_row;
            first_row += state.rows;
        }
        // Symbols without an accepted row are in neither order.
        let has_rows = |symbol: &&u32| self.symbols.get(**symbol as usize).is_some_and(Option::is_some);
        let in_order = !self.interleaved && self.arrived.iter().eq(order.iter().filter(has_rows));
        if !in_order {
            regroup::<f64>(&folder, "bars.npy", rows, Some(4), &starts, cancel)?;
            regroup::<i64>(&folder, "timestamps.npy", rows, None, &starts, cancel)?;
            if width > 0 {
                regroup::<f32>(&folder, "extra.npy", rows, Some(width), &starts, cancel)?;
            }
        }
        let codes = folder.join("codes.npy");
        if codes.exists() {
            fs::remove_file(&codes).map_err(Error::io(&codes))?;
        }

        let times = NpyReader::<i64>::open(folder.join("timestamps.npy"), &[rows])?;
        let rule = self.options.bar_interval;
        let mut symbols = Vec::new();
        let (mut pool, mut each) = (Pool::default(), Vec::new());
        for &symbol in order {
            let Some(mut state) = self.symbols.get_mut(symbol as usize).and_then(Option::take) else {
                continue;
            };
            let first_row = starts[symbol as usize];
            let range = first_row..first_row + state.rows;
            self.runs.add(state.steps.current(), || state.run);
            let last_step = state.steps.current().0;
            let counted = std::mem::take(&mut state.steps).finish(&mut self.room);
            if rule == Rule::OfEachSymbol {
                let steps = match counted {
                    Some(counted) => counted.steps(),
                    None => steps::recount(&times, range, cancel)?,
                };
                each.push(interval::by_symbol(&steps));
            } else {
                pool.add(counted, range);
            }
            symbols.push((first_row, last_step, state));
        }
        let survey = match rule {
            Rule::OfEachSymbol => Survey::default(),
            _ => pool.survey(rule, &self.runs, &times, cancel)?,
        };
        let odd = odd_steps(rule, &survey, &self.runs, &symbols);

        let mut quality = Quality {
            bars: rows,
            bar_interval: survey.interval,
            another_interval: if rule == Rule::OfEachSymbol { 0 } else { self.runs.another(survey.interval) },
            off_grid_bars: survey.off_grid,
            ..self.quality
        };
        for survey in each.iter().chain([&survey]) {
            quality.gaps += survey.longer;
            quality.short_steps += survey.shorter;
            quality.longest_step = quality.longest_step.max(survey.longest);
        }
        let mut segments = Vec::new();
        let mut shifts = Vec::new();
        for (at, (first_row, _, state)) in symbols.iter().enumerate() {
            let bar_interval = each.get(at).unwrap_or(&survey).interval;
            let shift = if self.options.stamped_at_close { bar_interval } else { 0 };
            for &(first, rows, first_timestamp, last_timestamp) in &state.segments {
                segments.push(Segment {
                    symbol: state.last.symbol,
                    first_row: first_row + first,
                    rows,
                    first_timestamp: first_timestamp.saturating_sub(shift),
                    last_timestamp: last_timestamp.saturating_sub(shift),
                    bar_interval,
                });
            }
            shifts.push((*first_row, state.rows, shift));
        }
        if self.options.stamped_at_close {
            shift_times(&folder, rows, &shifts, cancel)?;
        }
        Ok(Summary { segments, quality, odd })
    }
}

/// What the steps of the source rule out. If the user has said how long bars are, runs of other steps are not refused.
fn odd_steps(rule: Rule, survey: &Survey, runs: &Runs<Row>, symbols: &[(u64, i64, Symbol)]) -> OddSteps {
    let mut odd =
        OddSteps { commonest: survey.commonest.clone(), steps: survey.steps, ..OddSteps::default() };
    // Runs of two lengths are bars of two lengths, even where no step divides nearly all others.
    let several = runs.lengths().len() > 1;
    odd.interval = if survey.interval == 0 && several { runs.another(0) } else { survey.interval };
    if rule == Rule::Inferred && odd.interval > 0 {
        for length in runs.lengths().iter().filter(|length| length.step != odd.interval) {
            odd.runs += length.runs;
            odd.first_runs.extend(length.first.iter().map(|(row, run)| odd_bar(row, length.step, *run)));
        }
        odd.first_runs.sort_by_key(|bar| (bar.file, bar.row));
        odd.first_runs.truncate(MAX_SAMPLES);
    }
    if rule != Rule::OfEachSymbol && survey.interval > 0 {
        let last: Vec<(i64, i64)> =
            symbols.iter().map(|(_, step, state)| (state.last.timestamp, *step)).collect();
        for ((_, step, state), live) in symbols.iter().zip(survey.live(&last)) {
            if live && state.rows > 1 {
                odd.live += 1;
                if odd.first_live.len() < MAX_SAMPLES {
                    odd.first_live.push(odd_bar(&state.last, *step, 1));
                }
            }
        }
    }
    odd
}

fn odd_bar(row: &Row, step: i64, steps: u64) -> OddBar {
    let Row { file, row, timestamp, bar, symbol, .. } = *row;
    OddBar { file, row, timestamp, symbol, bar, step, steps }
}
