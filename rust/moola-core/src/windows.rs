//! Windows over per-bar arrays: gathering batches of them, and drawing the masks of a masked autoencoder.
//!
//! # Masks
//!
//! A mask is a pure function of (seed, epoch, window), where a window is (symbol, time of its last bar, K): neither the
//! batch it is served in, nor the order, nor the number of workers, nor the device plays a part. All arithmetic is on 64
//! bits and wraps; it takes additions, multiplications, exclusive ors and logical shifts, which every tensor library
//! has. With
//!
//! ```text
//! G      = 0x9e3779b97f4a7c15
//! mix(z) : z ^= z >> 30;  z *= 0xbf58476d1ce4e5b9;  z ^= z >> 27;  z *= 0x94d049bb133111eb;  z ^= z >> 31
//! fold(h, x) = mix(h + G·x)
//! ```
//!
//! (`mix` is the finaliser of SplitMix64: Steele, Lea and Flood, *Fast Splittable Pseudorandom Number Generators*, 2014),
//! the key of a window is `fold(fold(fold(fold(fold(G, seed), epoch), symbol), K), time)`: `symbol` is the 64-bit FNV-1a
//! hash of its name's UTF-8 bytes, `time` the last bar's timestamp in nanoseconds. Since `mix` is a bijection and `G` is
//! odd, windows that differ in their time alone never share a key. Item `j` of a window has the hash
//! `mix(key + G·(j + 1))`; for the same reason no two items of a window have the same hash, so that the n items with the
//! smallest hashes are always well defined.
//!
//! Of `v` valid positions, `m = floor(ratio · v)` are masked, in float64 as Python computes `math.floor(ratio * v)`.
//!
//! - **random**: the items are the window's positions, counted from 0. Masked are the `m` valid ones with the smallest
//!   hashes.
//! - **patch**: `m` positions make `r = ceil(m / patch_size)` runs. The valid positions, in order of time, are a
//!   sequence of `v − m + r` items, of which `r` are runs and the others are single positions that stay (stars and
//!   bars): the runs are the `r` items with the smallest hashes. A run covers `patch_size` consecutive valid positions;
//!   the one drawn last, which has the largest hash among them, covers what is left of `m`. So every arrangement of the
//!   runs is equally likely, none overlap, and two may touch. Patches of 1 are `random`, where all positions are valid.

use crate::error::Error;
use crate::simd::{Level, Purpose, at_level, prefetch};

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A bijection on 64 bits in which every bit of the input moves half of the output's.
#[inline(always)]
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// `h` with one more word in it.
#[inline(always)]
pub(crate) fn fold(h: u64, x: u64) -> u64 {
    mix(h.wrapping_add(GOLDEN.wrapping_mul(x)))
}

/// The hash of item `j`.
#[cfg(test)]
fn item_hash(key: u64, j: usize) -> u64 {
    mix(key.wrapping_add(GOLDEN.wrapping_mul(j as u64 + 1)))
}

/// The 64-bit FNV-1a hash of a symbol's name.
pub fn symbol_hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// How positions are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Each by itself.
    Random,
    /// In runs of so many.
    Patch(usize),
}

/// How a batch's masks are drawn.
#[derive(Clone, Copy, Debug)]
pub struct Masking {
    /// Of the whole training run.
    pub seed: u64,
    /// Each has masks of its own.
    pub epoch: u64,
    /// The share of valid positions that are masked, in 0 … 1.
    pub ratio: f64,
    /// Which of them.
    pub strategy: Strategy,
}

impl Masking {
    /// What all windows of one symbol and length share of their key.
    fn base(&self, symbol: u64, length: usize) -> u64 {
        [self.seed, self.epoch, symbol, length as u64].into_iter().fold(GOLDEN, fold)
    }

    fn masked_of(&self, valid: usize) -> usize {
        // Never more than there are: a product that rounds up to the next whole number needs a ratio above 1.
        ((self.ratio * valid as f64).floor() as usize).min(valid)
    }
}

at_level! {
    /// Draws the masks of up to [`TOGETHER`] windows into `out`, given which positions are valid.
    fn draw(keys: &[u64], masking: &Masking, valid: &[u8], scratch: &mut Scratch, out: &mut [u8]) = draw_body;
}

/// How many windows' masks are drawn side by side: what one of them waits for, the others fill with work.
const TOGETHER: usize = 4;

/// Memory for drawing masks of one length.
struct Scratch {
    /// `G·(j + 1)` for every item: a table is quicker than a 64-bit product.
    steps: Vec<u64>,
    /// For each window its items' hashes, then the largest number up to a whole number of vectors.
    hashes: Vec<u64>,
}

impl Scratch {
    fn new(length: usize) -> Self {
        let steps = (1..=length as u64).map(|j| GOLDEN.wrapping_mul(j)).collect();
        // Four of the widest vectors make one turn of the loop that counts.
        Scratch { steps, hashes: vec![u64::MAX; TOGETHER * length.next_multiple_of(32)] }
    }
}

#[inline(always)]
fn draw_body(keys: &[u64], masking: &Masking, valid: &[u8], scratch: &mut Scratch, out: &mut [u8]) {
    let Scratch { steps, hashes } = scratch;
    let (length, padded) = (steps.len(), hashes.len() / TOGETHER);
    let (mut counts, mut searches) = ([(0, 0); TOGETHER], [Search::over(); TOGETHER]);
    let searches = &mut searches[..keys.len()];
    for (i, (&key, hashes)) in keys.iter().zip(hashes.chunks_exact_mut(padded)).enumerate() {
        let valid = &valid[i * length..][..length];
        let count = valid.iter().map(|&v| u32::from(v != 0)).sum::<u32>() as usize;
        let masked = masking.masked_of(count);
        counts[i] = (count, masked);
        if masked == 0 || masked == count {
            continue;
        }
        match masking.strategy {
            Strategy::Random => {
                for ((hash, &step), &v) in hashes.iter_mut().zip(&*steps).zip(valid) {
                    // The largest number is below no threshold.
                    *hash = if v != 0 { mix(key.wrapping_add(step)) } else { u64::MAX };
                }
                searches[i] = Search::new(masked, count);
            }
            Strategy::Patch(size) => {
                let runs = masked.div_ceil(size);
                let items = count - masked + runs;
                for (hash, &step) in hashes.iter_mut().zip(&steps[..items]) {
                    *hash = mix(key.wrapping_add(step));
                }
                hashes[items..].fill(u64::MAX);
                searches[i] = Search::new(runs, items);
            }
        }
    }
    find_thresholds(hashes, padded, searches);
    for (i, (search, hashes)) in searches.iter().zip(hashes.chunks_exact(padded)).enumerate() {
        let (valid, out) = (&valid[i * length..][..length], &mut out[i * length..][..length]);
        match (counts[i], masking.strategy) {
            ((_, 0), _) => out.fill(0),
            ((count, masked), _) if masked == count => out.copy_from_slice(valid),
            (_, Strategy::Random) => {
                for (out, &hash) in out.iter_mut().zip(hashes) {
                    *out = u8::from(hash < search.low);
                }
            }
            ((_, masked), Strategy::Patch(size)) => lay_runs(hashes, search.low, masked, size, valid, out),
        }
    }
}

/// Masks `masked` valid positions in runs of `size`: those of the items whose hashes lie below the threshold.
#[inline(always)]
fn lay_runs(hashes: &[u64], threshold: u64, masked: usize, size: usize, valid: &[u8], out: &mut [u8]) {
    let last = hashes.iter().copied().filter(|&h| h < threshold).max();
    let mut hashes = hashes.iter();
    let (mut left, mut is_run) = (0, false);
    for (out, &v) in out.iter_mut().zip(valid) {
        *out = 0;
        if v == 0 {
            continue;
        }
        if left == 0 {
            // The items cover the valid positions exactly.
            let hash = hashes.next().copied().unwrap_or(u64::MAX);
            is_run = hash < threshold;
            left = match is_run {
                false => 1,
                true if Some(hash) == last => masked - (masked.div_ceil(size) - 1) * size,
                true => size,
            };
        }
        *out = u8::from(is_run);
        left -= 1;
    }
}

/// A search for a number that exactly `rank` of `count` hashes lie below: once found, it is `low`, and `high` too.
#[derive(Clone, Copy)]
struct Search {
    rank: usize,
    low: u64,
    below_low: usize,
    high: u64,
    below_high: usize,
}

impl Search {
    /// Where `0 < rank < count`, the hashes that count are different, and all others are the largest number.
    fn new(rank: usize, count: usize) -> Self {
        Search { rank, low: 0, below_low: 0, high: u64::MAX, below_high: count }
    }

    /// None lie below 0.
    fn over() -> Self {
        Search { rank: 0, low: 0, below_low: 0, high: 0, below_high: 0 }
    }
}

/// Ends each search, over its own `padded` hashes.
///
/// Hashes are uniform, so the place of the rank-th is a good guess at its value, and each pass over the hashes, a few
/// vectors of them, sharpens the guess: three to five passes, where sorting or selecting would branch at every step.
#[inline(always)]
fn find_thresholds(hashes: &[u64], padded: usize, searches: &mut [Search]) {
    let mut passes = 0;
    loop {
        let mut found = true;
        for (Search { rank, low, below_low, high, below_high }, hashes) in
            searches.iter_mut().zip(hashes.chunks_exact(padded))
        {
            // Hashes in a bad position, which nobody will ever see, cost as many passes as there are bits.
            let share = match passes {
                0..8 => ((*rank - *below_low) as f64 + 0.5) / ((*below_high - *below_low) as f64 + 1.0),
                _ => 0.5,
            };
            // At least 1 above `low`, below which there are too few; at most `high`.
            let step = ((*high - *low) as f64 * share) as u64;
            let guess = *low + step.max(1).min(*high - *low);
            let below = hashes.iter().map(|&hash| u64::from(hash < guess)).sum::<u64>() as usize;
            found &= below == *rank;
            // Selected, not branched to: nobody can guess which.
            (*low, *below_low) = if below <= *rank { (guess, below) } else { (*low, *below_low) };
            (*high, *below_high) = if below >= *rank { (guess, below) } else { (*high, *below_high) };
        }
        if found {
            return;
        }
        passes += 1;
    }
}

/// The arrays of one store, of either layout.
#[derive(Clone, Copy, Debug)]
pub struct Store<'a> {
    /// `[N, D]`, or `[W, K, D]` where windows are stored one by one.
    pub features: &'a [f32],
    /// `[N]` or `[W, K]`; 0 is false.
    pub valid: &'a [u8],
    /// `[N]`.
    pub timestamps: &'a [i64],
    /// `[N, E]`, all columns that were kept.
    pub extra: &'a [f32],
    /// E.
    pub extra_width: usize,
    /// Whether windows are stored one by one.
    pub dense: bool,
}

/// Windows that follow each other, `stride` bars apart, in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Number of windows, at least 1.
    pub count: u64,
    /// The row of the first window's first bar.
    pub row: u64,
    /// Where the first window stands in the features: its row, or its number where windows are stored one by one.
    pub place: u64,
    /// Which store.
    pub store: u32,
    /// [`symbol_hash`] of the symbol's name.
    pub symbol: u64,
}

/// Where a window is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Which store.
    pub store: u32,
    /// The row of its first bar.
    pub row: u64,
    /// Where it stands in the features.
    pub place: u64,
    /// The hash of its symbol.
    pub symbol: u64,
}

/// What windows are cut from, and how.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'a> {
    /// K, bars in a window.
    pub length: usize,
    /// Bars from one window to the next.
    pub stride: u64,
    /// D, features a bar.
    pub width: usize,
    /// The kept columns that are appended to the features, of each store.
    pub extra: &'a [Vec<usize>],
}

/// A batch to be filled: of B windows, each array C-ordered.
#[derive(Debug)]
pub struct Batch<'a> {
    /// `[B, K, D + E]`.
    pub x: &'a mut [f32],
    /// `[B, K]`, 1 where a position is masked.
    pub mask: &'a mut [u8],
    /// `[B, K]`, 1 where a bar is valid.
    pub valid: &'a mut [u8],
}

/// All windows of a split, over one or more stores, numbered from 0. Memory grows with the pieces, not the windows.
#[derive(Debug)]
pub struct Windows<'a> {
    stores: Vec<Store<'a>>,
    extra: Vec<Vec<usize>>,
    pieces: Vec<Piece>,
    /// The number of each piece's first window.
    firsts: Vec<u64>,
    count: u64,
    length: usize,
    stride: u64,
    width: usize,
    /// D and the kept columns.
    row_width: usize,
    level: Level,
}

impl<'a> Windows<'a> {
    /// Checks that every window lies within its store's arrays.
    pub fn new(stores: Vec<Store<'a>>, pieces: Vec<Piece>, shape: Shape<'_>) -> Result<Self, Error> {
        let Shape { length, stride, width, extra } = shape;
        let fits = |ok: bool, problem| if ok { Ok(()) } else { Err(Error::Windows(problem)) };
        fits(length > 0 && stride > 0 && width > 0, "length, stride and width must be at least 1")?;
        fits(extra.len() == stores.len(), "every store needs its list of kept columns")?;
        let kept = extra.first().map_or(0, Vec::len);
        for (store, columns) in stores.iter().zip(extra) {
            let rows = store.timestamps.len();
            fits(columns.len() == kept, "stores differ in the number of kept columns")?;
            fits(columns.iter().all(|&c| c < store.extra_width), "there is no such kept column")?;
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
            // The last row and the last place that the piece's windows need, both exclusive.
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

    /// How many windows there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// K.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Values a position of a batch has: the features, and the kept columns.
    pub fn row_width(&self) -> usize {
        self.row_width
    }

    /// Where a window is; none where there is no such window.
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
        fold(masking.base(place.symbol, self.length), self.last_time(place) as u64)
    }

    /// Fills batches with the windows of these numbers, in order, on this thread: whoever has several batches to fill and
    /// several processors calls it from as many threads. One batch is too little work to split.
    pub fn fill(&self, windows: &[u64], batches: Vec<Batch<'_>>, masking: &Masking) -> Result<(), Error> {
        if let Strategy::Patch(0) = masking.strategy {
            return Err(Error::Windows("a patch has at least one position"));
        }
        if !(0.0..=1.0).contains(&masking.ratio) {
            return Err(Error::Windows("the masked share lies in 0 … 1"));
        }
        let mut rest = windows;
        let mut work = Vec::with_capacity(batches.len());
        for batch in batches {
            let size = batch.mask.len() / self.length;
            let (these, others) = rest.split_at_checked(size).ok_or(Error::Windows(SIZES))?;
            let positions = size * self.length;
            if [batch.mask.len(), batch.valid.len()] != [positions; 2]
                || batch.x.len() != positions * self.row_width
            {
                return Err(Error::Windows(SIZES));
            }
            let places = these.iter().map(|&w| self.place(w).ok_or(Error::NoWindow(w, self.count)));
            work.push((places.collect::<Result<Vec<_>, _>>()?, batch));
            rest = others;
        }
        if !rest.is_empty() {
            return Err(Error::Windows(SIZES));
        }
        if windows.is_empty() {
            // Where no window is long enough, there may be no memory for the scratch of one.
            return Ok(());
        }
        let mut scratch = Scratch::new(self.length);
        for (places, batch) in work {
            self.fill_one(&places, batch, masking, &mut scratch);
        }
        Ok(())
    }

    fn fill_one(&self, places: &[Place], batch: Batch<'_>, masking: &Masking, scratch: &mut Scratch) {
        let Batch { x, mask, valid } = batch;
        let (length, size) = (self.length, self.length * self.row_width);
        let mut base = (None, 0);
        let mut keys = [0; TOGETHER];
        for (i, place) in places.iter().enumerate() {
            if let Some(later) = places.get(i + AHEAD) {
                self.prefetch(later);
            }
            let store = &self.stores[place.store as usize];
            let position = place.place as usize * if store.dense { length } else { 1 };
            let source = &store.features[position * self.width..][..length * self.width];
            let out = &mut x[i * size..][..size];
            let columns = &self.extra[place.store as usize];
            if columns.is_empty() {
                out.copy_from_slice(source);
            } else {
                let extra = &store.extra[place.row as usize * store.extra_width..];
                let rows = source.chunks_exact(self.width).zip(extra.chunks_exact(store.extra_width));
                for (out, (features, extra)) in out.chunks_exact_mut(self.row_width).zip(rows) {
                    let (head, tail) = out.split_at_mut(self.width);
                    head.copy_from_slice(features);
                    for (out, &column) in tail.iter_mut().zip(columns) {
                        *out = extra[column];
                    }
                }
            }
            let valid_of = &mut valid[i * length..][..length];
            for (out, &v) in valid_of.iter_mut().zip(&store.valid[position..][..length]) {
                *out = u8::from(v != 0);
            }
            if base.0 != Some(place.symbol) {
                base = (Some(place.symbol), masking.base(place.symbol, length));
            }
            let (group, at) = (i - i % TOGETHER, i % TOGETHER);
            keys[at] = fold(base.1, self.last_time(place) as u64);
            if at + 1 == TOGETHER || i + 1 == places.len() {
                let these = group * length..(i + 1) * length;
                draw(self.level, &keys[..=at], masking, &valid[these.clone()], scratch, &mut mask[these]);
            }
        }
    }

    /// Asks for a window's memory while there is still other work to do: windows lie at random places, so that each
    /// begins with a wait for address and data. All of its lines, and not into the nearest cache, which has no room for
    /// the windows to come.
    #[inline(always)]
    fn prefetch(&self, place: &Place) {
        const LINE: usize = 64;
        let store = &self.stores[place.store as usize];
        let position = place.place as usize * if store.dense { self.length } else { 1 };
        let first = store.features[position * self.width..].as_ptr().cast::<u8>();
        for offset in (0..self.length * self.width * size_of::<f32>()).step_by(LINE) {
            prefetch(first.wrapping_add(offset), Purpose::Later);
        }
        prefetch(&raw const store.valid[position], Purpose::Now);
        prefetch(&raw const store.timestamps[place.row as usize + self.length - 1], Purpose::Now);
    }
}

/// How many windows ahead memory is asked for.
const AHEAD: usize = 8;

const SIZES: &str = "the batches do not have room for exactly these windows";

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy as _, any, prop_assert_eq, prop_oneof, proptest};

    use super::*;

    fn drawn(level: Level, key: u64, ratio: f64, strategy: Strategy, valid: &[u8]) -> Vec<u8> {
        // Drawn twice: what the first leaves behind must not show.
        let mut scratch = Scratch::new(valid.len());
        let masking = Masking { seed: 0, epoch: 0, ratio, strategy };
        let mut draw = |keys: &[u64], strategy, valid: &[u8]| {
            let mut out = vec![7; valid.len()];
            draw(level, keys, &Masking { strategy, ..masking }, valid, &mut scratch, &mut out);
            out
        };
        let (full, beside) = (vec![1; valid.len()], valid.iter().rev().copied().collect());
        draw(&[!key; TOGETHER], Strategy::Random, &full.repeat(TOGETHER));
        // In the middle of others: what they have must not show either.
        let out = draw(&[!key, key, key], strategy, &[beside, valid.to_vec(), full].concat());
        out[valid.len()..2 * valid.len()].to_vec()
    }

    /// The definition, word for word.
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
        fn masks_are_as_defined_at_every_level(
            key: u64,
            ratio in prop_oneof![Just(0.0), Just(1.0), Just(0.15), 0.0..=1.0],
            size in prop_oneof![Just(None), (1_usize..20).prop_map(Some)],
            valid in prop_oneof![
                (1_usize..300).prop_map(|n| vec![1_u8; n]),
                (0_usize..200, 0_usize..200).prop_map(|(a, b)| [vec![0; a], vec![1; b]].concat()),
                proptest::collection::vec(0_u8..=1, 1..200),
            ],
        ) {
            let strategy = size.map_or(Strategy::Random, Strategy::Patch);
            let expected = expected(key, ratio, strategy, &valid);
            for level in Level::available() {
                prop_assert_eq!(&drawn(level, key, ratio, strategy, &valid), &expected);
            }
        }

        #[test]
        fn thresholds_are_found_however_hashes_lie(
            hashes in proptest::collection::hash_set(
                prop_oneof![0_u64..40, (u64::MAX - 40)..=u64::MAX, any::<u64>()], 2..60),
            rank: proptest::sample::Index,
        ) {
            let hashes: Vec<u64> = hashes.into_iter().collect();
            let rank = 1 + rank.index(hashes.len() - 1);
            let mut padded = hashes.clone();
            padded.resize(64, u64::MAX);
            let mut searches = [Search::over(), Search::new(rank, hashes.len())];
            find_thresholds(&padded.repeat(2), padded.len(), &mut searches);
            prop_assert_eq!(searches[0].low, 0);
            prop_assert_eq!(hashes.iter().filter(|&&h| h < searches[1].low).count(), rank);
        }
    }

    /// Changing these numbers changes every mask that anyone has trained with.
    #[test]
    fn hashes_never_change() {
        // The first outputs of SplitMix64 seeded with 0, as its authors' code prints them.
        assert_eq!(
            [0, 1, 2].map(|j| item_hash(0, j)),
            [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f,]
        );
        // From the FNV authors' test vectors.
        assert_eq!(symbol_hash(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(symbol_hash("foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn every_input_of_the_key_matters() {
        let key = |seed, epoch, symbol, length, time: i64| {
            let masking = Masking { seed, epoch, ratio: 0.5, strategy: Strategy::Random };
            fold(masking.base(symbol_hash(symbol), length), time as u64)
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
        // Keys as they come: windows of neighbouring minutes.
        let keys = (0..100_000_u64).map(|i| fold(1, i * 60_000_000_000));
        let (mut positions, mut pairs) = ([0; K], vec![0; K * (K - 1) / 2]);
        for key in keys {
            let mask = drawn(Level::best(), key, 0.15, Strategy::Random, &[1; K]);
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
        for i in 0..70_000_u64 {
            let mask = drawn(Level::best(), mix(i), 0.6, Strategy::Patch(2), &[1; 9]);
            assert_eq!(mask.iter().sum::<u8>(), 5);
            short_first += u64::from(mask.starts_with(&[1, 0]));
            *arrangements.entry(mask).or_default() += 1;
        }
        // A short run, then one that stays: 1 of 3 runs is short and leads, 1 of 3 choices of items begins with it, ...
        let probability = (3.0 / 7.0) * (4.0 / 6.0) / 3.0;
        let expected = 70_000.0 * probability;
        assert!((short_first as f64 - expected).abs() < 5.0 * (expected * (1.0 - probability)).sqrt());
        // Runs that touch look alike, so what is compared is what cannot be confused: all three apart.
        let apart = arrangements
            .iter()
            .filter(|(mask, _)| mask.split(|&m| m == 0).filter(|run| !run.is_empty()).count() == 3);
        let counts: Vec<u64> = apart.map(|(_, &count)| count).collect();
        assert_eq!(counts.len(), 10 * 3);
        assert!(chi_square(&counts) < 4.0, "{counts:?}");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
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
}
