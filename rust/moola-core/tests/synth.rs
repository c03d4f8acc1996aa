//! The sample market: its bytes, its calendar, and the market properties that features depend on.

use chrono::{DateTime, Utc};
use moola_core::synth::{Context, Expansion, LEAD, SESSION, SampleBar, SampleMarket, TICK, WINDOW};
use proptest::prelude::*;

const MINUTE: i64 = 60_000_000_000;
const YEAR: usize = 52 * 5 * SESSION;

fn run(seed: u64, symbol: u32, expansions: bool, bars: usize) -> (Vec<SampleBar>, Vec<Expansion>) {
    let mut market = SampleMarket::new(seed, symbol, expansions);
    let bars = market.by_ref().take(bars).collect();
    (bars, market.take_expansions())
}

fn utc(timestamp: i64) -> String {
    DateTime::<Utc>::from_timestamp_nanos(timestamp).naive_utc().to_string()
}

fn hash(bars: &[SampleBar], expansions: &[Expansion]) -> String {
    let mut hasher = blake3::Hasher::new();
    for SampleBar { timestamp, bar, volume } in bars {
        hasher.update(&timestamp.to_le_bytes());
        for price in [bar.open, bar.high, bar.low, bar.close] {
            hasher.update(&price.to_le_bytes());
        }
        hasher.update(&volume.to_le_bytes());
    }
    for e in expansions {
        hasher.update(e.context.name().as_bytes());
        for time in [e.window_end, e.start, e.end] {
            hasher.update(&time.to_le_bytes());
        }
    }
    hasher.finalize().to_hex().to_string()
}

/// One-minute returns in basis points; 0 where two bars are not one minute apart.
fn returns(bars: &[SampleBar]) -> Vec<f64> {
    bars.windows(2)
        .map(|w| {
            if w[1].timestamp - w[0].timestamp == MINUTE {
                w[1].bar.close / w[0].bar.close - 1.0
            } else {
                0.0
            }
        })
        .map(|r| r * 1e4)
        .collect()
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0), |(sum, n), x| (sum + x, n + 1));
    sum / f64::from(n)
}

fn autocorrelation(x: &[f64], lag: usize) -> f64 {
    let m = mean(x.iter().copied());
    let products = x.iter().zip(&x[lag..]).map(|(a, b)| (a - m) * (b - m));
    mean(products) / mean(x.iter().map(|a| (a - m) * (a - m)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_bar_is_sound_on_the_grid_and_later_than_the_last(seed: u64, symbol: u32, expansions: bool) {
        let (bars, _) = run(seed, symbol, expansions, 20_000);
        for SampleBar { bar, volume, .. } in &bars {
            prop_assert!(bar.is_sound(), "{bar:?}");
            for price in [bar.open, bar.high, bar.low, bar.close] {
                prop_assert_eq!(price % TICK, 0.0);
                prop_assert!((500.0..20_000.0).contains(&price), "{}", price);
            }
            prop_assert!(*volume >= 1);
        }
        for pair in bars.windows(2) {
            prop_assert!(pair[0].timestamp < pair[1].timestamp);
            prop_assert_eq!(pair[1].timestamp % MINUTE, 0);
        }
    }

    #[test]
    fn a_shorter_run_begins_a_longer_one(seed: u64, expansions: bool, cut in 1usize..15_000) {
        let (long, all) = run(seed, 3, expansions, 15_000);
        let (short, some) = run(seed, 3, expansions, cut);
        prop_assert_eq!(&long[..cut], &short[..]);
        let last = short[cut - 1].timestamp;
        let ended: Vec<_> = all.into_iter().filter(|e| e.window_end <= last).collect();
        prop_assert_eq!(ended, some);
    }

    #[test]
    fn an_expansion_and_its_context_lie_in_a_window_of_one_session(seed: u64) {
        let (bars, expansions) = run(seed, 0, true, 60_000);
        prop_assert!((8..=36).contains(&expansions.len()), "{} in 60,000 bars", expansions.len());
        let row = |time| bars.binary_search_by_key(&time, |b| b.timestamp).expect("the time of a bar");
        let mut free = 0;
        for e in &expansions {
            let (last, start, end) = (row(e.window_end), row(e.start), row(e.end));
            let first = last + 1 - WINDOW;
            prop_assert!(first >= free, "windows must not overlap");
            free = last + 1;
            prop_assert!((6..=30).contains(&(end + 1 - start)));
            // The window holds at least the shortest context, and features warm up on the bars before it.
            prop_assert!(start >= first + 17 && end <= last && first >= LEAD);
            let span = e.window_end - bars[first - LEAD].timestamp;
            prop_assert!(span < 1380 * MINUTE, "the window and its lead straddle the break");
        }
    }
}

#[test]
fn the_bytes_are_pinned() {
    let (bars, expansions) = run(17, 0, true, 20_000);
    assert_eq!(hash(&bars, &expansions), "cc236f88411f080b03070e8a897291de704af7bacd8019922881a4029a74499b");
    let (bars, _) = run(u64::MAX, 2, false, 20_000);
    assert_eq!(hash(&bars, &[]), "071e65ff978646776982da2daffb42fb5d5b906281e9ba1075c4f31001a92723");
}

#[test]
fn seeds_and_symbols_differ() {
    let closes =
        |seed, symbol| run(seed, symbol, false, 500).0.iter().map(|b| b.bar.close).collect::<Vec<_>>();
    let runs = [closes(1, 0), closes(2, 0), closes(1, 1), closes(1 << 40, 0)];
    for (i, a) in runs.iter().enumerate() {
        for b in &runs[..i] {
            assert_ne!(a, b);
        }
    }
}

#[test]
fn the_default_run_ends_in_june_2025() {
    let last = SampleMarket::new(17, 0, false).nth(1_818_449).unwrap();
    assert_eq!(&utc(last.timestamp)[..10], "2025-06-30");
}

#[test]
fn trading_keeps_chicago_hours_through_both_clock_changes() {
    let (bars, _) = run(17, 0, false, 2 * YEAR);
    assert_eq!(utc(bars[0].timestamp), "2020-06-07 22:00:00");
    let breaks: Vec<_> = bars
        .windows(2)
        .filter(|w| w[1].timestamp - w[0].timestamp > 55 * MINUTE)
        .map(|w| (utc(w[0].timestamp + MINUTE), utc(w[1].timestamp)))
        .collect();
    let opens: Vec<_> = breaks.iter().map(|(_, open)| open.as_str()).collect();
    for (open, there) in [
        ("2020-06-08 22:00:00", true),
        ("2020-06-12 22:00:00", false), // a Friday
        ("2020-06-14 22:00:00", true),
        ("2020-10-29 22:00:00", true),
        ("2020-11-01 23:00:00", true), // clocks went back that morning
        ("2021-03-11 23:00:00", true),
        ("2021-03-14 22:00:00", true), // clocks went forward that morning
        ("2021-11-04 22:00:00", true),
        ("2021-11-07 23:00:00", true),
        ("2022-03-13 22:00:00", true),
    ] {
        assert_eq!(opens.contains(&open), there, "{open}");
    }
    // At most the last few minutes of a session are missing.
    let on_time =
        breaks.iter().filter(|(close, _)| close.ends_with("21:00:00") || close.ends_with("22:00:00"));
    assert!(on_time.count() * 100 >= breaks.len() * 98, "sessions end at 16:00");
    let weekends = bars.windows(2).filter(|w| w[1].timestamp - w[0].timestamp > 40 * 60 * MINUTE).count();
    assert_eq!(weekends, bars.len() / (5 * SESSION));
}

#[test]
fn a_few_minutes_are_missing() {
    let (bars, _) = run(17, 0, false, YEAR);
    let steps = bars.windows(2).map(|w| (w[1].timestamp - w[0].timestamp) / MINUTE);
    let missing: i64 = steps.filter(|&step| step < 55).map(|step| step - 1).sum();
    let share = missing as f64 / YEAR as f64;
    assert!((0.0015..0.0035).contains(&share), "{share}");
}

#[test]
fn volatility_clusters_and_returns_do_not() {
    for seed in [17, 18] {
        let returns = returns(&run(seed, 0, false, YEAR).0);
        let sizes: Vec<_> = returns.iter().map(|r| r.abs()).collect();
        assert!(autocorrelation(&sizes, 1) > 0.2);
        assert!(autocorrelation(&sizes, 60) > 0.1);
        assert!(autocorrelation(&returns, 1).abs() < 0.05);
    }
}

#[test]
fn volatility_and_volume_follow_the_time_of_day() {
    let (bars, _) = run(17, 0, false, YEAR);
    let open = |bar: &&SampleBar| (bar.timestamp / MINUTE + 1440) % 1440;
    // Chicago is five or six hours behind UTC; these hours lie inside the phase in summer and in winter.
    let phase = |from: i64, to: i64| {
        let inside = bars.iter().filter(move |bar| (from * 60..to * 60).contains(&open(bar)));
        let range = mean(inside.clone().map(|b| (b.bar.high - b.bar.low) / b.bar.close * 1e4));
        (range, mean(inside.map(|b| b.volume as f64)))
    };
    let (asia, europe, lunch, stocks) = (phase(1, 6), phase(8, 11), phase(17, 19), phase(14, 16));
    assert!(asia.0 * 1.2 < europe.0 && europe.0 * 1.2 < lunch.0 && lunch.0 * 1.2 < stocks.0);
    assert!(asia.1 * 1.5 < europe.1 && europe.1 * 1.5 < lunch.1 && lunch.1 * 1.5 < stocks.1);
}

#[test]
fn some_bars_have_no_range() {
    for seed in [17, 18, 19] {
        let (bars, _) = run(seed, 0, false, YEAR);
        let flat = bars.iter().filter(|b| b.bar.high == b.bar.low).count() as f64 / YEAR as f64;
        assert!((0.002..0.08).contains(&flat), "{flat}");
    }
}

#[test]
fn the_price_stays_near_its_level() {
    for symbol in 0..4 {
        let closes = SampleMarket::new(5, symbol, false).take(4 * YEAR).map(|b| b.bar.close);
        let (low, high) = closes.fold((f64::MAX, 0.0f64), |(low, high), c| (low.min(c), high.max(c)));
        assert!(low > 1000.0 && high < 16_000.0 && high / low > 1.2, "{low} to {high}");
    }
}

#[test]
fn expansions_are_surges_after_the_context_of_their_class() {
    let (bars, expansions) = run(17, 0, true, 2 * YEAR);
    let row = |time| bars.binary_search_by_key(&time, |b| b.timestamp).unwrap();
    let move_of = |from: usize, to: usize| bars[to].bar.close - bars[from].bar.open;
    let (mut surges, mut quiet, mut against) = (Vec::new(), Vec::new(), Vec::new());
    let mut offsets = Vec::new();
    for e in &expansions {
        let (start, end) = (row(e.start), row(e.end));
        offsets.push(row(e.window_end) - end);
        let surge = move_of(start, end);
        let path: f64 = (start..=end).map(|i| (bars[i].bar.close - bars[i].bar.open).abs()).sum();
        surges.push(surge.abs() / path.max(TICK));
        // Every context lasts at least seven bars before the surge, and a consolidation at least 24.
        match e.context {
            Context::Consolidation => {
                quiet.push(move_of(start - 24, start - 1).abs() / surge.abs().max(TICK))
            }
            Context::Retracement => against.push(move_of(start - 7, start - 1) * surge.signum()),
        }
    }
    assert!(mean(surges.into_iter()) > 0.85, "most of a surge's path is its move");
    assert!(mean(quiet.iter().copied()) < 0.35, "a consolidation goes nowhere");
    let negative = against.iter().filter(|&&x| x < 0.0).count();
    assert!(negative * 100 > against.len() * 85, "a retracement goes against the surge");
    let (a, b) = (quiet.len(), against.len());
    assert!(a.min(b) * 10 > (a + b) * 4, "classes are even: {a} and {b}");
    assert!(offsets.contains(&0) && offsets.iter().any(|&x| x > 40), "spans lie anywhere");
}
