//! The masks of a masked autoencoder, drawn by integer arithmetic.
//!
//! A mask is a pure function of (seed, epoch, window). A window is (symbol, time of its last bar, K). The
//! mask does not depend on the batch, the order, the number of workers or the device. [`crate::keys`] defines
//! `G`, `mix` and `fold`.
//!
//! The key of a window is `fold(fold(fold(fold(fold(G, seed), epoch), symbol), K), time)`. `symbol` is the
//! 64-bit FNV-1a hash of its name's UTF-8 bytes. `time` is the last bar's timestamp in nanoseconds. Since
//! `mix` is a bijection and `G` is odd, two windows that differ only in their time never share a key. Item
//! `j` of a window has the hash `mix(key + G·(j + 1))`. For the same reason no two items of a window have the
//! same hash, so the n items with the smallest hashes are always well defined.
//!
//! With `v` valid positions, `m = floor(ratio · v)` of them are masked. `m` is computed in float64, as Python
//! computes `math.floor(ratio * v)`.
//!
//! - **random**: the items are the window's positions, counted from 0. The `m` valid positions with the smallest hashes
//!   are masked.
//! - **patch**: `m` positions make `r = ceil(m / patch_size)` runs. The valid positions, in order of time,
//!   are a sequence of `v − m + r` items: `r` runs, and `v − m` single positions that stay visible (stars and
//!   bars). The runs are the `r` items with the smallest hashes. A run covers `patch_size` consecutive valid
//!   positions, except the run with the largest hash, which covers the rest of `m`. So every arrangement of
//!   the runs is equally likely. Runs never overlap, but two may touch. Patches of 1 equal `random` if all
//!   positions are valid.

use crate::keys::{GOLDEN, fold, mix};
use crate::simd::at_level;

/// How masked positions are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Single positions.
    Random,
    /// In runs of this many positions.
    Patch(usize),
}

/// How a batch's masks are drawn.
#[derive(Clone, Copy, Debug)]
pub struct Masking {
    /// The seed of the training run.
    pub seed: u64,
    /// The epoch: every epoch has its own masks.
    pub epoch: u64,
    /// The share of valid positions that are masked, in 0 … 1.
    pub ratio: f64,
    /// How the masked positions are chosen.
    pub strategy: Strategy,
}

impl Masking {
    /// The key of a window: the hash of its symbol's name, its length and the time of its last bar.
    pub fn key(&self, symbol: u64, length: usize, time: i64) -> u64 {
        fold(self.base(symbol, length), time as u64)
    }

    /// The part of the key that all windows of one symbol and length share.
    pub(super) fn base(&self, symbol: u64, length: usize) -> u64 {
        [self.seed, self.epoch, symbol, length as u64].into_iter().fold(GOLDEN, fold)
    }

    fn masked_of(&self, valid: usize) -> usize {
        // The product can exceed `valid` only where the ratio exceeds 1.
        ((self.ratio * valid as f64).floor() as usize).min(valid)
    }
}

at_level! {
    /// Draws the masks of up to [`TOGETHER`] windows into `out`. `valid` says which positions are valid; `keys` has one
    /// key a window.
    pub(super) fn draw(keys: &[u64], masking: &Masking, valid: &[u8], scratch: &mut Scratch, out: &mut [u8]) = draw_body;
}

/// How many windows' masks are drawn together. While one of them waits for memory, the others have work.
pub(super) const TOGETHER: usize = 4;

/// Memory for drawing masks of one length.
pub(super) struct Scratch {
    /// `G·(j + 1)` for every item. A table is faster than a 64-bit product.
    steps: Vec<u64>,
    /// Each window's item hashes, padded with the largest number to a whole number of vectors.
    hashes: Vec<u64>,
}

impl Scratch {
    /// Memory for windows of `length` positions.
    pub(super) fn new(length: usize) -> Self {
        let steps = (1..=length as u64).map(|j| GOLDEN.wrapping_mul(j)).collect();
        // One iteration of the counting loop takes four of the widest vectors.
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
                    // No threshold is above the largest number, so invalid positions stay unmasked.
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

/// Masks `masked` valid positions in runs of `size`. An item whose hash lies below the threshold is a run.
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
            // The items cover the valid positions exactly, so there is an item for every position.
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

/// A search for a number that has exactly `rank` of `count` hashes below it. The search ends with that number in both
/// `low` and `high`.
#[derive(Clone, Copy)]
struct Search {
    rank: usize,
    low: u64,
    below_low: usize,
    high: u64,
    below_high: usize,
}

impl Search {
    /// A new search. It needs `0 < rank < count`, different hashes, and padding with the largest number.
    fn new(rank: usize, count: usize) -> Self {
        Search { rank, low: 0, below_low: 0, high: u64::MAX, below_high: count }
    }

    /// A finished search: no hash lies below 0.
    fn over() -> Self {
        Search { rank: 0, low: 0, below_low: 0, high: 0, below_high: 0 }
    }
}

/// Finishes every search; each has its own `padded` hashes.
///
/// Hashes are uniform, so the rank predicts the value well, and each pass over the few vectors of hashes
/// improves the guess. This takes three to five passes. Sorting or selecting would branch at every step.
#[inline(always)]
fn find_thresholds(hashes: &[u64], padded: usize, searches: &mut [Search]) {
    let mut passes = 0;
    loop {
        let mut found = true;
        for (Search { rank, low, below_low, high, below_high }, hashes) in
            searches.iter_mut().zip(hashes.chunks_exact(padded))
        {
            // Later passes bisect. This bounds the passes by the number of bits, even for hashes that are far
            // from uniform.
            let share = match passes {
                0..8 => ((*rank - *below_low) as f64 + 0.5) / ((*below_high - *below_low) as f64 + 1.0),
                _ => 0.5,
            };
            // The guess lies at least 1 above `low`, which has too few hashes below it, and at most at `high`.
            let step = ((*high - *low) as f64 * share) as u64;
            let guess = *low + step.max(1).min(*high - *low);
            let below = hashes.iter().map(|&hash| u64::from(hash < guess)).sum::<u64>() as usize;
            found &= below == *rank;
            // A select, not a branch: the outcome is unpredictable.
            (*low, *below_low) = if below <= *rank { (guess, below) } else { (*low, *below_low) };
            (*high, *below_high) = if below >= *rank { (guess, below) } else { (*high, *below_high) };
        }
        if found {
            return;
        }
        passes += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, prop_oneof, proptest};

    use super::*;

    proptest! {
        #[test]
        fn thresholds_are_found_for_any_hashes(
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
}
