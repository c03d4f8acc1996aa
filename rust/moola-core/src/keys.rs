//! Integer hashes that make the keys of masks and permutations.
//!
//! All arithmetic is on 64 bits and wraps. It uses additions, multiplications, exclusive ors and logical
//! shifts, which every tensor library has.
//!
//! ```text
//! G      = 0x9e3779b97f4a7c15
//! mix(z) : z ^= z >> 30;  z *= 0xbf58476d1ce4e5b9;  z ^= z >> 27;  z *= 0x94d049bb133111eb;  z ^= z >> 31
//! fold(h, x) = mix(h + G·x)
//! ```
//!
//! `mix` is the finaliser of SplitMix64 (Steele, Lea and Flood, *Fast Splittable Pseudorandom Number Generators*, 2014).

/// G: 2⁶⁴ divided by the golden ratio, rounded to an odd number.
pub const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A bijection on 64 bits: flipping one bit of the input flips about half of the output's bits.
#[inline(always)]
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Combines `h` with one more word.
#[inline(always)]
pub fn fold(h: u64, x: u64) -> u64 {
    mix(h.wrapping_add(GOLDEN.wrapping_mul(x)))
}

/// The 64-bit FNV-1a hash of a symbol's name.
pub fn symbol_hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Changing these numbers would change every mask that anyone has trained with.
    #[test]
    fn hashes_never_change() {
        // The first outputs of SplitMix64 seeded with 0, as its authors' code prints them.
        assert_eq!(
            [1, 2, 3].map(|x| fold(0, x)),
            [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]
        );
        // From the FNV authors' test vectors.
        assert_eq!(symbol_hash(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(symbol_hash("foobar"), 0x8594_4171_f739_67e8);
    }
}
