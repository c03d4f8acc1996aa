//! Shuffling without a list: the number at any place of a permutation, by arithmetic.
//!
//! A permutation of `0 … count − 1` is a Feistel network over the fewest bits that hold `count` numbers, followed again
//! until it lands below `count` (cycle walking: Black and Rogaway, *Ciphers with Arbitrary Finite Domains*, 2002), which
//! takes less than two turns on average. Nothing grows with `count`, and a shuffled epoch can be entered anywhere.

use crate::windows::{fold, mix};

/// More than the four that make a Feistel network of random functions indistinguishable from a random permutation.
const ROUNDS: u64 = 6;

/// The key of the permutation that belongs to these numbers.
pub fn key(words: &[u64]) -> u64 {
    // Apart from the keys of masks, which begin with another word.
    words.iter().copied().fold(0x7065_726d_7574_6174, fold)
}

/// The number at `position` in the permutation of `0 … count − 1` with this key. `position` lies below `count`.
pub fn at(position: u64, count: u64, key: u64) -> u64 {
    debug_assert!(position < count);
    // The two parts of a number, `low` bits and `high` bits; at least one each.
    let bits = (u64::BITS - (count - 1).leading_zeros()).max(2);
    let (low, high) = (bits / 2, bits - bits / 2);
    let (low_mask, high_mask) = ((1_u64 << low) - 1, (1_u64 << high) - 1);
    let mut number = position;
    loop {
        let (mut a, mut b) = (number & low_mask, number >> low);
        for round in 0..ROUNDS {
            let round_key = key.wrapping_add(round << 32);
            // The upper bits of a product are its best.
            if round % 2 == 0 {
                b ^= (mix(round_key ^ a) >> 32) & high_mask;
            } else {
                a ^= (mix(round_key ^ b) >> 32) & low_mask;
            }
        }
        number = b << low | a;
        if number < count {
            return number;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_number_comes_once(count in 1_u64..3000, key: u64) {
            let mut seen = vec![false; count as usize];
            for position in 0..count {
                let number = at(position, count, key) as usize;
                prop_assert!(!std::mem::replace(&mut seen[number], true));
            }
        }

        #[test]
        fn large_counts_stay_in_range(count in 1_u64..=1 << 62, position: u64, key: u64) {
            prop_assert!(at(position % count, count, key) < count);
        }
    }

    #[test]
    fn numbers_go_everywhere_and_take_any_neighbour() {
        // Over many keys, each number comes equally often to each place, and follows each other equally often.
        const N: usize = 11;
        let mut places = vec![0_u64; N * N];
        let mut pairs = vec![0_u64; N * N];
        let keys = 40_000;
        for k in 0..keys {
            let numbers: Vec<usize> = (0..N).map(|p| at(p as u64, N as u64, key(&[0, k])) as usize).collect();
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
        // Which hundredth of the numbers comes in which hundredth of the places.
        const N: u64 = 1_000_000;
        let mut cells = vec![0_u64; 10_000];
        for position in 0..N {
            cells[(position / 10_000 * 100 + at(position, N, key(&[1, 2])) / 10_000) as usize] += 1;
        }
        let statistic: f64 = cells.iter().map(|&c| (c as f64 - 100.0).powi(2) / 100.0).sum();
        // Both margins are fixed: 99 × 99 degrees of freedom.
        assert!((statistic - 9801.0).abs() < 4.0 * (2.0_f64 * 9801.0).sqrt(), "{statistic}");
    }
}
