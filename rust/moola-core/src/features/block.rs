//! The block path's unit of work: so many bars, as arrays whose length the compiler knows.

use super::simd::{Purpose, prefetch};
use crate::bars::{Bar, Bars};

/// Bars a block: few enough that all its columns stay in the first-level cache.
pub const BLOCK: usize = 256;

/// One value a bar of the block.
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

/// Cuts bars, a whole number of blocks, into blocks, each with the rows of width `D` that it is to fill.
pub fn blocks<'a, const D: usize>(
    bars: Bars<'a>,
    out: &'a mut [f32],
) -> impl Iterator<Item = (Block<'a>, &'a mut [[f32; D]; BLOCK])> {
    let column = |x: &'a [f64]| x.as_chunks::<BLOCK>().0.iter();
    let rows = out.as_chunks_mut::<D>().0.as_chunks_mut::<BLOCK>().0;
    column(bars.open)
        .zip(column(bars.high))
        .zip(column(bars.low).zip(column(bars.close)))
        .map(|((open, high), (low, close))| Block { open, high, low, close })
        .zip(rows)
}

/// Bars of a block whose values stay in registers from their formulas to their rows.
pub const GROUP: usize = 8;

/// Cuts the rows of a block into groups, each with the number of its first bar.
#[inline(always)]
pub fn groups<const D: usize>(
    rows: &mut [[f32; D]; BLOCK],
) -> impl Iterator<Item = (usize, &mut [[f32; D]; GROUP])> {
    rows.as_chunks_mut::<GROUP>().0.iter_mut().enumerate().map(|(g, rows)| (g * GROUP, rows))
}

/// Writes columns as rows, by way of square tiles that fit into registers.
#[inline(always)]
pub fn transpose<const D: usize, const N: usize>(columns: &[[f32; N]; D], rows: &mut [[f32; D]; N]) {
    let (columns, rest) = columns.as_chunks::<4>();
    for (i, rows) in rows.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        for (k, columns) in columns.iter().enumerate() {
            let tile = transpose_tile(columns.each_ref().map(|column| column.as_chunks::<4>().0[i]));
            for (row, values) in rows.iter_mut().zip(tile) {
                row.as_chunks_mut::<4>().0[k] = values;
            }
        }
        for (j, row) in rows.iter_mut().enumerate() {
            for (value, column) in row.as_chunks_mut::<4>().1.iter_mut().zip(rest) {
                *value = column[4 * i + j];
            }
        }
    }
}

/// Columns in, rows out. With SSE, which every x86-64 processor has: compilers do not find the shuffles themselves.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn transpose_tile(columns: [[f32; 4]; 4]) -> [[f32; 4]; 4] {
    use std::arch::x86_64::{__m128, _mm_movehl_ps, _mm_movelh_ps, _mm_unpackhi_ps, _mm_unpacklo_ps};
    let [a, b, c, d]: [__m128; 4] = bytemuck::cast(columns);
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

/// Columns in, rows out.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn transpose_tile(columns: [[f32; 4]; 4]) -> [[f32; 4]; 4] {
    std::array::from_fn(|i| columns.map(|column| column[i]))
}

/// How many bars ahead columns are asked for: the engine checks so many bars before it computes on them, and the check is
/// the first to read them.
const COLUMNS_AHEAD: usize = 4096;

/// How many bars ahead rows are asked for.
const ROWS_AHEAD: usize = 512;

/// A cache line, in bytes.
const LINE: usize = 64;

/// Asks for the memory of the bars and rows that come so many bars after bar `first` of the block and its group's rows.
#[inline(always)]
pub fn prefetch_ahead<const D: usize>(block: &Block<'_>, first: usize, rows: &[[f32; D]; GROUP]) {
    for column in [block.open, block.high, block.low, block.close] {
        prefetch((&raw const column[first]).wrapping_add(COLUMNS_AHEAD), Purpose::ReadLater);
    }
    let later = rows.as_ptr().wrapping_add(ROWS_AHEAD).cast::<u8>();
    for offset in (0..size_of_val(rows)).step_by(LINE) {
        prefetch(later.wrapping_add(offset), Purpose::Write);
    }
}
