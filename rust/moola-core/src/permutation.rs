//! Shuffling by arithmetic: gives the number at any position of a permutation, without storing a list.
//!
//! A permutation of `0 … count − 1` is a Feistel network over the fewest bits that hold `count` numbers. A
//! number that leaves the range goes through the network again until it is below `count` (cycle walking:
//! Black and Rogaway, *Ciphers with Arbitrary Finite Domains*, 2002). This takes fewer than two turns on
//! average. Memory does not grow with `count`, and a shuffled epoch can start at any position.

use crate::keys::{fold, mix};
use crate::simd::{Level, at_level};

/// Four rounds of random functions make a Feistel network indistinguishable from a random permutation; six are safe.
const ROUNDS: u64 = 6;

/// The key of the permutation that belongs to these numbers.
pub fn key(words: &[u64]) -> u64 {
    // The keys of masks begin with another word.
    words.iter().copied().fold(0x7065_726d_7574_6174, fold)
}

/// The split of a number into two halves.
#[derive(Clone, Copy)]
struct Halves {
    low: u32,
    low_mask: u64,
    high_mask: u64,
}

at_level! {
    /// Passes each number through the network once.
    fn turn(numbers: &mut [u64], halves: Halves, key: u64) = turn_body;
}

#[inline(always)]
fn turn_body(numbers: &mut [u64], halves: Halves, key: u64) {
    let Halves { low, low_mask, high_mask } = halves;
    for number in numbers {
        let (mut a, mut b) = (*number & low_mask, *number >> low);
        for round in 0..ROUNDS {
            let round_key = key.wrapping_add(round << 32);
            // The upper bits of a product are the best mixed.
            if round % 2 == 0 {
                b ^= (mix(round_key ^ a) >> 32) & high_mask;
            } else {
                a ^= (mix(round_key ^ b) >> 32) & low_mask;
            }
        }
        *number = b << low | a;
    }
}

/// Replaces each position by the number at that position in the permutation of `0 … count − 1` with this key. Positions
/// must lie below `count`, and `count` must be at most 2⁶².
pub fn permute(positions: &mut [u64], count: u64, key: u64) {
    permute_at(Level::best(), positions, count, key);
}

fn permute_at(level: Level, positions: &mut [u64], count: u64, key: u64) {
    debug_assert!(positions.iter().all(|&p| p < count));
    // Each half needs at least one bit.
    let bits = (u64::BITS - count.saturating_sub(1).leading_zeros()).max(2);
    let low = bits / 2;
    let halves = Halves { low, low_mask: (1 << low) - 1, high_mask: (1 << (bits - low)) - 1 };
    turn(level, positions, halves, key);
    // Numbers outside the range take another turn, all together so that vectors stay full.
    let mut outside: Vec<usize> = (0..positions.len()).filter(|&i| positions[i] >= count).collect();
    let mut numbers = Vec::with_capacity(outside.len());
    while !outside.is_empty() {
        numbers.clear();
        numbers.extend(outside.iter().map(|&i| positions[i]));
        turn(level, &mut numbers, halves, key);
        outside.iter().zip(&numbers).for_each(|(&i, &number)| positions[i] = number);
        outside.retain(|&i| positions[i] >= count);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn permuted(positions: impl IntoIterator<Item = u64>, count: u64, key: u64) -> Vec<u64> {
        let mut numbers: Vec<u64> = positions.into_iter().collect();
        permute(&mut numbers, count, key);
        numbers
    }

    proptest! {
        #[test]
        fn every_number_comes_once(count in 1_u64..3000, key: u64) {
            let numbers = permuted(0..count, count, key);
            for level in Level::available() {
                let mut same: Vec<u64> = (0..count).collect();
                permute_at(level, &mut same, count, key);
                prop_assert_eq!(&same, &numbers);
            }
            let mut seen = vec![false; count as usize];
            for number in numbers {
                prop_assert!(!std::mem::replace(&mut seen[number as usize], true));
            }
        }

        #[test]
        fn large_counts_stay_in_range(count in 1_u64..=1 << 62, position: u64, key: u64) {
            prop_assert!(permuted([position % count], count, key)[0] < count);
        }
    }

    #[test]
    fn every_place_and_every_neighbour_is_equally_likely() {
        // Over many keys, each number stands equally often at each position and follows each other number
        // equally often.
        const N: usize = 11;
        let mut places = vec![0_u64; N * N];
        let mut pairs = vec![0_u64; N * N];
        let keys = 40_000;
        for k in 0..keys {
            let numbers = permuted(0..N as u64, N as u64, key(&[0, k])).into_iter().map(|n| n as usize);
            let numbers: Vec<usize> = numbers.collect();
            numbers.iter().enumerate().for_each(|(p, &n)| places[p * N + n] += 1);
            numbers.windows(2).for_each(|two| pairs[two[0] * N + two[1]] += 1);
        }
        let far = |counts: &mut dyn Iterator<Item = u64>, expected: f64| {
            counts.map(|c| (c as f64 - expected).abs() / expected.sqrt()).fold(0.0, f64::max)
        };
        let expected = keys as f64 / N as f64;
        assert!(far(&mut places.iter().copied(), expected) < 5.0, "{places:?}");
        let others = pairs.iter().enumerate().filter(|(i, _)| i / N != i % N).map(|(_, &c)| c);
        assert!(far(&mut others.into_iter(), expected) < 5.0, "{pairs:?}");
    }

    #[test]
    fn a_long_epoch_is_mixed_throughout() {
        // Cell (i, j) counts the numbers of hundredth j at the places of hundredth i.
        const N: u64 = 1_000_000;
        let mut cells = vec![0_u64; 10_000];
        for (position, number) in permuted(0..N, N, key(&[1, 2])).into_iter().enumerate() {
            cells[position / 10_000 * 100 + number as usize / 10_000] += 1;
        }
        let statistic: f64 = cells.iter().map(|&c| (c as f64 - 100.0).powi(2) / 100.0).sum();
        // Both margins are fixed, so there are 99 × 99 degrees of freedom.
        assert!((statistic - 9801.0).abs() < 4.0 * (2.0_f64 * 9801.0).sqrt(), "{statistic}");
    }
}
