//! Prices that are zero or negative: the sets that allow them keep their properties, and do not depend on where zero lies.

use moola_core::features::{Engine, FeatureSet, Level, Parameters, Stream, compute};
use moola_core::{Bar, Bars, Cancel, Error, Prices};
use proptest::prelude::*;

const SETS: [FeatureSet; 3] = [FeatureSet::Relativity10, FeatureSet::Relativity12, FeatureSet::Ohlc4];

/// Columns that own their prices.
#[derive(Clone, Debug, Default)]
struct Columns([Vec<f64>; 4]);

impl Columns {
    fn of(bars: impl IntoIterator<Item = Bar>) -> Columns {
        let mut columns = Columns::default();
        for Bar { open, high, low, close } in bars {
            for (column, x) in columns.0.iter_mut().zip([open, high, low, close]) {
                column.push(x);
            }
        }
        columns
    }

    fn bars(&self) -> Bars<'_> {
        Bars::new(&self.0[0], &self.0[1], &self.0[2], &self.0[3]).unwrap()
    }

    fn slice(&self, rows: std::ops::Range<usize>) -> Bars<'_> {
        self.bars().slice(rows)
    }
}

fn engine(set: FeatureSet, level: Level) -> Engine {
    let mut engine = Engine::at_level(set, Parameters::default(), level).unwrap();
    engine.set_prices(Prices::AnySign).unwrap();
    engine
}

fn stream(set: FeatureSet) -> Stream {
    let mut stream = Stream::new(set, Parameters::default(), None).unwrap();
    stream.set_prices(Prices::AnySign).unwrap();
    stream
}

fn run(set: FeatureSet, columns: &Columns, level: Level) -> Vec<f32> {
    let mut out = vec![f32::NAN; columns.bars().len() * set.width()];
    compute(&mut engine(set, level), columns.bars(), &mut out, &Cancel::new()).unwrap();
    out
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Bars in ticks around 0: a spread, or a contract that falls through zero.
fn ticks() -> impl Strategy<Value = Vec<[i64; 4]>> {
    let step = (-6_i64..=6, 0_i64..4, 0_i64..4, 0..10_u8, -4_i64..=4);
    (prop::collection::vec(step, 2..1500), -200_i64..200).prop_map(|(steps, mut close)| {
        let mut bars = Vec::new();
        for (body, up, down, kind, jump) in steps {
            let open = close + if kind == 0 { jump } else { 0 };
            // One bar in five is flat.
            let flat = kind >= 8;
            close = if flat { open } else { open + body };
            let (high, low) =
                if flat { (open, open) } else { (open.max(close) + up, open.min(close) - down) };
            bars.push([open, high, low, close]);
        }
        bars
    })
}

fn priced(ticks: &[[i64; 4]], tick: f64, shift: i64) -> Columns {
    let price = |x: i64| (x + shift) as f64 * tick;
    Columns::of(ticks.iter().map(|&[open, high, low, close]| Bar {
        open: price(open),
        high: price(high),
        low: price(low),
        close: price(close),
    }))
}

/// Any bars that pass, with extreme prices and both zeros among them.
fn anything_sound() -> impl Strategy<Value = Columns> {
    let size = prop_oneof![1.2e-38..3.4e38_f64, 1.0..2.0_f64, Just(1.2e-38), Just(3.4e38), 1e-30..1e30_f64];
    let price = prop_oneof![
        8 => (size, any::<bool>()).prop_map(|(x, negative)| if negative { -x } else { x }),
        1 => Just(0.0),
        1 => Just(-0.0),
    ];
    let bar = (price.clone(), price, any::<bool>(), any::<bool>(), prop::bool::weighted(0.2)).prop_map(
        |(a, b, up, at_end, flat)| {
            let (low, high) = if flat { (a, a) } else { (a.min(b), a.max(b)) };
            let (open, close) = if up { (low, high) } else { (high, low) };
            Bar { open, high, low, close: if at_end { close } else { open } }
        },
    );
    prop::collection::vec(bar, 1..900).prop_map(Columns::of)
}

fn any_bars() -> impl Strategy<Value = Columns> {
    let grid = (ticks(), prop::sample::select(vec![0.25, 0.01, 1e-5, 1.0]));
    prop_oneof![grid.prop_map(|(bars, tick)| priced(&bars, tick, 0)), anything_sound()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn batch_stream_and_restart_have_the_same_bits(
        columns in any_bars(), set in prop::sample::select(SETS.to_vec()), cut in 0.0..1.0_f64,
    ) {
        let (bars, width) = (columns.bars(), set.width());
        let rows = run(set, &columns, Level::best());
        for level in Level::available() {
            prop_assert_eq!(bits(&rows), bits(&run(set, &columns, level)));
        }
        let mut one_by_one = stream(set);
        let mut row = vec![0.0; width];
        for (i, expected) in rows.chunks_exact(width).enumerate() {
            one_by_one.push(&bars.bar(i), None, &mut row).unwrap();
            prop_assert_eq!(bits(&row), bits(expected), "bar {}", i);
        }
        let n = bars.len();
        let at = (cut * n as f64) as usize;
        let mut first = stream(set);
        let mut pieces = vec![0.0; n * width];
        first.push_many(columns.slice(0..at), None, &mut pieces[..at * width]).unwrap();
        let mut second = Stream::from_state(&first.state()).unwrap();
        second.push_many(columns.slice(at..n), None, &mut pieces[at * width..]).unwrap();
        prop_assert_eq!(bits(&rows), bits(&pieces));
        prop_assert!(one_by_one.state() == second.state());
    }

    #[test]
    fn every_value_is_finite_and_within_its_range(columns in any_bars(), set in prop::sample::select(SETS.to_vec())) {
        let features = set.features(&Parameters::default());
        for row in run(set, &columns, Level::best()).chunks_exact(set.width()) {
            for (x, feature) in row.iter().zip(&features) {
                let (low, high) = feature.range.unwrap();
                prop_assert!((low..=high).contains(&f64::from(*x)), "{} = {}", feature.name, x);
            }
        }
    }

    /// Differences of prices that are multiples of 1/4 are exact: then the place of zero does not matter to the bit.
    #[test]
    fn shifted_prices_have_the_same_features(
        bars in ticks(), set in prop::sample::select(SETS.to_vec()), shift in -1_000_000_i64..1_000_000,
        tick in prop::sample::select(vec![0.25, 1.0, 0.01]),
    ) {
        let above = run(set, &priced(&bars, tick, 50_000), Level::best());
        let shifted = run(set, &priced(&bars, tick, shift), Level::best());
        if tick == 0.01 {
            for (a, b) in above.iter().zip(&shifted) {
                prop_assert!((a - b).abs() < 1e-5, "{} and {}", a, b);
            }
        } else {
            prop_assert_eq!(bits(&above), bits(&shifted));
        }
    }

    #[test]
    fn positive_prices_have_the_bits_that_they_have_without_the_option(
        bars in ticks(), set in prop::sample::select(SETS.to_vec()),
    ) {
        let columns = priced(&bars, 0.01, 50_000);
        let mut plain = vec![0.0; columns.bars().len() * set.width()];
        let mut engine = Engine::new(set, Parameters::default()).unwrap();
        compute(&mut engine, columns.bars(), &mut plain, &Cancel::new()).unwrap();
        prop_assert_eq!(bits(&plain), bits(&run(set, &columns, Level::best())));
    }

    /// The vectorised check of columns refuses the same bars as the check of each bar.
    #[test]
    fn columns_are_judged_like_their_bars(
        columns in any_bars(), at in any::<prop::sample::Index>(), k in 0..4_usize,
        x in prop::sample::select(vec![f64::NAN, f64::INFINITY, 3.5e38, -3.5e38, 1e-39, -1e-300, 0.0, -0.0, -7.0]),
    ) {
        let mut columns = columns;
        let i = at.index(columns.bars().len());
        columns.0[k][i] = x;
        for prices in [Prices::Positive, Prices::AnySign] {
            let bad = (0..columns.bars().len()).filter(|&i| !columns.bars().bar(i).passes(prices)).count();
            match columns.bars().check(prices) {
                Ok(()) => prop_assert_eq!(bad, 0),
                Err(Error::Bars(refusals)) => prop_assert_eq!(refusals.total(), bad as u64),
                Err(other) => prop_assert!(false, "{}", other),
            }
        }
    }
}

#[test]
fn a_set_of_logarithms_refuses_the_option_by_name() {
    let mut stream = Stream::new(FeatureSet::RelativeTransform11, Parameters::default(), None).unwrap();
    let Err(Error::Config { name, problem }) = stream.set_prices(Prices::AnySign) else {
        panic!("logarithms need positive prices")
    };
    assert_eq!(name, "allow_nonpositive");
    for word in ["relative_transform11", "logarithms", "relativity10, relativity12, ohlc4"] {
        assert!(problem.contains(word), "{problem}");
    }
    stream.set_prices(Prices::Positive).unwrap();
}

#[test]
fn only_the_option_changes_the_version_of_a_state() {
    let bar = Bar { open: -2.0, high: 3.0, low: -4.0, close: 0.0 };
    for set in SETS {
        let mut plain = Stream::new(set, Parameters::default(), None).unwrap();
        assert!(plain.state().starts_with(b"moola-state1"));
        assert!(plain.push_row(&bar, None).is_err());
        assert!(Stream::from_state(&plain.state()).unwrap().push_row(&bar, None).is_err());
        let mut stream = stream(set);
        stream.push_row(&bar, None).unwrap();
        assert!(stream.state().starts_with(b"moola-state3"));
        let mut again = Stream::from_state(&stream.state()).unwrap();
        again.reset();
        again.push_row(&bar, None).unwrap();
        // Still no price: an infinite one, and one that float32 cannot hold.
        for low in [f64::NEG_INFINITY, -3.5e38] {
            assert!(again.push_row(&Bar { low, ..bar }, None).is_err());
        }
    }
}
