//! Checking that stored features lie in their ranges.

use std::path::Path;

use crate::cancel::Cancel;
use crate::error::Error;
use crate::npy::NpyReader;

/// Number of values read and checked at a time.
const RANGE_BUFFER: usize = 1 << 18;

/// The first value of a float32 array that is not finite or lies outside its column's range: its index among all values,
/// and the value. The last dimension of `shape` counts the columns.
pub fn first_outlier(
    path: &Path,
    shape: &[u64],
    ranges: &[(f32, f32)],
    cancel: &Cancel,
) -> Result<Option<(u64, f32)>, Error> {
    let source = NpyReader::<f32>::open(path, shape)?;
    // The bounds repeat for 64 rows: one row is too short for wide instructions.
    let repeated = |bound: fn(&(f32, f32)) -> f32| -> Vec<f32> {
        ranges.iter().map(bound).cycle().take(64 * ranges.len()).collect()
    };
    let low = repeated(|range| range.0.max(f32::MIN));
    let high = repeated(|range| range.1.min(f32::MAX));
    let mut values = vec![0.0; (RANGE_BUFFER / low.len()).max(1) * low.len()];
    let mut first = 0;
    while first < source.len() {
        cancel.check()?;
        values.truncate((source.len() - first) as usize);
        source.read(first, &mut values)?;
        for (i, run) in values.chunks(low.len()).enumerate() {
            let inside = |((&x, &low), &high): ((&f32, &f32), &f32)| (x >= low) & (x <= high);
            if !run.iter().zip(&low).zip(&high).fold(true, |sound, x| sound & inside(x))
                && let Some(at) = run.iter().zip(&low).zip(&high).position(|x| !inside(x))
            {
                return Ok(Some((first + (i * low.len() + at) as u64, run[at])));
            }
        }
        first += values.len() as u64;
    }
    Ok(None)
}
