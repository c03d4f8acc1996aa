//! The unit of work of the block path: a fixed number of bars, as arrays of constant length.

use std::mem::MaybeUninit;

use crate::bar::Bar;
use crate::bars::Bars;
use crate::simd::{Level, Purpose, prefetch};

/// Bars per block. They are few enough that all columns stay in the first-level cache.
pub const BLOCK: usize = 256;

/// Memory for one value of a row. It may be uninitialised.
pub type Slot = MaybeUninit<f32>;

/// One value per bar of the block.
pub type Column<T = f64> = [T; BLOCK];

/// The columns of one block.
#[derive(Clone, Copy)]
pub struct Block<'a> {
    pub open: &'a Column,
    pub high: &'a Column,
    pub low: &'a Column,
    pub close: &'a Column,
}

impl Block<'_> {
    /// Bar `i`.
    #[inline(always)]
    pub fn bar(&self, i: usize) -> Bar {
        Bar { open: self.open[i], high: self.high[i], low: self.low[i], close: self.close[i] }
    }
}

/// Cuts a whole number of blocks of bars into blocks. Each comes with its output rows of width `D`.
pub fn blocks<'a, const D: usize>(
    bars: Bars<'a>,
    out: &'a mut [Slot],
) -> impl Iterator<Item = (Block<'a>, &'a mut [[Slot; D]; BLOCK])> {
    let column = |x: &'a [f64]| x.as_chunks::<BLOCK>().0.iter();
    let rows = out.as_chunks_mut::<D>().0.as_chunks_mut::<BLOCK>().0;
    column(bars.open)
        .zip(column(bars.high))
        .zip(column(bars.low).zip(column(bars.close)))
        .map(|((open, high), (low, close))| Block { open, high, low, close })
        .zip(rows)
}

/// The number of bars processed together. Their values stay in registers from the formulas to the rows.
pub const GROUP: usize = 8;

/// Cuts the rows of a block into groups, each with the number of its first bar.
#[inline(always)]
pub fn groups<const D: usize>(
    rows: &mut [[Slot; D]; BLOCK],
) -> impl Iterator<Item = (usize, &mut [[Slot; D]; GROUP])> {
    rows.as_chunks_mut::<GROUP>().0.iter_mut().enumerate().map(|(g, rows)| (g * GROUP, rows))
}

/// Writes columns as rows, in square tiles that fit into the registers of a level.
#[inline(always)]
pub fn transpose<const D: usize, const N: usize>(
    level: Level,
    columns: &[[f32; N]; D],
    rows: &mut [[Slot; D]; N],
) {
    #[cfg(target_arch = "x86_64")]
    let done = if level >= Level::Avx2 {
        // SAFETY: a level other than Portable comes from `Level::available`, which asked the processor.
        transpose_tiles(columns, rows, 0, |tile: &[[f32; 8]; 8]| unsafe { turned_8(tile) })
    } else {
        0
    };
    #[cfg(not(target_arch = "x86_64"))]
    let (done, _) = (0, level);
    let done = transpose_tiles(columns, rows, done, turned_4);
    for (i, row) in rows.iter_mut().enumerate() {
        for (value, column) in row[done..].iter_mut().zip(&columns[done..]) {
            value.write(column[i]);
        }
    }
}

/// Writes columns from number `first` on as rows, in whole tiles, and returns the first column that is left.
#[inline(always)]
fn transpose_tiles<const D: usize, const N: usize, const T: usize>(
    columns: &[[f32; N]; D],
    rows: &mut [[Slot; D]; N],
    first: usize,
    turned: impl Fn(&[[f32; T]; T]) -> [[f32; T]; T],
) -> usize {
    let tiles = columns[first..].as_chunks::<T>().0;
    for (i, rows) in rows.as_chunks_mut::<T>().0.iter_mut().enumerate() {
        for (k, columns) in tiles.iter().enumerate() {
            let tile = turned(&columns.each_ref().map(|column| column.as_chunks::<T>().0[i]));
            for (row, values) in rows.iter_mut().zip(tile) {
                row[first + k * T..][..T].copy_from_slice(&values.map(Slot::new));
            }
        }
    }
    first + tiles.len() * T
}

/// Turns columns into rows. Compilers do not find these shuffles themselves.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx")]
fn turned_8(columns: &[[f32; 8]; 8]) -> [[f32; 8]; 8] {
    use std::arch::x86_64::{
        __m256, _mm256_permute2f128_ps, _mm256_shuffle_ps, _mm256_unpackhi_ps, _mm256_unpacklo_ps,
    };
    let c: [__m256; 8] = bytemuck::cast(*columns);
    // Both halves of the vectors are handled at once: first pairs of columns, then fours. Then the halves are
    // joined.
    let fours = |c: &[__m256]| {
        let (low, high) = (
            [_mm256_unpacklo_ps(c[0], c[1]), _mm256_unpacklo_ps(c[2], c[3])],
            [_mm256_unpackhi_ps(c[0], c[1]), _mm256_unpackhi_ps(c[2], c[3])],
        );
        [
            _mm256_shuffle_ps::<0b01_00_01_00>(low[0], low[1]),
            _mm256_shuffle_ps::<0b11_10_11_10>(low[0], low[1]),
            _mm256_shuffle_ps::<0b01_00_01_00>(high[0], high[1]),
            _mm256_shuffle_ps::<0b11_10_11_10>(high[0], high[1]),
        ]
    };
    let (left, right) = (fours(&c[..4]), fours(&c[4..]));
    bytemuck::cast([
        _mm256_permute2f128_ps::<0x20>(left[0], right[0]),
        _mm256_permute2f128_ps::<0x20>(left[1], right[1]),
        _mm256_permute2f128_ps::<0x20>(left[2], right[2]),
        _mm256_permute2f128_ps::<0x20>(left[3], right[3]),
        _mm256_permute2f128_ps::<0x31>(left[0], right[0]),
        _mm256_permute2f128_ps::<0x31>(left[1], right[1]),
        _mm256_permute2f128_ps::<0x31>(left[2], right[2]),
        _mm256_permute2f128_ps::<0x31>(left[3], right[3]),
    ])
}

/// Turns columns into rows, with instructions that every x86-64 processor has.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn turned_4(columns: &[[f32; 4]; 4]) -> [[f32; 4]; 4] {
    use std::arch::x86_64::{__m128, _mm_movehl_ps, _mm_movelh_ps, _mm_unpackhi_ps, _mm_unpacklo_ps};
    let [a, b, c, d]: [__m128; 4] = bytemuck::cast(*columns);
    // SAFETY: SSE is part of x86-64.
    bytemuck::cast(unsafe {
        let (low, high) =
            ([_mm_unpacklo_ps(a, b), _mm_unpacklo_ps(c, d)], [_mm_unpackhi_ps(a, b), _mm_unpackhi_ps(c, d)]);
        [
            _mm_movelh_ps(low[0], low[1]),
            _mm_movehl_ps(low[1], low[0]),
            _mm_movelh_ps(high[0], high[1]),
            _mm_movehl_ps(high[1], high[0]),
        ]
    })
}

/// Turns columns into rows.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn turned_4(columns: &[[f32; 4]; 4]) -> [[f32; 4]; 4] {
    std::array::from_fn(|i| columns.map(|column| column[i]))
}

/// How many bars ahead columns are prefetched. The engine checks this many bars before it computes on them,
/// and the check reads them first.
const COLUMNS_AHEAD: usize = 4096;

/// How many bars ahead rows are prefetched.
const ROWS_AHEAD: usize = 512;

/// Bars per cache line of a column.
const BARS_IN_LINE: usize = 64 / size_of::<f64>();

/// Prefetches the memory of bars after bar `i` of the block, and of their rows. A row is shorter than a cache
/// line, so one request per bar reaches every line of the rows. Rows are kept out of the first-level cache,
/// where they would displace the columns that the block is computed from.
#[inline(always)]
pub fn prefetch_ahead<const D: usize>(block: &Block<'_>, rows: &[[Slot; D]; BLOCK], i: usize) {
    prefetch(rows.as_ptr().wrapping_add(i + ROWS_AHEAD), Purpose::Later);
    if i.is_multiple_of(BARS_IN_LINE) {
        for column in [block.open, block.high, block.low, block.close] {
            prefetch(column.as_ptr().wrapping_add(i + COLUMNS_AHEAD), Purpose::Now);
        }
    }
}
