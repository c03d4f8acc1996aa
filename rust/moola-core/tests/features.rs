//! The properties that the feature sets promise: they are causal, have the same bits in batch, stream and
//! restart and at every vector width, are scale invariant and bounded, and their swings are real. The oracle
//! at the end follows the specification literally, with no state shared between bars.

use moola_core::features::atr::Atr;
use moola_core::features::swings::{Swings, swings};
use moola_core::features::zigzag::{Leg, Zigzag, least_move};
use moola_core::features::{Engine, FeatureSet, Level, Parameters, Stream, compute};
use moola_core::{Bar, Bars, Cancel, Error, Prices};
use proptest::prelude::*;

/// Columns that own their prices.
#[derive(Clone, Debug, Default, PartialEq)]
struct Columns([Vec<f64>; 4]);

impl Columns {
    fn push(&mut self, bar: Bar) {
        for (column, x) in self.0.iter_mut().zip([bar.open, bar.high, bar.low, bar.close]) {
            column.push(x);
        }
    }

    fn bars(&self) -> Bars<'_> {
        Bars::new(&self.0[0], &self.0[1], &self.0[2], &self.0[3]).unwrap()
    }

    fn scaled(&self, s: f64) -> Columns {
        Columns(self.0.clone().map(|column| column.into_iter().map(|x| x * s).collect()))
    }

    fn head(&self, n: usize) -> Columns {
        Columns(self.0.clone().map(|column| column[..n].to_vec()))
    }
}

fn run(set: FeatureSet, parameters: Parameters, columns: &Columns) -> Vec<f32> {
    at_level(set, parameters, columns, Level::best())
}

fn at_level(set: FeatureSet, parameters: Parameters, columns: &Columns, level: Level) -> Vec<f32> {
    let mut engine = Engine::at_level(set, parameters, level).unwrap();
    let mut out = vec![f32::NAN; columns.bars().len() * set.width()];
    compute(&mut engine, columns.bars(), &mut out, &Cancel::new()).unwrap();
    out
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Bars on a tick grid, like those of markets: steps of a few ticks, flat stretches, gaps between bars. The
/// grid is no finer than 1e-6 of the price; scale invariance is promised up to there.
fn on_a_grid() -> impl Strategy<Value = Columns> {
    let step = (-6_i64..=6, 0_i64..4, 0_i64..4, 0..10_u8, -4_i64..=4);
    (prop::collection::vec(step, 2..1500), prop::sample::select(vec![0.25, 0.01, 1e-5, 1.0, 0.05])).prop_map(
        |(steps, tick)| {
            let mut columns = Columns::default();
            let mut close = 100_000_i64;
            for (body, up, down, kind, jump) in steps {
                let open = close + if kind == 0 { jump } else { 0 };
                // One bar in five is flat.
                let flat = kind >= 8;
                close = if flat { open } else { open + body };
                let (high, low) =
                    if flat { (open, open) } else { (open.max(close) + up, open.min(close) - down) };
                let price = |ticks: i64| ticks as f64 * tick;
                columns.push(Bar {
                    open: price(open),
                    high: price(high),
                    low: price(low),
                    close: price(close),
                });
            }
            columns
        },
    )
}

/// Any bars that validation accepts, extreme ones included.
fn anything_sound() -> impl Strategy<Value = Columns> {
    let price = prop_oneof![1.2e-38..3.4e38_f64, 1.0..2.0_f64, Just(1.2e-38), Just(3.4e38), 1e-30..1e30_f64];
    let bar = (price.clone(), price, 0.0..=1.0_f64, 0.0..=1.0_f64, prop::bool::weighted(0.2)).prop_map(
        |(a, b, s, t, flat)| {
            let (low, high) = if flat { (a, a) } else { (a.min(b), a.max(b)) };
            let between = |s: f64| (low + s * (high - low)).clamp(low, high);
            Bar { open: between(s), high, low, close: between(t) }
        },
    );
    prop::collection::vec(bar, 1..900).prop_map(|bars| {
        let mut columns = Columns::default();
        bars.into_iter().for_each(|bar| columns.push(bar));
        columns
    })
}

fn any_bars() -> impl Strategy<Value = Columns> {
    prop_oneof![on_a_grid(), anything_sound()]
}

fn any_set() -> impl Strategy<Value = FeatureSet> {
    prop::sample::select(FeatureSet::ALL.to_vec())
}

fn any_parameters() -> impl Strategy<Value = Parameters> {
    let random = (1..60_u32, 1..40_u32, 0.1..5.0_f64, 1.0..500.0_f64, 1..400_u32, 0..200_u32).prop_map(
        |(range_ema_period, atr_period, zigzag_k, swing_time_scale, zscore_period, warmup_bars)| Parameters {
            range_ema_period,
            atr_period,
            zigzag_k,
            swing_time_scale,
            zscore_period,
            warmup_bars,
        },
    );
    prop_oneof![Just(Parameters::default()), random]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn every_vector_width_gives_the_same_bits(set in any_set(), p in any_parameters(), columns in any_bars()) {
        let portable = bits(&at_level(set, p, &columns, Level::Portable));
        for level in Level::available() {
            prop_assert_eq!(&bits(&at_level(set, p, &columns, level)), &portable, "{:?}", level);
        }
    }

    #[test]
    fn batch_stream_and_restart_give_the_same_bits(
        set in any_set(), p in any_parameters(), columns in any_bars(), cuts in prop::collection::vec(1..700_usize, 1..8),
    ) {
        let (bars, width) = (columns.bars(), set.width());
        let batch = run(set, p, &columns);
        // One by one.
        let mut stream = Stream::new(set, p, None).unwrap();
        let mut row = vec![0.0; width];
        for i in 0..bars.len() {
            stream.push(&bars.bar(i), None, &mut row).unwrap();
            prop_assert_eq!(bits(&row), bits(&batch[i * width..(i + 1) * width]), "bar {}", i);
        }
        // In pieces, saved and restored between them.
        let mut stream = Stream::new(set, p, None).unwrap();
        let (mut start, mut k) = (0, 0);
        while start < bars.len() {
            let end = bars.len().min(start + cuts[k % cuts.len()]);
            let mut rows = vec![0.0; (end - start) * width];
            stream = Stream::from_state(&stream.state()).unwrap();
            stream.push_many(bars.slice(start..end), None, &mut rows).unwrap();
            prop_assert_eq!(bits(&rows), bits(&batch[start * width..end * width]));
            (start, k) = (end, k + 1);
        }
    }

    #[test]
    fn a_row_does_not_depend_on_later_bars(
        set in any_set(), p in any_parameters(), columns in any_bars(), future in any_bars(), cut in 0.0..1.0_f64,
    ) {
        let n = (columns.bars().len() as f64 * cut) as usize;
        let full = run(set, p, &columns);
        let removed = run(set, p, &columns.head(n));
        prop_assert_eq!(bits(&removed), bits(&full[..n * set.width()]));
        let mut rewritten = columns.head(n);
        (0..future.bars().len()).for_each(|i| rewritten.push(future.bars().bar(i)));
        prop_assert_eq!(bits(&run(set, p, &rewritten)[..n * set.width()]), bits(&removed));
    }

    #[test]
    fn features_are_finite_and_in_their_range(set in any_set(), p in any_parameters(), columns in any_bars()) {
        let out = run(set, p, &columns);
        for row in out.chunks_exact(set.width()) {
            for (feature, &x) in set.features(&p).iter().zip(row) {
                prop_assert!(x.is_finite(), "{} = {x}", feature.name);
                if let Some((low, high)) = feature.range {
                    prop_assert!((low..=high).contains(&f64::from(x)), "{} = {x}", feature.name);
                }
            }
        }
    }

    #[test]
    fn a_power_of_two_changes_no_bit(set in any_set(), p in any_parameters(), columns in on_a_grid(), k in -60..60_i32) {
        let scaled = columns.scaled(2.0_f64.powi(k));
        prop_assert_eq!(bits(&run(set, p, &scaled)), bits(&run(set, p, &columns)));
    }

    #[test]
    fn features_do_not_depend_on_scale(set in any_set(), columns in on_a_grid(), exponent in -6.0..6.0_f64) {
        let p = Parameters::default();
        let (here, there) = (run(set, p, &columns), run(set, p, &columns.scaled(10.0_f64.powf(exponent))));
        for (i, (a, b)) in here.iter().zip(&there).enumerate() {
            prop_assert!((a - b).abs() <= 1e-5, "{} at bar {}: {a} and {b}", i % set.width(), i / set.width());
        }
    }

    #[test]
    fn swings_are_real(columns in any_bars(), p in any_parameters()) {
        let bars = columns.bars();
        let (mut atr, mut zigzag) = (Atr::new(p.atr_period), Zigzag::new());
        let mut previous = None;
        for i in 0..bars.len() {
            let Bar { high, low, close, .. } = bars.bar(i);
            let turn = least_move(p.zigzag_k * atr.push(high, low, close));
            if !zigzag.push(i as u64, high, low, close, turn) {
                continue;
            }
            // From the bar that confirmed the previous swing on, or from the first bar if there is none.
            let since = previous.map_or(0, |bar: usize| bar + 1)..=i;
            if zigzag.leg == Leg::Down {
                let swing = zigzag.swing_high.unwrap();
                prop_assert!(bars.high[since].iter().all(|&h| h <= swing.price), "{swing:?} confirmed at {i}");
                prop_assert!((bars.low[swing.bar as usize]..=bars.high[swing.bar as usize]).contains(&swing.price));
            } else {
                let swing = zigzag.swing_low.unwrap();
                prop_assert!(bars.low[since].iter().all(|&l| l >= swing.price), "{swing:?} confirmed at {i}");
                prop_assert!((bars.low[swing.bar as usize]..=bars.high[swing.bar as usize]).contains(&swing.price));
            }
            previous = Some(i);
        }
    }

    #[test]
    fn swings_equal_the_literal_specification(columns in any_bars(), p in any_parameters()) {
        let found = swings(columns.bars(), &p, Prices::Positive, &Cancel::new()).unwrap();
        prop_assert_eq!(found, literal_swings(columns.bars(), &p));
    }

    #[test]
    fn damaged_state_is_refused(set in any_set(), columns in on_a_grid(), at in 0.0..1.0_f64, bit in 0..8_u8) {
        let mut stream = Stream::new(set, Parameters::default(), Some(1)).unwrap();
        let bars = columns.bars();
        let times: Vec<i64> = (0..bars.len() as i64).collect();
        stream.push_many(bars, Some(&times), &mut vec![0.0; bars.len() * set.width()]).unwrap();
        let good = stream.state();
        prop_assert!(Stream::from_state(&good).unwrap().state() == good);
        let mut bad = good.clone();
        let at = (good.len() as f64 * at) as usize;
        bad[at] ^= 1 << bit;
        prop_assert!(Stream::from_state(&bad).is_err());
        prop_assert!(Stream::from_state(&good[..at]).is_err());
    }
}

/// The zigzag as the specification describes it. At every bar it searches for the leg's extreme and pullback
/// among the bars since the leg began, instead of carrying them along.
fn literal_swings(bars: Bars<'_>, p: &Parameters) -> Swings {
    struct LegState {
        up: bool,
        /// The price and bar where the leg's extreme starts, and the bar with the close where the pullback
        /// starts.
        extreme: (f64, usize),
        since: usize,
    }
    let n = bars.len();
    let true_range = |i: usize| {
        let previous = bars.close[i - 1];
        (bars.high[i] - bars.low[i]).max((bars.high[i] - previous).abs()).max((bars.low[i] - previous).abs())
    };
    let atr = |i: usize| {
        if i == 0 {
            return 0.0;
        }
        let first = (i + 1).saturating_sub(p.atr_period as usize).max(1);
        (first..=i).map(true_range).sum::<f64>() / (i + 1 - first) as f64
    };
    let reaches = |size: f64, threshold: f64| threshold > 0.0 && size >= threshold - 1e-9 * threshold;
    let (mut high, mut low, mut leg): (i64, i64, Option<LegState>) = (-1, -1, None);
    let mut all = Swings::default();
    for i in 0..n {
        let threshold = p.zigzag_k * atr(i);
        let close = bars.close[i];
        match &leg {
            None if i > 0 => {
                let top = (0..=i).fold(0, |best, j| if bars.high[j] > bars.high[best] { j } else { best });
                let bottom = (0..=i).fold(0, |best, j| if bars.low[j] < bars.low[best] { j } else { best });
                let (rise, fall) = (close - bars.low[bottom], bars.high[top] - close);
                let (rises, falls) = (reaches(rise, threshold), reaches(fall, threshold));
                if rises && (!falls || rise >= fall - 1e-9 * fall) {
                    low = bottom as i64;
                    let extreme = if bottom == i { close } else { bars.high[i] };
                    leg = Some(LegState { up: true, extreme: (extreme, i), since: i });
                } else if falls {
                    high = top as i64;
                    let extreme = if top == i { close } else { bars.low[i] };
                    leg = Some(LegState { up: false, extreme: (extreme, i), since: i });
                }
            }
            Some(LegState { up, extreme, since }) => {
                // On mirrored prices a down leg is an up leg.
                let sign = if *up { 1.0 } else { -1.0 };
                let reach = |j: usize| if *up { bars.high[j] } else { -bars.low[j] };
                let adverse = |j: usize| if *up { bars.low[j] } else { -bars.high[j] };
                let mut top = (sign * extreme.0, extreme.1);
                let mut restarted = *since;
                for j in since + 1..=i {
                    if reach(j) > top.0 {
                        (top, restarted) = ((reach(j), j), j);
                    }
                }
                let mut pullback = (sign * bars.close[restarted], restarted);
                for j in restarted + 1..=i {
                    if adverse(j) < pullback.0 {
                        pullback = (adverse(j), j);
                    }
                }
                if reaches(top.0 - sign * close, threshold) {
                    if *up {
                        high = top.1 as i64;
                    } else {
                        low = top.1 as i64;
                    }
                    leg = Some(LegState { up: !up, extreme: (sign * pullback.0, pullback.1), since: i });
                }
            }
            None => {}
        }
        all.high_index.push(high);
        all.low_index.push(low);
        all.leg.push(leg.as_ref().map_or(0, |leg| if leg.up { 1 } else { -1 }));
        all.atr.push(atr(i));
    }
    all
}

#[test]
fn a_set_depends_on_exactly_its_declared_parameters() {
    let (mut columns, mut close) = (Columns::default(), 100.0_f64);
    for i in 0..600_i32 {
        let next = close + f64::from((i * 7919) % 13 - 6) * 0.25;
        columns.push(Bar {
            open: close,
            high: close.max(next) + 0.25,
            low: close.min(next) - 0.5,
            close: next,
        });
        close = next;
    }
    let usual = Parameters::default();
    let changed = [
        Parameters { range_ema_period: 7, ..usual },
        Parameters { atr_period: 7, ..usual },
        Parameters { zigzag_k: 2.5, ..usual },
        Parameters { swing_time_scale: 50.0, ..usual },
        Parameters { zscore_period: 7, ..usual },
        Parameters { warmup_bars: 7, ..usual },
    ];
    for set in FeatureSet::ALL {
        let rows = bits(&run(set, usual, &columns));
        assert_eq!(set.features(&usual).len(), set.width());
        let named = Parameters::NAMES.into_iter().zip(changed);
        let found: Vec<_> =
            named.filter(|(_, p)| bits(&run(set, *p, &columns)) != rows).map(|(name, _)| name).collect();
        assert_eq!(found, set.depends_on(), "{}", set.name());
    }
}

#[test]
fn a_bar_without_a_time_keeps_the_last_time() {
    let bar = Bar { open: 2.0, high: 3.0, low: 1.0, close: 2.5 };
    let columns = [bar.open, bar.high, bar.low, bar.close];
    let [o, h, l, c] = columns.each_ref().map(std::slice::from_ref);
    let bars = Bars::new(o, h, l, c).unwrap();
    let mut row = [0.0; 10];
    for whole_columns in [false, true] {
        let mut stream = Stream::new(FeatureSet::Relativity10, Parameters::default(), None).unwrap();
        stream.push(&bar, Some(60), &mut row).unwrap();
        if whole_columns {
            stream.push_many(bars, None, &mut row).unwrap();
        } else {
            stream.push(&bar, None, &mut row).unwrap();
        }
        assert_eq!(stream.last_timestamp(), Some(60));
        let mut restored = Stream::from_state(&stream.state()).unwrap();
        for stream in [&mut stream, &mut restored] {
            for time in [60, 59] {
                let Err(Error::Bars(refusals)) = stream.push(&bar, Some(time), &mut row) else {
                    panic!("{time} is not after 60")
                };
                assert_eq!(refusals.samples()[0].previous, Some(60));
                assert!(stream.push_many(bars, Some(&[time]), &mut row).is_err());
            }
            stream.push(&bar, Some(61), &mut row).unwrap();
        }
    }
}

#[test]
fn a_refused_bar_leaves_the_stream_unchanged() {
    let mut stream = Stream::new(FeatureSet::Relativity10, Parameters::default(), None).unwrap();
    let bar = Bar { open: 2.0, high: 3.0, low: 1.0, close: 2.5 };
    let mut row = [0.0; 10];
    stream.push(&bar, Some(60), &mut row).unwrap();
    let before = stream.state();
    for (bar, time) in
        [(bar, 60), (bar, 59), (Bar { high: f64::NAN, ..bar }, 61), (Bar { low: 2.2, ..bar }, 61)]
    {
        assert!(stream.push(&bar, Some(time), &mut row).is_err());
        let Bar { open, high, low, close } = bar;
        let bars = Bars::new(
            std::slice::from_ref(&open),
            std::slice::from_ref(&high),
            std::slice::from_ref(&low),
            std::slice::from_ref(&close),
        )
        .unwrap();
        assert!(stream.push_many(bars, Some(&[time]), &mut row).is_err());
        assert!(stream.state() == before);
    }
}

#[test]
fn a_gap_begins_a_segment_in_single_pushes_and_in_pieces() {
    let mut columns = Columns::default();
    let mut close = 100.0;
    for i in 0..3000 {
        let next = close + f64::from((i * 7919) % 13) * 0.25 - 1.5;
        columns.push(Bar { open: close, high: close.max(next) + 0.25, low: close.min(next), close: next });
        close = next.max(50.0);
    }
    let columns = {
        // Only the next open was bounded, not the close: keep the sound bars.
        let mut sound = Columns::default();
        (0..3000).map(|i| columns.bars().bar(i)).filter(Bar::is_sound).for_each(|bar| sound.push(bar));
        sound
    };
    let (bars, set) = (columns.bars(), FeatureSet::Relativity12);
    let n = bars.len();
    let times: Vec<i64> = (0..n as i64)
        .map(|i| i * 60 + if i >= 1000 { 500 } else { 0 } + if i >= 1001 { 61 } else { 0 })
        .collect();
    let mut stream = Stream::new(set, Parameters::default(), Some(100)).unwrap();
    let mut one_by_one = vec![0.0; n * 12];
    for (i, row) in one_by_one.chunks_exact_mut(12).enumerate() {
        stream.push(&bars.bar(i), Some(times[i]), row).unwrap();
    }
    let mut pieces = vec![0.0; n * 12];
    let mut stream = Stream::new(set, Parameters::default(), Some(100)).unwrap();
    stream.push_many(bars.slice(0..1500), Some(&times[..1500]), &mut pieces[..1500 * 12]).unwrap();
    stream.push_many(bars.slice(1500..n), Some(&times[1500..]), &mut pieces[1500 * 12..]).unwrap();
    assert_eq!(bits(&one_by_one), bits(&pieces));
    let mut expected = run(set, Parameters::default(), &columns.head(1000));
    for piece in [1000..1001, 1001..n] {
        let part = Columns(columns.0.clone().map(|column| column[piece.clone()].to_vec()));
        expected.extend(run(set, Parameters::default(), &part));
    }
    assert_eq!(bits(&expected), bits(&pieces));
}
