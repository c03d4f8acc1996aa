//! Writing and verifying a store's rows, compared with the engine over whole segments.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use moola_core::features::{Engine, FeatureSet, Parameters, compute};
use moola_core::npy::{NpyReader, NpyWriter};
use moola_core::store::{
    Plan, Sample, first_outlier, verify_rows, verify_streamed, verify_windows, write_rows, write_windows,
};
use moola_core::synth::SampleMarket;
use moola_core::{Bars, Cancel, Error, Prices};

/// Segments that lie inside, across and at the boundaries of pieces. Some are shorter than the warm-up.
const SEGMENTS: [u64; 9] = [1, 300, 65_235, 20, 70_000, 104, 106, 70_000, 500];

/// The same bars for every test.
fn bars() -> &'static [f64] {
    static BARS: OnceLock<Vec<f64>> = OnceLock::new();
    BARS.get_or_init(|| {
        let samples = SampleMarket::new(3, 0, false).take(SEGMENTS.iter().sum::<u64>() as usize);
        samples.flat_map(|s| [s.bar.open, s.bar.high, s.bar.low, s.bar.close]).collect()
    })
}

fn plan(folder: &Path, segments: &[u64], set: FeatureSet, threads: usize) -> Plan {
    let mut first = 0;
    let spans = segments.iter().map(|rows| {
        first += rows;
        (first - rows, *rows)
    });
    let segments = spans.collect();
    let mut writer = NpyWriter::<f64>::create(folder.join("bars.npy")).unwrap();
    writer.append(&bars()[..4 * first as usize]).unwrap();
    writer.finish(&[first, 4]).unwrap();
    Plan {
        folder: folder.to_owned(),
        rows: first,
        segments,
        set,
        parameters: Parameters::default(),
        prices: Prices::Positive,
        threads,
    }
}

fn read<T: moola_core::npy::Element + Default>(path: &Path, shape: &[u64]) -> Vec<T> {
    let mut values = vec![T::default(); shape.iter().product::<u64>() as usize];
    NpyReader::open(path, shape).unwrap().read(0, &mut values).unwrap();
    values
}

/// Features, masks and first valid rows, computed one segment after the other.
fn expected(plan: &Plan) -> (Vec<f32>, Vec<u8>, Vec<Option<u64>>) {
    let bars = read::<f64>(&plan.folder.join("bars.npy"), &[plan.rows, 4]);
    let (mut features, mut valid, mut firsts) = (Vec::new(), Vec::new(), Vec::new());
    for &(first, rows) in &plan.segments {
        let column = |k: usize| (first..first + rows).map(|i| bars[4 * i as usize + k]).collect::<Vec<f64>>();
        let columns = [column(0), column(1), column(2), column(3)];
        let bars = Bars::new(&columns[0], &columns[1], &columns[2], &columns[3]).unwrap();
        let mut engine = Engine::new(plan.set, plan.parameters).unwrap();
        let mut out = vec![0.0; rows as usize * plan.set.width()];
        compute(&mut engine, bars, &mut out, &Cancel::new()).unwrap();
        features.extend(out);
        let start = engine.first_valid().filter(|&v| v < rows);
        valid.extend((0..rows).map(|i| u8::from(start.is_some_and(|v| i >= v))));
        firsts.push(start.map(|v| first + v));
    }
    (features, valid, firsts)
}

#[test]
fn rows_equal_the_engine_for_any_number_of_threads() {
    for set in FeatureSet::ALL {
        for threads in [1, 2] {
            let folder = tempfile::tempdir().unwrap();
            let plan = plan(folder.path(), &SEGMENTS, set, threads);
            let (first_valid, written) = write_rows(&plan, &Cancel::new()).unwrap();
            let (features, valid, firsts) = expected(&plan);
            let width = set.width() as u64;
            assert!(read::<f32>(&folder.path().join("features.npy"), &[plan.rows, width]) == features);
            assert!(read::<u8>(&folder.path().join("valid.npy"), &[plan.rows]) == valid);
            assert_eq!(first_valid, firsts);
            for file in written {
                let bytes = fs::read(folder.path().join(&file.name)).unwrap();
                assert_eq!(file.bytes, bytes.len() as u64, "{}", file.name);
                assert_eq!(file.blake3, blake3::hash(&bytes).to_hex().as_str(), "{}", file.name);
            }
            let found = verify_rows(&plan, &Cancel::new()).unwrap();
            assert_eq!((found.features.0, found.masks.0, found.first_valid), (0, 0, firsts));
        }
    }
}

#[test]
fn windows_are_slices_of_the_rows() {
    // The window of the last case is longer than a piece.
    let cases: [(&[u64], u64, usize); 4] = [
        (&[1, 300, 65_235, 20, 900, 104, 106, 500], 1, 1),
        (&[1, 300, 65_235, 20, 900, 104, 106, 500], 25, 2),
        (&[300, 104, 106, 105, 900, 65_000], 105, 2),
        (&[3, 70_010], 70_000, 1),
    ];
    for (segments, length, threads) in cases {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path(), segments, FeatureSet::Ohlc4, threads);
        let (features, valid, _) = expected(&plan);
        let mut starts = Vec::new();
        for &(first, rows) in &plan.segments {
            let last = |start: u64| (start + length - 1) as usize;
            starts
                .extend((first..first + rows).filter(|&s| s + length <= first + rows && valid[last(s)] == 1));
        }
        let (_, written) = write_windows(&plan, length, &Cancel::new()).unwrap();
        let count = starts.len() as u64;
        assert_eq!(written[0].shape, [count, length, 4]);
        let dense = read::<f32>(&folder.path().join("features_4d.npy"), &[count, length, 4]);
        let masks = read::<u8>(&folder.path().join("valid_mask.npy"), &[count, length]);
        let k = length as usize;
        for (w, &start) in starts.iter().enumerate() {
            let s = start as usize;
            assert!(dense[w * k * 4..(w + 1) * k * 4] == features[s * 4..(s + k) * 4], "window {w}");
            assert!(masks[w * k..(w + 1) * k] == valid[s..s + k], "mask {w}");
        }
        let stored = read::<i64>(&folder.path().join("window_starts.npy"), &[count]);
        assert!(stored.iter().map(|&s| s as u64).eq(starts));
        for file in &written {
            let bytes = fs::read(folder.path().join(&file.name)).unwrap();
            assert_eq!(file.blake3, blake3::hash(&bytes).to_hex().as_str(), "{}", file.name);
        }
        let found = verify_windows(&plan, length, count, &Cancel::new()).unwrap();
        assert_eq!((found.compared, found.features.0, found.masks.0, found.starts.0), (count, 0, 0, 0));
        assert!(matches!(
            verify_windows(&plan, length, count - 1, &Cancel::new()),
            Err(Error::Damaged { .. })
        ));
    }
}

#[test]
fn a_changed_value_is_found_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), &SEGMENTS, FeatureSet::Relativity10, 1);
    write_rows(&plan, &Cancel::new()).unwrap();
    let path = folder.path().join("features.npy");
    let good = fs::read(&path).unwrap();
    let (row, column) = (100_000, 7);
    let mut bad = good.clone();
    bad[128 + 4 * (10 * row + column)] ^= 1;
    fs::write(&path, bad).unwrap();
    let found = verify_rows(&plan, &Cancel::new()).unwrap();
    let first = found.features.1.unwrap();
    assert_eq!((found.features.0, first.row, first.column), (1, row as u64, column as u64));
    assert_ne!(first.stored, first.computed);
    fs::write(&path, &good).unwrap();

    let path = folder.path().join("valid.npy");
    let mut bad = fs::read(&path).unwrap();
    bad[128 + row] ^= 1;
    fs::write(&path, bad).unwrap();
    let found = verify_rows(&plan, &Cancel::new()).unwrap();
    assert_eq!((found.masks.0, found.masks.1.unwrap().row), (1, row as u64));
}

#[test]
fn a_stream_recomputes_windows_to_the_same_bits() {
    let (length, width) = (105, 12);
    // First and last windows of segments, windows that overlap, and one beyond the first piece.
    let offsets = [(4, 0), (4, 1), (4, 60), (4, 69_800), (7, 0), (7, 66_000)];
    for dense in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path(), &SEGMENTS, FeatureSet::Relativity12, 1);
        let mut samples: Vec<Sample> = offsets
            .map(|(segment, offset)| {
                let start = plan.segments[segment].0 + offset;
                Sample { segment, start, place: start }
            })
            .into();
        let windows = if dense {
            let (_, written) = write_windows(&plan, length, &Cancel::new()).unwrap();
            let count = written[0].shape[0];
            let starts = read::<i64>(&folder.path().join("window_starts.npy"), &[count]);
            samples.retain(|sample| starts.contains(&(sample.start as i64)));
            for sample in &mut samples {
                sample.place = length * starts.iter().position(|&s| s as u64 == sample.start).unwrap() as u64;
            }
            Some((length, count))
        } else {
            write_rows(&plan, &Cancel::new()).unwrap();
            None
        };
        assert!(samples.len() >= 4);
        let verify =
            |samples: &[Sample]| verify_streamed(&plan, windows, length, samples, &Cancel::new()).unwrap();
        assert_eq!(verify(&samples), (0, None));
        assert_eq!(verify(&[]), (0, None));

        // Flip one bit in the last row of the second window.
        let path = folder.path().join(if dense { "features_12d.npy" } else { "features.npy" });
        let mut bytes = fs::read(&path).unwrap();
        let row = samples[1].place + length - 1;
        bytes[128 + 4 * (width * row as usize + 7)] ^= 1;
        fs::write(&path, bytes).unwrap();
        let (count, first) = verify(&samples);
        let first = first.unwrap();
        assert!(count >= 1);
        assert_eq!((first.row, first.column), (samples[1].start + length - 1, 7));
        assert_ne!(first.stored, first.computed);
    }
}

#[test]
fn the_first_value_out_of_its_range_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.npy");
    let ranges = [(0.0, 1.0), (f32::NEG_INFINITY, f32::INFINITY), (-1.0, 1.0)];
    let rows = 200_000;
    let find = |place: usize, x: f32| {
        let mut values = vec![0.5; 3 * rows];
        values[place] = x;
        let mut writer = NpyWriter::<f32>::create(&path).unwrap();
        writer.append(&values).unwrap();
        writer.finish(&[rows as u64, 3]).unwrap();
        let found = first_outlier(&path, &[rows as u64, 3], &ranges, &Cancel::new()).unwrap();
        fs::remove_file(&path).unwrap();
        found.map(|(place, x)| (place as usize, x.to_bits()))
    };
    for row in [0, 1, 63, 64, 87_381, 87_382, rows - 1] {
        assert_eq!(find(3 * row, 1.0), None);
        assert_eq!(find(3 * row, -0.0), None);
        assert_eq!(find(3 * row + 1, f32::MAX), None);
        for (column, x) in [
            (0, -1e-45),
            (0, 1.000_000_1),
            (0, f32::NAN),
            (1, f32::NAN),
            (1, f32::INFINITY),
            (1, f32::NEG_INFINITY),
            (2, 2.0),
        ] {
            assert_eq!(find(3 * row + column, x), Some((3 * row + column, x.to_bits())));
        }
    }
}

#[test]
fn cancelled_work_stops() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), &SEGMENTS, FeatureSet::Relativity10, 2);
    let cancel = Cancel::new();
    cancel.cancel();
    assert!(matches!(write_rows(&plan, &cancel), Err(Error::Cancelled)));
    fs::remove_file(folder.path().join("features.npy")).unwrap();
    fs::remove_file(folder.path().join("valid.npy")).unwrap();
    assert!(matches!(write_windows(&plan, 105, &cancel), Err(Error::Cancelled)));
}

#[test]
fn a_bar_of_nan_is_an_error_not_a_feature() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(folder.path(), &SEGMENTS, FeatureSet::Relativity10, 1);
    let path = folder.path().join("bars.npy");
    let mut bytes = fs::read(&path).unwrap();
    bytes[128 + 32 * 70_000..][..8].copy_from_slice(&f64::NAN.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    assert!(matches!(write_rows(&plan, &Cancel::new()), Err(Error::Bars(refusals)) if refusals.total() == 1));
}
