//! The windows of a split, numbered from 0, and the place of each one.

use super::masks::{Masking, Strategy};
use crate::error::Error;
use crate::simd::Level;

/// The arrays of one store, in the per-bar or the dense layout.
#[derive(Clone, Copy, Debug)]
pub struct Store<'a> {
    /// `[N, D]`, or `[W, K, D]` in the dense layout.
    pub features: &'a [f32],
    /// `[N]` or `[W, K]`; 0 means invalid.
    pub valid: &'a [u8],
    /// `[N]`.
    pub timestamps: &'a [i64],
    /// `[N, E]`: all kept columns.
    pub extra: &'a [f32],
    /// E.
    pub extra_width: usize,
    /// Whether the layout is dense: windows are stored one by one.
    pub dense: bool,
}

/// Consecutive windows of one segment, `stride` bars apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Number of windows, at least 1.
    pub count: u64,
    /// The row of the first window's first bar.
    pub row: u64,
    /// The first window's position in the features: its row, or its number in the dense layout.
    pub place: u64,
    /// The store's number.
    pub store: u32,
    /// The symbol's [`symbol_hash`](crate::keys::symbol_hash).
    pub symbol: u64,
}

/// The place of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The store's number.
    pub store: u32,
    /// The row of the window's first bar.
    pub row: u64,
    /// Its position in the features, as in [`Piece::place`].
    pub place: u64,
    /// The hash of its symbol's name.
    pub symbol: u64,
}

/// How windows are cut.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'a> {
    /// K, bars in a window.
    pub length: usize,
    /// Bars from one window to the next.
    pub stride: u64,
    /// D, features a bar.
    pub width: usize,
    /// For each store, the kept columns that follow the features in a batch.
    pub extra: &'a [Vec<usize>],
}

/// All windows of a split, over one or more stores, numbered from 0. Memory grows with the pieces, not the windows.
#[derive(Debug)]
pub struct Windows<'a> {
    pub(super) stores: Vec<Store<'a>>,
    pub(super) extra: Vec<Vec<usize>>,
    pieces: Vec<Piece>,
    /// The number of the first window of each piece.
    firsts: Vec<u64>,
    pub(super) count: u64,
    pub(super) length: usize,
    stride: u64,
    pub(super) width: usize,
    /// D plus the number of kept columns.
    pub(super) row_width: usize,
    pub(super) level: Level,
}

impl<'a> Windows<'a> {
    /// The windows of these pieces. Refuses pieces that reach beyond their store's arrays, and arrays of the
    /// wrong length.
    pub fn new(stores: Vec<Store<'a>>, pieces: Vec<Piece>, shape: Shape<'_>) -> Result<Self, Error> {
        let Shape { length, stride, width, extra } = shape;
        let fits = |ok: bool, problem| if ok { Ok(()) } else { Err(Error::Windows(problem)) };
        fits(length > 0 && stride > 0 && width > 0, "length, stride and width must be at least 1")?;
        fits(extra.len() == stores.len(), "every store needs its list of kept columns")?;
        let kept = extra.first().map_or(0, Vec::len);
        for (store, columns) in stores.iter().zip(extra) {
            let rows = store.timestamps.len();
            fits(columns.len() == kept, "stores differ in the number of kept columns")?;
            fits(columns.iter().all(|&c| c < store.extra_width), "a kept column does not exist")?;
            fits(store.extra.len() == rows * store.extra_width, "extra has the wrong length")?;
            let positions = store.valid.len();
            let whole = if store.dense { positions % length == 0 } else { positions == rows };
            fits(whole, "valid has the wrong length")?;
            fits(store.features.len() == positions * width, "features has the wrong length")?;
        }
        let mut firsts = Vec::with_capacity(pieces.len());
        let mut count = 0_u64;
        for piece in &pieces {
            let store = stores.get(piece.store as usize).ok_or(Error::Windows("a piece has no store"))?;
            // The exclusive ends of the rows and of the places that the piece's windows need.
            let span = piece.count.checked_sub(1).and_then(|steps| steps.checked_mul(stride));
            let rows = span.and_then(|span| span.checked_add(piece.row)?.checked_add(length as u64));
            let unit = if store.dense { 1 } else { length as u64 };
            let places = span.and_then(|span| span.checked_add(piece.place)?.checked_add(unit));
            let units = if store.dense { store.valid.len() / length } else { store.valid.len() } as u64;
            let inside = rows.is_some_and(|end| end <= store.timestamps.len() as u64)
                && places.is_some_and(|end| end <= units);
            fits(inside, "a piece lies outside its store")?;
            firsts.push(count);
            count += piece.count;
        }
        let (extra, row_width, level) = (extra.to_vec(), width + kept, Level::best());
        Ok(Windows { stores, extra, pieces, firsts, count, length, stride, width, row_width, level })
    }

    /// The same windows, with masks drawn by the vector instructions of `level`. The processor must have them. Tests
    /// compare the levels.
    pub fn at_level(self, level: Level) -> Result<Self, Error> {
        if !Level::available().contains(&level) {
            return Err(Error::Windows("this processor lacks the vector instructions of this level"));
        }
        Ok(Windows { level, ..self })
    }

    /// Number of windows.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// K, bars in a window.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Values at each position of a batch: the features and the kept columns.
    pub fn row_width(&self) -> usize {
        self.row_width
    }

    /// The place of a window; `None` if there is no such window.
    pub fn place(&self, window: u64) -> Option<Place> {
        if window >= self.count {
            return None;
        }
        let i = self.firsts.partition_point(|&first| first <= window) - 1;
        let piece = &self.pieces[i];
        let offset = (window - self.firsts[i]) * self.stride;
        Some(Place {
            store: piece.store,
            row: piece.row + offset,
            place: piece.place + offset,
            symbol: piece.symbol,
        })
    }

    /// The time of a window's last bar.
    pub fn last_time(&self, place: &Place) -> i64 {
        self.stores[place.store as usize].timestamps[place.row as usize + self.length - 1]
    }

    /// The key of a window's mask.
    pub fn key(&self, place: &Place, seed: u64, epoch: u64) -> u64 {
        let masking = Masking { seed, epoch, ratio: 0.0, strategy: Strategy::Random };
        masking.key(place.symbol, self.length, self.last_time(place))
    }
}
