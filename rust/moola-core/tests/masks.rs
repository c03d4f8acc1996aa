//! Masks compared with their definition, and the frequencies of masked positions and arrangements.

use moola_core::keys::{GOLDEN, mix, symbol_hash};
use moola_core::simd::Level;
use moola_core::windows::{Batch, Masking, Piece, Shape, Store, Strategy, Windows};
use proptest::prelude::{Just, Strategy as _, prop_assert_eq, prop_oneof, proptest};

/// The hash of item `j`.
fn item_hash(key: u64, j: usize) -> u64 {
    mix(key.wrapping_add(GOLDEN.wrapping_mul(j as u64 + 1)))
}

/// The keys and the masks of windows.
struct Drawn {
    keys: Vec<u64>,
    masks: Vec<Vec<u8>>,
}

/// Draws the masks of the windows `chosen`. They lie `stride` bars apart in a store with these valid bars.
fn drawn(
    level: Level,
    masking: &Masking,
    valid: &[u8],
    length: usize,
    stride: usize,
    chosen: &[u64],
) -> Drawn {
    let features = vec![0.0; valid.len()];
    let timestamps: Vec<i64> = (0..valid.len() as i64).map(|i| i * 60_000_000_000).collect();
    let store = Store {
        features: &features,
        valid,
        timestamps: &timestamps,
        extra: &[],
        extra_width: 0,
        dense: false,
    };
    let count = (valid.len() - length) / stride + 1;
    let piece = Piece { count: count as u64, row: 0, place: 0, store: 0, symbol: symbol_hash("ES") };
    let shape = Shape { length, stride: stride as u64, width: 1, extra: &[vec![]] };
    let windows = Windows::new(vec![store], vec![piece], shape).unwrap().at_level(level).unwrap();
    let positions = chosen.len() * length;
    let (mut x, mut mask, mut flags) = (vec![0.0; positions], vec![7; positions], vec![7; positions]);
    let batch = Batch { x: &mut x, mask: &mut mask, valid: &mut flags };
    windows.fill(chosen, vec![batch], masking).unwrap();
    let key = |&window: &u64| windows.key(&windows.place(window).unwrap(), masking.seed, masking.epoch);
    Drawn {
        keys: chosen.iter().map(key).collect(),
        masks: mask.chunks_exact(length).map(<[u8]>::to_vec).collect(),
    }
}

/// The definition, step by step.
fn expected(key: u64, ratio: f64, strategy: Strategy, valid: &[u8]) -> Vec<u8> {
    let positions: Vec<usize> = (0..valid.len()).filter(|&t| valid[t] != 0).collect();
    let masked = (ratio * positions.len() as f64).floor() as usize;
    let mut mask = vec![0; valid.len()];
    match strategy {
        Strategy::Random => {
            let mut order = positions.clone();
            order.sort_by_key(|&t| item_hash(key, t));
            order[..masked].iter().for_each(|&t| mask[t] = 1);
        }
        Strategy::Patch(size) => {
            let runs = masked.div_ceil(size);
            let mut order: Vec<usize> = (0..positions.len() - masked + runs).collect();
            order.sort_by_key(|&j| item_hash(key, j));
            let (mut at, items) = (0, order.len());
            for j in 0..items {
                let covers = match order[..runs].iter().position(|&run| run == j) {
                    Some(rank) if rank + 1 == runs => masked - (runs - 1) * size,
                    Some(_) => size,
                    None => 0,
                };
                positions[at..at + covers].iter().for_each(|&t| mask[t] = 1);
                at += covers.max(1);
            }
        }
    }
    mask
}

proptest! {
    #[test]
    fn masks_equal_their_definition_at_every_level(
        seed: u64,
        epoch: u64,
        ratio in prop_oneof![Just(0.0), Just(1.0), Just(0.15), 0.0..=1.0],
        size in prop_oneof![Just(None), (1_usize..20).prop_map(Some)],
        valid in prop_oneof![
            (1_usize..300).prop_map(|n| vec![1_u8; n]),
            (0_usize..200, 1_usize..200).prop_map(|(a, b)| [vec![0; a], vec![1; b]].concat()),
            (1_usize..200).prop_map(|n| vec![0; n]),
            proptest::collection::vec(0_u8..=1, 1..200),
        ],
    ) {
        let strategy = size.map_or(Strategy::Random, Strategy::Patch);
        let masking = Masking { seed, epoch, ratio, strategy };
        // The window under test stands between two others and comes after full ones. Its mask must depend
        // neither on its neighbours nor on what earlier windows leave in memory.
        let full = vec![1; valid.len()];
        let beside: Vec<u8> = valid.iter().rev().copied().collect();
        let windows = [beside, valid.clone(), full];
        let chosen = [2, 2, 2, 2, 0, 1, 1, 2, 1];
        for level in Level::available() {
            let drawn = drawn(level, &masking, &windows.concat(), valid.len(), valid.len(), &chosen);
            for ((window, key), mask) in chosen.into_iter().zip(drawn.keys).zip(drawn.masks) {
                prop_assert_eq!(mask, expected(key, ratio, strategy, &windows[window as usize]));
            }
        }
    }
}

#[test]
fn every_input_of_the_key_matters() {
    let key = |seed, epoch, symbol, length, time: i64| {
        let masking = Masking { seed, epoch, ratio: 0.5, strategy: Strategy::Random };
        masking.key(symbol_hash(symbol), length, time)
    };
    let keys = [
        key(0, 0, "", 105, 0),
        key(1, 0, "", 105, 0),
        key(0, 1, "", 105, 0),
        key(0, 0, "ES", 105, 0),
        key(0, 0, "", 104, 0),
        key(0, 0, "", 105, 1),
        key(0, 0, "", 105, -1),
    ];
    for (i, a) in keys.iter().enumerate() {
        assert!(keys[..i].iter().all(|b| a != b), "{i}");
    }
}

/// Pearson's statistic of counts against equal expectations, as a multiple of its standard deviation from its mean.
fn chi_square(counts: &[u64]) -> f64 {
    let mean = counts.iter().sum::<u64>() as f64 / counts.len() as f64;
    let statistic: f64 = counts.iter().map(|&c| (c as f64 - mean).powi(2) / mean).sum();
    let freedom = counts.len() as f64 - 1.0;
    (statistic - freedom) / (2.0 * freedom).sqrt()
}

#[test]
fn positions_and_pairs_are_masked_equally_often() {
    const K: usize = 20;
    const N: usize = 100_000;
    // Windows one minute apart, as in training.
    let masking = Masking { seed: 0, epoch: 0, ratio: 0.15, strategy: Strategy::Random };
    let chosen: Vec<u64> = (0..N as u64).collect();
    let drawn = drawn(Level::best(), &masking, &[1; N + K - 1], K, 1, &chosen);
    let (mut positions, mut pairs) = ([0; K], vec![0; K * (K - 1) / 2]);
    for mask in drawn.masks {
        let at: Vec<usize> = (0..K).filter(|&t| mask[t] == 1).collect();
        assert_eq!(at.len(), 3);
        at.iter().for_each(|&t| positions[t] += 1);
        for (i, &b) in at.iter().enumerate() {
            at[..i].iter().for_each(|&a| pairs[b * (b - 1) / 2 + a] += 1);
        }
    }
    assert!(chi_square(&positions) < 4.0, "{positions:?}");
    assert!(chi_square(&pairs) < 4.0, "{pairs:?}");
}

#[test]
fn arrangements_of_patches_are_equally_frequent() {
    // Five of nine in runs of two, two and one: 4 + 3 items make 35 choices of runs, times which one is short.
    let mut arrangements = std::collections::BTreeMap::<Vec<u8>, u64>::new();
    let mut short_first = 0;
    let masking = Masking { seed: 0, epoch: 0, ratio: 0.6, strategy: Strategy::Patch(2) };
    let chosen: Vec<u64> = (0..70_000).collect();
    for mask in drawn(Level::best(), &masking, &[1; 70_008], 9, 1, &chosen).masks {
        assert_eq!(mask.iter().sum::<u8>(), 5);
        short_first += u64::from(mask.starts_with(&[1, 0]));
        *arrangements.entry(mask).or_default() += 1;
    }
    // The first item is a run (3 of 7 items), the second is not (4 of the other 6), and the run is the short one (1 of 3).
    let probability = (3.0 / 7.0) * (4.0 / 6.0) / 3.0;
    let expected = 70_000.0 * probability;
    assert!((short_first as f64 - expected).abs() < 5.0 * (expected * (1.0 - probability)).sqrt());
    // Runs that touch look alike, so only masks with three separate runs are compared.
    let apart = arrangements
        .iter()
        .filter(|(mask, _)| mask.split(|&m| m == 0).filter(|run| !run.is_empty()).count() == 3);
    let counts: Vec<u64> = apart.map(|(_, &count)| count).collect();
    assert_eq!(counts.len(), 10 * 3);
    assert!(chi_square(&counts) < 4.0, "{counts:?}");
}
