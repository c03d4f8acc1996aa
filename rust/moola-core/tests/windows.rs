//! Windows and batches: what does not fit is refused.

use moola_core::Error;
use moola_core::windows::{Batch, Masking, Piece, Shape, Store, Strategy, Windows};

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
