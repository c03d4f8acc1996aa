//! Vector instructions: the sets that the processor has, and functions compiled for each set.
//!
//! The same code is compiled three times. IEEE 754 arithmetic without fused multiply-adds gives the same bits at every
//! width, so the choice affects only the time. Tests compare all widths.

/// A set of vector instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The instructions that every processor of the target has: SSE2 on x86-64.
    Portable,
    /// 256-bit vectors.
    Avx2,
    /// 512-bit vectors.
    Avx512,
}

impl Level {
    /// The levels that this processor has, narrowest first.
    pub fn available() -> Vec<Level> {
        let mut levels = vec![Level::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                levels.push(Level::Avx2);
            }
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512bw")
            {
                levels.push(Level::Avx512);
            }
        }
        levels
    }

    /// The widest level that this processor has.
    pub fn best() -> Level {
        Level::available().pop().unwrap_or(Level::Portable)
    }
}

/// Defines a function that is compiled once for each level and picks one at run time:
/// `at_level! { fn name<generics>(arguments) = body; }`, where `body` is an `#[inline(always)]` function.
macro_rules! at_level {
    ($(#[$meta:meta])* $vis:vis fn $name:ident $(<const $d:ident: usize>)? ($($arg:ident: $type:ty),* $(,)?) $(-> $returned:ty)? = $body:path;) => {
        $(#[$meta])*
        $vis fn $name $(<const $d: usize>)? (level: $crate::simd::Level, $($arg: $type),*) $(-> $returned)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn avx2 $(<const $d: usize>)? ($($arg: $type),*) $(-> $returned)? {
                    $body($($arg),*)
                }
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw")]
                fn avx512 $(<const $d: usize>)? ($($arg: $type),*) $(-> $returned)? {
                    $body($($arg),*)
                }
                match level {
                    // SAFETY: a level other than Portable comes from `Level::available`, which asked the processor.
                    $crate::simd::Level::Avx2 => return unsafe { avx2 $(::<$d>)? ($($arg),*) },
                    // SAFETY: as above.
                    $crate::simd::Level::Avx512 => return unsafe { avx512 $(::<$d>)? ($($arg),*) },
                    $crate::simd::Level::Portable => {}
                }
            }
            let _ = level;
            $body($($arg),*)
        }
    };
}
pub(crate) use at_level;

/// Why memory is prefetched.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    /// For immediate use.
    Now,
    /// For later use: it must not displace other data from the first-level cache.
    Later,
}

/// Tells the processor to fetch the memory at an address while there is other work to do. The address may be invalid.
#[inline(always)]
pub(crate) fn prefetch<T>(address: *const T, purpose: Purpose) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        let address = address.cast();
        // SAFETY: prefetching is a hint and never faults, whatever the address.
        unsafe {
            match purpose {
                Purpose::Now => _mm_prefetch::<_MM_HINT_T0>(address),
                Purpose::Later => _mm_prefetch::<_MM_HINT_T1>(address),
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (address, purpose);
}
