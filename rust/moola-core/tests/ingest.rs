//! The output of ingest, compared with the same result from plain vectors.

use std::collections::BTreeMap;
use std::path::Path;

use moola_core::ingest::{Batch, Ingest, Options, Segment, Summary};
use moola_core::interval::Rule;
use moola_core::npy::NpyReader;
use moola_core::{Bars, Cancel, Error};
use proptest::prelude::*;

/// One row of a source: symbol, time, price, contract, kept value.
type Row = (u32, i64, f64, i32, f32);

fn push(ingest: &mut Ingest, file: u32, first_row: u64, rows: &[Row]) {
    let column = |f: fn(&Row) -> f64| rows.iter().map(f).collect::<Vec<f64>>();
    let (open, high, low, close) =
        (column(|r| r.2), column(|r| r.2 + 1.0), column(|r| r.2 - 0.5), column(|r| r.2));
    let extra = column(|r| r.4.into());
    let times: Vec<i64> = rows.iter().map(|r| r.1).collect();
    let symbols: Vec<i32> = rows.iter().map(|r| r.0 as i32).collect();
    let contracts: Vec<i32> = rows.iter().map(|r| r.3).collect();
    ingest
        .push(&Batch {
            file,
            first_row,
            rows: None,
            timestamps: &times,
            bars: Bars::new(&open, &high, &low, &close).unwrap(),
            extra: vec![&extra],
            symbols: Some(&symbols),
            contracts: Some(&contracts),
        })
        .unwrap();
}

fn ingest(folder: &Path, options: Options, batches: &[Vec<Row>], order: &[u32]) -> Result<Summary, Error> {
    let mut ingest = Ingest::new(folder, Options { extra: vec!["volume".into()], ..options }).unwrap();
    let mut first = 0;
    for rows in batches {
        push(&mut ingest, 0, first, rows);
        first += rows.len() as u64;
    }
    let cancel = Cancel::new();
    ingest.settle(order, &cancel)?;
    ingest.finish(order, &cancel)
}

/// Times, opens and kept values, as read from the files.
fn files(folder: &Path, rows: u64) -> (Vec<i64>, Vec<f64>, Vec<f32>) {
    let mut times = vec![0; rows as usize];
    NpyReader::open(folder.join("timestamps.npy"), &[rows]).unwrap().read(0, &mut times).unwrap();
    let mut bars = vec![0.0; 4 * rows as usize];
    NpyReader::open(folder.join("bars.npy"), &[rows, 4]).unwrap().read(0, &mut bars).unwrap();
    let mut extra = vec![0.0; rows as usize];
    NpyReader::open(folder.join("extra.npy"), &[rows, 1]).unwrap().read(0, &mut extra).unwrap();
    for bar in bars.chunks_exact(4) {
        assert_eq!((bar[1], bar[2], bar[3]), (bar[0] + 1.0, bar[0] - 0.5, bar[0]));
    }
    (times, bars.chunks_exact(4).map(|bar| bar[0]).collect(), extra)
}

/// Rows of several symbols in batches, each symbol's in order of time.
fn panel() -> impl Strategy<Value = Vec<Vec<Row>>> {
    let row = (0..4_u32, prop::sample::select(vec![60_i64, 60, 60, 120, 7200, 1]), 10.0..100.0_f64, 0..8_u8);
    prop::collection::vec(prop::collection::vec(row, 1..40), 1..6).prop_map(|batches| {
        let mut now = [0_i64; 4];
        let mut contract = [0; 4];
        batches
            .into_iter()
            .map(|rows| {
                rows.into_iter()
                    .map(|(symbol, step, price, roll)| {
                        let s = symbol as usize;
                        now[s] += step;
                        contract[s] += i32::from(roll == 0);
                        (symbol, now[s], price, contract[s], price as f32 * 2.0)
                    })
                    .collect()
            })
            .collect()
    })
}

/// The bar interval of all symbols' steps, as its definition says; 0 where there is none.
fn plain_interval(symbols: &[Vec<i64>]) -> i64 {
    let count = |steps: &[i64], f: &dyn Fn(i64) -> bool| steps.iter().filter(|&&s| f(s)).count();
    let all: Vec<i64> = symbols.concat();
    let mut candidates = all.clone();
    candidates.sort_unstable();
    candidates.dedup();
    candidates.retain(|&c| {
        let run = symbols.iter().any(|own| own.windows(50).any(|w| w.iter().all(|&s| s == c)));
        run || count(&all, &|s| s == c) * 20 >= all.len()
    });
    let others: Vec<i64> =
        symbols.iter().filter_map(|own| own.split_last()).flat_map(|(_, own)| own.to_vec()).collect();
    let fits = |steps: &[i64], c: i64| count(steps, &|s| s % c != 0) * 100 <= steps.len();
    let found = candidates.iter().rev().find(|&&c| fits(&all, c));
    let found = found.or_else(|| candidates.iter().rev().find(|&&c| others.len() >= 20 && fits(&others, c)));
    found.copied().unwrap_or(0)
}

proptest! {
    #[test]
    fn panels_are_grouped_by_symbol_and_cut_into_segments(
        batches in panel(), order in Just(vec![2_u32, 0, 3, 1]).prop_shuffle(), gap in prop::option::of(Just(3600_i64)), close in any::<bool>(), shuffle in any::<bool>(),
        rule in prop::sample::select(vec![Rule::Inferred, Rule::OfEachSymbol, Rule::Told(60)]),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { reset_on_gap: gap, stamped_at_close: close, sort: shuffle, bar_interval: rule, ..Options::default() };
        let mut given = batches.clone();
        if shuffle {
            given.reverse();
            given.iter_mut().for_each(|rows| rows.reverse());
        }
        let summary = ingest(folder.path(), options, &given, &order).unwrap();

        let mut by_symbol: BTreeMap<u32, Vec<Row>> = BTreeMap::new();
        batches.into_iter().flatten().for_each(|row| by_symbol.entry(row.0).or_default().push(row));
        let (mut rows, mut segments, mut gaps) = (Vec::new(), Vec::new(), 0);
        let steps_of = |own: &[Row]| own.windows(2).map(|w| w[1].1 - w[0].1).collect::<Vec<i64>>();
        let of_all = match rule {
            Rule::Told(told) => told,
            _ => plain_interval(&by_symbol.values().map(|own| steps_of(own)).collect::<Vec<_>>()),
        };
        for symbol in &order {
            let Some(own) = by_symbol.get(symbol) else { continue };
            let steps = steps_of(own);
            let count = |step: &i64| steps.iter().filter(|s| *s == step).count();
            let commonest = steps.iter().copied().max_by_key(|s| (count(s), -s)).unwrap_or(0);
            let bar_interval = if rule == Rule::OfEachSymbol { commonest } else { of_all };
            let shift = if close { bar_interval } else { 0 };
            let long = if bar_interval == 0 { commonest } else { bar_interval };
            gaps += steps.iter().filter(|&&s| s > long).count() as u64;
            for (i, row) in own.iter().enumerate() {
                let new = i == 0 || row.3 != own[i - 1].3 || gap.is_some_and(|g| row.1 - own[i - 1].1 > g);
                let time = row.1 - shift;
                if new {
                    let first_row = rows.len() as u64;
                    segments.push(Segment { symbol: *symbol, first_row, rows: 0, first_timestamp: time, last_timestamp: time, bar_interval });
                }
                let segment = segments.last_mut().unwrap();
                segment.rows += 1;
                segment.last_timestamp = time;
                rows.push((time, row.2, row.4));
            }
        }
        prop_assert_eq!(&summary.segments, &segments);
        prop_assert_eq!((summary.quality.bars, summary.quality.gaps), (rows.len() as u64, gaps));
        let (times, opens, extra) = files(folder.path(), rows.len() as u64);
        prop_assert_eq!(times, rows.iter().map(|r| r.0).collect::<Vec<_>>());
        prop_assert_eq!(opens, rows.iter().map(|r| r.1).collect::<Vec<_>>());
        prop_assert_eq!(extra, rows.iter().map(|r| r.2).collect::<Vec<_>>());
        let mut names: Vec<_> = folder.path().read_dir().unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        prop_assert_eq!(names, ["bars.npy", "extra.npy", "timestamps.npy"]);
    }
}

fn one(options: Options, rows: &[Row]) -> Result<Summary, Error> {
    ingest(tempfile::tempdir().unwrap().path(), options, &[rows.to_vec()], &[0, 1])
}

fn faults(outcome: Result<Summary, Error>) -> Vec<(&'static str, u64)> {
    match outcome {
        Err(Error::Bars(refusals)) => refusals.counts().map(|(fault, n)| (fault.name(), n)).collect(),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn order_and_repeats_are_checked_per_symbol() {
    let rows = [(0, 60, 5.0, 0, 1.0), (1, 30, 5.0, 0, 1.0), (0, 120, 5.0, 0, 1.0), (1, 60, 5.0, 0, 1.0)];
    assert_eq!(one(Options::default(), &rows).unwrap().quality.bars, 4);
    let mut bad = rows.to_vec();
    bad.push((1, 60, 5.0, 0, 1.0));
    bad.push((1, 59, 5.0, 0, 1.0));
    assert_eq!(faults(one(Options::default(), &bad)), [("duplicate_timestamp", 1), ("out_of_order", 1)]);
    let sorted = Options { sort: true, ..Options::default() };
    assert_eq!(faults(one(sorted.clone(), &bad)), [("duplicate_timestamp", 1)]);
    let both = Options { dedup_identical: true, ..sorted };
    assert_eq!(one(both, &bad).unwrap().quality.dropped_duplicates, 1);
}

#[test]
fn only_exact_repeats_are_dropped() {
    let dedup = Options { dedup_identical: true, ..Options::default() };
    let row = (0, 60, 5.0, 0, 1.0);
    let summary = one(dedup.clone(), &[row, row, row, (0, 120, 5.0, 0, 1.0)]).unwrap();
    assert_eq!((summary.quality.bars, summary.quality.dropped_duplicates), (2, 2));
    for other in [(0, 60, 5.5, 0, 1.0), (0, 60, 5.0, 1, 1.0), (0, 60, 5.0, 0, 2.0)] {
        assert_eq!(faults(one(dedup.clone(), &[row, other])), [("duplicate_timestamp", 1)]);
    }
}

#[test]
fn bad_values_are_refused_or_dropped_and_counted() {
    let good = (0, 60, 5.0, 0, 1.0);
    let bad = [(0, 120, f64::NAN, 0, 1.0), (0, 180, 5.0, 0, f32::NAN), (0, 240, 5.0, 0, f32::INFINITY)];
    let rows = [&[good], &bad[..], &[(0, 300, 5.0, 0, 1.0)]].concat();
    assert_eq!(faults(one(Options::default(), &rows)), [("not_finite", 1), ("extra_not_finite", 2)]);
    let summary = one(Options { drop_bad_bars: true, ..Options::default() }, &rows).unwrap();
    assert_eq!((summary.quality.bars, summary.quality.dropped_bad_bars), (2, 3));
    // A bar without a time is never dropped. Impossible prices are counted apart: many of them are mixed-up columns.
    let rows = [good, (0, 120, -5.0, 0, 1.0), (0, i64::MIN, 5.0, 0, 1.0)];
    let outcome = one(Options { drop_bad_bars: true, ..Options::default() }, &rows);
    assert_eq!(faults(outcome), [("no_timestamp", 1)]);
    let folder = tempfile::tempdir().unwrap();
    let extra = vec!["volume".into()];
    let options = Options {
        drop_bad_bars: true,
        collect_rejects: true,
        dedup_identical: true,
        extra,
        ..Options::default()
    };
    let mut ingest = Ingest::new(folder.path(), options).unwrap();
    push(
        &mut ingest,
        0,
        0,
        &[(0, 30, -5.0, 0, 1.0), (0, 40, f64::NAN, 0, 1.0), good, good, (0, 240, 5.0, 0, 1.0)],
    );
    let impossible: Vec<_> = ingest.impossible().counts().map(|(fault, n)| (fault.name(), n)).collect();
    assert_eq!(impossible, [("out_of_range", 1)]);
    let rejects: Vec<_> = ingest.take_rejects().iter().map(|s| (s.fault.name(), s.row)).collect();
    assert_eq!(rejects, [("out_of_range", 0), ("not_finite", 1), ("duplicate_timestamp", 3)]);
    assert!(ingest.take_rejects().is_empty());
}

#[test]
fn samples_name_the_file_and_the_row() {
    let folder = tempfile::tempdir().unwrap();
    let mut ingest =
        Ingest::new(folder.path(), Options { extra: vec!["volume".into()], ..Options::default() }).unwrap();
    push(&mut ingest, 0, 0, &[(0, 60, 5.0, 0, 1.0)]);
    push(&mut ingest, 3, 100, &[(0, 120, 5.0, 0, 1.0), (0, 180, f64::INFINITY, 0, 1.0)]);
    let sample = ingest.refusals().samples()[0];
    assert_eq!((sample.file, sample.row, sample.timestamp, sample.symbol), (3, 101, Some(180), Some(0)));
    assert_eq!((sample.column.as_str(), sample.value), ("open", f64::INFINITY));
}

#[test]
fn unusual_bars_are_counted() {
    let rows = [
        (0, 60, 5.0, 0, 1.0),
        (0, 120, 8.0, 0, 1.0),
        (0, 180, 8.0, 0, 1.0),
        (0, 400, 8.0, 0, 1.0),
        (0, 430, 8.0, 0, 1.0),
        (0, 490, 3.9, 0, 1.0),
    ];
    let told = Options { reset_on_gap: Some(200), bar_interval: Rule::Told(60), ..Options::default() };
    let quality = one(told, &rows).unwrap().quality;
    assert_eq!((quality.jumps, quality.gaps, quality.short_steps, quality.longest_step), (2, 1, 1, 220));
    assert_eq!((quality.segments_from_gaps, quality.segments_from_contracts), (1, 0));
    // 60, 120, 180 lie on one place of the minute, 400 on another, 430 and 490 on a third.
    assert_eq!((quality.bar_interval, quality.another_interval, quality.off_grid_bars), (60, 0, 3));
}

/// Bars of one symbol that begin at 0, at these steps.
fn at_steps(symbol: u32, steps: &[i64]) -> Vec<Row> {
    let mut now = 0;
    let times = std::iter::once(0).chain(steps.iter().map(|step| {
        now += step;
        now
    }));
    times.map(|time| (symbol, time, 5.0, 0, 1.0)).collect()
}

#[test]
fn a_run_of_another_length_is_named_by_its_first_bar() {
    let (short, long) =
        ([vec![60; 80], vec![300; 50]].concat(), [vec![60; 80], vec![300; 49], vec![60]].concat());
    let odd = one(Options::default(), &at_steps(0, &short)).unwrap().odd;
    assert_eq!((odd.interval, odd.runs, odd.live), (60, 1, 0));
    let first = odd.first_runs[0];
    assert_eq!((first.row, first.timestamp, first.step, first.steps), (81, 80 * 60 + 300, 300, 50));
    assert_eq!(one(Options::default(), &at_steps(0, &long)).unwrap().odd.runs, 0);
    let told =
        one(Options { bar_interval: Rule::Told(60), ..Options::default() }, &at_steps(0, &short)).unwrap();
    assert_eq!((told.odd.runs, told.quality.another_interval), (0, 300));
    // Where no step divides the others, the commonest of two runs is what bars should have.
    let neither = [vec![70; 60], vec![90; 50]].concat();
    let odd = one(Options::default(), &at_steps(0, &neither)).unwrap().odd;
    assert_eq!((odd.interval, odd.runs, odd.first_runs[0].row), (70, 1, 61));
}

#[test]
fn a_last_bar_off_the_grid_is_named_and_others_are_counted() {
    let steps = [vec![60; 120], vec![37]].concat();
    let odd = one(Options::default(), &at_steps(0, &steps)).unwrap().odd;
    assert_eq!((odd.interval, odd.live, odd.first_live[0].row, odd.first_live[0].step), (60, 1, 121, 37));
    // Not where the bars before it lie there too.
    for steps in [[vec![60; 120], vec![37], vec![60; 5]].concat(), [vec![60; 10], vec![37]].concat()] {
        let summary = one(Options::default(), &at_steps(0, &steps)).unwrap();
        assert_eq!(summary.odd.live, 0, "{steps:?}");
    }
    let steps = [vec![60; 120], vec![37], vec![60; 5]].concat();
    assert_eq!(one(Options::default(), &at_steps(0, &steps)).unwrap().quality.off_grid_bars, 6);
}

#[test]
fn closes_just_before_the_full_minute_mean_it() {
    const MINUTE: i64 = 60_000_000_000;
    for before in [1, 1_000, 1_000_000] {
        let rows: Vec<Row> = (1..9).map(|i| (0, i * MINUTE - before, 5.0, 0, 1.0)).collect();
        for (stamped_at_close, first) in [(true, 0), (false, MINUTE - before)] {
            let summary = one(Options { stamped_at_close, ..Options::default() }, &rows).unwrap();
            assert_eq!(summary.segments[0].first_timestamp, first);
        }
    }
    let rows: Vec<Row> = (1..9).map(|i| (0, i * MINUTE - 2_000_000, 5.0, 0, 1.0)).collect();
    let summary = one(Options { stamped_at_close: true, ..Options::default() }, &rows).unwrap();
    assert_eq!(summary.segments[0].first_timestamp, -2_000_000);
}
