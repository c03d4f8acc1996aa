//! Windows and batches: the places of windows, that a batch holds slices of its stores, and that arrays that
//! do not fit are refused.

use moola_core::Error;
use moola_core::keys::symbol_hash;
use moola_core::windows::{Batch, Masking, Piece, Shape, Store, Strategy, Windows};

#[test]
fn a_batch_holds_slices_of_its_stores_and_the_masks_of_its_windows() {
    const K: usize = 5;
    const D: usize = 3;
    const ROWS: usize = 40;
    let rows: Vec<f32> = (0..ROWS * D).map(|i| i as f32).collect();
    let flags: Vec<u8> = (0..ROWS).map(|i| u8::from(i % 7 != 0)).collect();
    let extra: Vec<f32> = (0..ROWS * 2).map(|i| -(i as f32)).collect();
    let timestamps: Vec<i64> = (0..ROWS as i64).map(|i| 60_000_000_000 * i).collect();
    // The dense layout of the windows that start at rows 10 to 29. A stride of 2 serves every second one.
    let starts: Vec<usize> = (10..30).collect();
    let dense: Vec<f32> = starts.iter().flat_map(|s| rows[s * D..(s + K) * D].to_vec()).collect();
    let dense_flags: Vec<u8> = starts.iter().flat_map(|s| flags[*s..s + K].to_vec()).collect();

    let per_bar = Store {
        features: &rows,
        valid: &flags,
        timestamps: &timestamps,
        extra: &extra,
        extra_width: 2,
        dense: false,
    };
    let by_window = Store { features: &dense, valid: &dense_flags, dense: true, ..per_bar };
    let (es, nq) = (symbol_hash("ES"), symbol_hash("NQ"));
    let pieces = vec![
        Piece { count: 4, row: 3, place: 3, store: 0, symbol: es },
        Piece { count: 5, row: 20, place: 20, store: 0, symbol: nq },
        Piece { count: 6, row: 12, place: 2, store: 1, symbol: es },
    ];
    let first_rows: Vec<(usize, u64)> = [(3, 4, es), (20, 5, nq), (12, 6, es)]
        .into_iter()
        .flat_map(|(row, n, symbol)| (0..n).map(move |i| (row + 2 * i, symbol)))
        .collect();
    let masking = Masking { seed: 1, epoch: 2, ratio: 0.5, strategy: Strategy::Random };

    for columns in [vec![], vec![1], vec![1, 0]] {
        let width = D + columns.len();
        let kept = [columns.clone(), columns.clone()];
        let shape = Shape { length: K, stride: 2, width: D, extra: &kept };
        let windows = Windows::new(vec![per_bar, by_window], pieces.clone(), shape).unwrap();
        assert_eq!((windows.count(), windows.length(), windows.row_width()), (15, K, width));

        // In any order, and some of them twice, over two batches.
        let chosen = [14, 0, 3, 4, 8, 9, 9, 7, 2, 13, 1];
        let (first, second) = (4, chosen.len() - 4);
        let mut x = [vec![0.0; first * K * width], vec![0.0; second * K * width]];
        let mut mask = [vec![9; first * K], vec![9; second * K]];
        let mut valid = [vec![9; first * K], vec![9; second * K]];
        let batches = x.iter_mut().zip(&mut mask).zip(&mut valid);
        let batches = batches.map(|((x, mask), valid)| Batch { x, mask, valid }).collect();
        windows.fill(&chosen, batches, &masking).unwrap();
        let (x, mask, valid) = (x.concat(), mask.concat(), valid.concat());

        for (i, &window) in chosen.iter().enumerate() {
            let (row, symbol) = first_rows[window as usize];
            let place = windows.place(window).unwrap();
            assert_eq!((place.row, place.symbol), (row as u64, symbol), "window {window}");
            assert_eq!(windows.last_time(&place), timestamps[row + K - 1]);
            let expected: Vec<f32> = (row..row + K)
                .flat_map(|r| {
                    let kept = columns.iter().map(move |c| -((2 * r + c) as f32));
                    (D * r..D * (r + 1)).map(|i| i as f32).chain(kept).collect::<Vec<f32>>()
                })
                .collect();
            assert_eq!(x[i * K * width..][..K * width], expected, "window {window}");
            assert_eq!(valid[i * K..][..K], flags[row..row + K], "window {window}");

            let key = windows.key(&place, masking.seed, masking.epoch);
            assert_eq!(key, masking.key(symbol, K, timestamps[row + K - 1]));

            // The mask belongs to the window: it is the same in a batch of its own.
            let (mut x, mut alone, mut valid) = (vec![0.0; K * width], [9; K], [9; K]);
            let batch = Batch { x: &mut x, mask: &mut alone, valid: &mut valid };
            windows.fill(&[window], vec![batch], &masking).unwrap();
            assert_eq!(mask[i * K..][..K], alone, "window {window}");
        }
    }
}

#[test]
fn pieces_arrays_and_batches_that_do_not_fit_are_refused() {
    let (features, valid, timestamps) = ([0.0; 20], [1; 10], [0; 10]);
    let store = Store {
        features: &features,
        valid: &valid,
        timestamps: &timestamps,
        extra: &[],
        extra_width: 0,
        dense: false,
    };
    let piece = Piece { count: 3, row: 0, place: 0, store: 0, symbol: 0 };
    let extra = [vec![]];
    let shape = Shape { length: 4, stride: 3, width: 2, extra: &extra };
    let windows = Windows::new(vec![store], vec![piece], shape).unwrap();
    assert_eq!((windows.count(), windows.place(2).unwrap().row, windows.place(3)), (3, 6, None));
    let bad = [
        Piece { count: 4, ..piece },
        Piece { count: 0, ..piece },
        Piece { row: 1, ..piece },
        Piece { place: 1, ..piece },
        Piece { store: 1, ..piece },
        Piece { count: u64::MAX, ..piece },
        Piece { row: u64::MAX, ..piece },
    ];
    for piece in bad {
        let refused = Windows::new(vec![store], vec![piece], shape);
        assert!(matches!(refused, Err(Error::Windows(_))), "{piece:?}");
    }
    let stores = [
        Store { features: &features[1..], ..store },
        Store { valid: &valid[1..], ..store },
        Store { extra: &features, extra_width: 3, ..store },
        Store { dense: true, ..store },
    ];
    for store in stores {
        assert!(matches!(Windows::new(vec![store], vec![], shape), Err(Error::Windows(_))), "{store:?}");
    }
    let shapes = [
        Shape { length: 0, ..shape },
        Shape { stride: 0, ..shape },
        Shape { width: 3, ..shape },
        Shape { extra: &[], ..shape },
        Shape { extra: &[vec![0]], ..shape },
    ];
    for shape in shapes {
        assert!(matches!(Windows::new(vec![store], vec![], shape), Err(Error::Windows(_))), "{shape:?}");
    }

    let fill = |chosen: &[u64], sizes: [usize; 3], ratio| {
        let (mut x, mut mask, mut valid) = (vec![0.0; sizes[0]], vec![0; sizes[1]], vec![0; sizes[2]]);
        let batch = Batch { x: &mut x, mask: &mut mask, valid: &mut valid };
        let masking = Masking { seed: 0, epoch: 0, ratio, strategy: Strategy::Random };
        windows.fill(chosen, vec![batch], &masking)
    };
    assert!(fill(&[0, 2], [16, 8, 8], 0.5).is_ok());
    assert!(matches!(fill(&[0, 3], [16, 8, 8], 0.5), Err(Error::NoWindow(3, 3))));
    for sizes in [[8, 8, 8], [16, 4, 8], [16, 8, 4], [16, 9, 8], [24, 12, 12]] {
        assert!(matches!(fill(&[0, 1], sizes, 0.5), Err(Error::Windows(_))), "{sizes:?}");
    }
    for ratio in [-0.1, 1.1, f64::NAN] {
        assert!(matches!(fill(&[0, 1], [16, 8, 8], ratio), Err(Error::Windows(_))), "{ratio}");
    }
}
