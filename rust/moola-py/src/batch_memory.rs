//! Memory for batches. It is reused once no array refers to any part of it.
//!
//! Nothing here relies on the GIL. A mutex guards the list of free memory, and it is only tried, never waited
//! for. If another thread holds it, or held it when this process was forked, new memory is allocated, or
//! memory is returned to the system.

use std::sync::{Arc, Mutex};

use moola_core::windows::Batch;
use numpy::ndarray::{ArrayView2, ArrayView3};
use numpy::{PyArray2, PyArray3};
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;

/// x, mask and valid of one batch.
pub type BatchArrays<'py> =
    (Bound<'py, PyArray3<f32>>, Bound<'py, PyArray2<bool>>, Bound<'py, PyArray2<bool>>);

/// The most batches whose memory is kept.
const KEPT: usize = 64;

/// Free memory.
#[derive(Clone, Default)]
pub struct BatchPool(Arc<Mutex<Vec<Vec<f32>>>>);

impl BatchPool {
    /// Memory for a batch of this shape, `[B, K, D]`.
    pub fn lend(&self, shape: [usize; 3]) -> PyResult<BatchMemory> {
        let [size, length, width] = shape;
        let positions = size * length;
        // The values, then a byte each for mask and valid.
        let values = positions.saturating_mul(width).saturating_add(positions.div_ceil(2));
        let free = self.0.try_lock().ok().and_then(|mut free| free.pop());
        let memory = match free.filter(|memory| memory.len() == values) {
            Some(memory) => memory,
            None => {
                let mut memory = Vec::new();
                let reserved = memory.try_reserve_exact(values);
                reserved
                    .map_err(|_| PyMemoryError::new_err(format!("no memory for a batch of {shape:?}")))?;
                memory.resize(values, 0.0);
                memory
            }
        };
        Ok(BatchMemory { memory, shape, pool: self.clone() })
    }
}

/// The memory of one batch. It returns to the pool when the last array that refers to it is gone.
#[pyclass(frozen)]
pub struct BatchMemory {
    memory: Vec<f32>,
    shape: [usize; 3],
    pool: BatchPool,
}

impl BatchMemory {
    /// The batch that the engine fills.
    pub fn as_batch(&mut self) -> Batch<'_> {
        let [size, length, width] = self.shape;
        let (x, flags) = self.memory.split_at_mut(size * length * width);
        // SAFETY: floats can be read and written as any bytes, and bytes need no alignment.
        let (_, flags, _) = unsafe { flags.align_to_mut::<u8>() };
        let (mask, valid) = flags[..2 * size * length].split_at_mut(size * length);
        Batch { x, mask, valid }
    }

    /// The filled batch as arrays for Python.
    pub fn into_arrays(mut self, py: Python<'_>) -> PyResult<BatchArrays<'_>> {
        let [size, length, width] = self.shape;
        let Batch { x, mask, valid } = self.as_batch();
        let (x, mask, valid) = (x.as_mut_ptr(), mask.as_mut_ptr().cast(), valid.as_mut_ptr().cast());
        let owner = Bound::new(py, self)?.into_any();
        // SAFETY: the memory does not move while its owner lives. Each array keeps the owner alive, and no
        // other code reads or writes the memory. The engine writes only 0 and 1 for bool.
        unsafe {
            let flags = |values| ArrayView2::from_shape_ptr((size, length), values);
            let x = ArrayView3::from_shape_ptr((size, length, width), x);
            Ok((
                PyArray3::borrow_from_array(&x, owner.clone()),
                PyArray2::borrow_from_array(&flags(mask), owner.clone()),
                PyArray2::borrow_from_array(&flags(valid), owner),
            ))
        }
    }
}

impl Drop for BatchMemory {
    fn drop(&mut self) {
        if let Ok(mut free) = self.pool.0.try_lock()
            && free.len() < KEPT
        {
            free.push(std::mem::take(&mut self.memory));
        }
    }
}
