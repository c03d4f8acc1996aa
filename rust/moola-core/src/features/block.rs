//! The block path's unit of work: so many bars, as arrays whose length the compiler knows.

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

/// Writes columns as rows.
#[inline(always)]
pub fn transpose<const D: usize>(columns: &[Column<f32>; D], rows: &mut [[f32; D]; BLOCK]) {
    for (i, row) in rows.iter_mut().enumerate() {
        *row = std::array::from_fn(|k| columns[k][i]);
    }
}
