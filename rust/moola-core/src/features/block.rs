//! Bars per block of the batch path, and the step from columns to rows at its end.

/// Bars a block: few enough that its columns stay in the first-level cache.
pub const BLOCK: usize = 256;

/// Writes columns as rows: `out[i·D + k] = columns[k][i]`.
#[inline(always)]
pub fn transpose<const D: usize>(columns: &[[f32; BLOCK]; D], out: &mut [f32]) {
    for (i, row) in out.chunks_exact_mut(D).enumerate().take(BLOCK) {
        for k in 0..D {
            row[k] = columns[k][i];
        }
    }
}
