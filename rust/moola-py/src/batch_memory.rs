//! Memory for batches, which is used again once no array shows any part of it.
//!
//! Nothing here relies on the GIL. The list of free memory is behind a mutex that is only tried, never waited for: where
//! another thread has it, or had it when this process was forked, new memory is made, or memory is given back to the
//! system.

use std::sync::{Arc, Mutex};

use moola_core::windows::Batch;
use numpy::ndarray::{ArrayView2, ArrayView3};
use numpy::{PyArray2, PyArray3};
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;

/// x, mask and valid of one batch.
pub type BatchArrays<'py> =
    (Bound<'py, PyArray3<f32>>, Bound<'py, PyArray2<bool>>, Bound<'py, PyArray2<bool>>);

/// How many batches' memory is kept.
const KEPT: usize = 64;

/// Memory that is free.
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

/// The memory of one batch. It returns to the pool when the last array that shows any of it is gone.
#[pyclass(frozen)]
pub struct BatchMemory {
    memory: Vec<f32>,
    shape: [usize; 3],
    pool: BatchPool,
}

impl BatchMemory {
    /// For the engine to fill.
    pub fn as_batch(&mut self) -> Batch<'_> {
        let [size, length, width] = self.shape;
        let (x, flags) = self.memory.split_at_mut(size * length * width);
        // SAFETY: any bytes are floats and any floats are bytes, which are aligned everywhere.
        let (_, flags, _) = unsafe { flags.align_to_mut::<u8>() };
        let (mask, valid) = flags[..2 * size * length].split_at_mut(size * length);
        Batch { x, mask, valid }
    }

    /// For Python, once it is filled.
    pub fn into_arrays(mut self, py: Python<'_>) -> PyResult<BatchArrays<'_>> {
        let [size, length, width] = self.shape;
        let Batch { x, mask, valid } = self.as_batch();
        let (x, mask, valid) = (x.as_mut_ptr(), mask.as_mut_ptr().cast(), valid.as_mut_ptr().cast());
        let owner = Bound::new(py, self)?.into_any();
        // SAFETY: the memory does not move while its owner lives. Each array holds on to the owner, and nobody else reads
        // or writes the memory. The engine writes 0 and 1 for bool.
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
