//! The engine: one bar at a time, and whole columns at every vector width that this processor has.
//! `cargo bench -p moola-core`; `benches/rust_engine.py` reads the results.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use moola_core::features::{Engine, FeatureSet, Level, Parameters, Stream, compute};
use moola_core::{Bar, Bars, Cancel};

/// So few bars that columns and rows stay in the cache: what is measured is the computation.
const BARS: usize = 16 * 1024;

/// A walk on a tick grid.
fn columns() -> [Vec<f64>; 4] {
    let mut state = 88_172_645_463_325_252_u64;
    let mut up_to = |ticks: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        0.25 * ((state >> 32) % (ticks + 1)) as f64
    };
    let [mut open, mut high, mut low, mut close] = [const { Vec::new() }; 4];
    let mut price = 5000.0_f64;
    for _ in 0..BARS {
        let last = price + up_to(6) - up_to(6);
        open.push(price);
        high.push(price.max(last) + up_to(5));
        low.push(price.min(last) - up_to(5));
        close.push(last);
        price = last;
    }
    [open, high, low, close]
}

fn push(criterion: &mut Criterion) {
    let [open, high, low, close] = columns();
    let bars: Vec<Bar> =
        (0..BARS).map(|i| Bar { open: open[i], high: high[i], low: low[i], close: close[i] }).collect();
    let mut group = criterion.benchmark_group("push");
    group.throughput(Throughput::Elements(BARS as u64));
    for set in FeatureSet::ALL {
        let mut row = vec![0.0; set.width()];
        group.bench_function(set.name(), |bencher| {
            let start = || Stream::new(set, Parameters::default(), None).expect("default parameters");
            bencher.iter_batched_ref(
                start,
                |stream| {
                    for bar in &bars {
                        stream.push(bar, None, &mut row).expect("sound bars");
                    }
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

fn batch(criterion: &mut Criterion) {
    let [open, high, low, close] = columns();
    let bars = Bars::new(&open, &high, &low, &close).expect("four columns of one length");
    let mut group = criterion.benchmark_group("batch");
    group.throughput(Throughput::Elements(BARS as u64));
    for set in FeatureSet::ALL {
        let mut rows = vec![0.0; BARS * set.width()];
        for level in Level::available() {
            group.bench_function(format!("{}/{level:?}", set.name()), |bencher| {
                let start =
                    || Engine::at_level(set, Parameters::default(), level).expect("an available level");
                bencher.iter_batched_ref(
                    start,
                    |engine| compute(engine, bars, &mut rows, &Cancel::new()).expect("sound bars"),
                    BatchSize::LargeInput,
                );
            });
        }
    }
    group.finish();
}

criterion_group!(features, push, batch);
criterion_main!(features);
