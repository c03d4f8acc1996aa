//! Windows of one or more stores. Batches go into arrays of the caller, or into reused memory.
//!
//! Nothing here relies on the GIL: windows are frozen, and read only memory that cannot be written.

use std::any::Any;

use moola_core::keys;
use moola_core::windows::{self, Batch, Masking, Piece, Shape, Store, Strategy};
use numpy::{
    IntoPyArray, PyArray1, PyReadonlyArray, PyReadonlyArray1, PyReadwriteArray2, PyReadwriteArray3,
    PyUntypedArrayMethods,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView};

use crate::batch_memory::{BatchArrays, BatchPool};
use crate::error::to_py;

/// The hash of a symbol's name that goes into the keys of its masks.
#[pyfunction]
pub fn symbol_hash(name: &str) -> u64 {
    keys::symbol_hash(name)
}

/// Features, valid bars (as bytes), timestamps, kept columns, the kept columns that are served, and whether
/// windows are stored one by one.
type StoreTuple<'py> = (
    PyReadonlyArray<'py, f32, numpy::IxDyn>,
    PyReadonlyArray<'py, u8, numpy::IxDyn>,
    PyReadonlyArray1<'py, i64>,
    Option<PyReadonlyArray<'py, f32, numpy::Ix2>>,
    Vec<usize>,
    bool,
);

/// Count, row, place, store and symbol of every piece, as columns.
type PieceTuple<'py> = (
    PyReadonlyArray1<'py, u64>,
    PyReadonlyArray1<'py, u64>,
    PyReadonlyArray1<'py, u64>,
    PyReadonlyArray1<'py, u32>,
    PyReadonlyArray1<'py, u64>,
);

type BatchTuple<'py> = (PyReadwriteArray3<'py, f32>, PyReadwriteArray2<'py, u8>, PyReadwriteArray2<'py, u8>);

type PlaceArrays<'py> = (
    Bound<'py, PyArray1<u32>>,
    Bound<'py, PyArray1<u64>>,
    Bound<'py, PyArray1<u64>>,
    Bound<'py, PyArray1<i64>>,
);

/// All windows of a split. This object keeps the memory that it reads alive.
#[pyclass(frozen, module = "moola._core")]
pub struct Windows {
    // Borrows from `owners`, so it is dropped first.
    inner: windows::Windows<'static>,
    #[expect(dead_code, reason = "keeps the memory that `inner` reads")]
    owners: Owners,
    pool: BatchPool,
}

/// The owners of the memory behind the slices: arrays that cannot be written, and copies of other arrays.
#[derive(Default)]
struct Owners {
    arrays: Vec<Py<PyAny>>,
    copies: Vec<Box<dyn Any + Send + Sync>>,
}

impl Owners {
    /// The values of an array. Other threads will read them without the GIL, so they must never change. The
    /// array's flag says that it is read-only now. But Python can switch the flag back if the array, or one
    /// that it is a view of, owns its memory. So memory that Python itself cannot write is read in place, and
    /// other memory is copied.
    ///
    /// # Safety
    ///
    /// The caller keeps these owners alive for as long as the slice is in use.
    unsafe fn values<T: numpy::Element + Copy + Sync, D: numpy::ndarray::Dimension>(
        &mut self,
        array: &PyReadonlyArray<'_, T, D>,
    ) -> PyResult<&'static [T]> {
        let writeable: bool = array.getattr("flags")?.getattr("writeable")?.extract()?;
        if writeable {
            return Err(PyValueError::new_err("arrays of windows must be read-only"));
        }
        let slice = array.as_slice()?;
        if is_never_written(array.as_any())? {
            self.arrays.push(array.as_any().clone().unbind());
            // SAFETY: a contiguous array's memory does not move while the array lives, and the caller keeps
            // it alive.
            return Ok(unsafe { std::slice::from_raw_parts(slice.as_ptr(), slice.len()) });
        }
        let copy: Box<[T]> = slice.into();
        // SAFETY: a box's memory does not move when the box does, and lives as long as the owners.
        let values = unsafe { std::slice::from_raw_parts(copy.as_ptr(), copy.len()) };
        self.copies.push(Box::new(copy));
        Ok(values)
    }
}

/// Whether an array refers to memory that Python can never write: that of a `bytes`, or of a file mapped for
/// reading. Another program can still write to the file; a store requires that none does.
fn is_never_written(array: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = array.py();
    let (ndarray, map) = (py.import("numpy")?.getattr("ndarray")?, py.import("mmap")?.getattr("mmap")?);
    let mut object = array.clone();
    loop {
        object = if object.is_instance(&ndarray)? {
            object.getattr("base")?
        } else if object.is_exact_instance_of::<PyMemoryView>() {
            object.getattr("obj")?
        } else if object.is_exact_instance(&map) {
            return PyMemoryView::from(&object)?.getattr("readonly")?.extract();
        } else {
            return Ok(object.is_exact_instance_of::<PyBytes>());
        }
    }
}

#[pymethods]
impl Windows {
    #[new]
    fn new(
        py: Python<'_>,
        stores: Vec<StoreTuple<'_>>,
        pieces: PieceTuple<'_>,
        length: usize,
        stride: u64,
        width: usize,
    ) -> PyResult<Self> {
        let (mut owners, mut slices, mut columns) = (Owners::default(), Vec::new(), Vec::new());
        for (features, valid, timestamps, extra, served, dense) in &stores {
            // SAFETY: the owners live as long as the windows made of these slices, which no other code can
            // access.
            let (features, valid, timestamps) =
                unsafe { (owners.values(features)?, owners.values(valid)?, owners.values(timestamps)?) };
            let (extra, extra_width) = match extra {
                // SAFETY: as above.
                Some(extra) => (unsafe { owners.values(extra)? }, extra.shape()[1]),
                None => (&[][..], 0),
            };
            slices.push(Store { features, valid, timestamps, extra, extra_width, dense: *dense });
            columns.push(served.clone());
        }
        let (counts, rows, places, stores, symbols) = &pieces;
        let (counts, rows, places) = (counts.as_slice()?, rows.as_slice()?, places.as_slice()?);
        let (stores, symbols) = (stores.as_slice()?, symbols.as_slice()?);
        if [rows.len(), places.len(), stores.len(), symbols.len()] != [counts.len(); 4] {
            return Err(PyValueError::new_err("the columns of pieces must have the same length"));
        }
        let pieces = (0..counts.len())
            .map(|i| Piece {
                count: counts[i],
                row: rows[i],
                place: places[i],
                store: stores[i],
                symbol: symbols[i],
            })
            .collect();
        let shape = Shape { length, stride, width, extra: &columns };
        let inner = windows::Windows::new(slices, pieces, shape).map_err(|e| to_py(py, e))?;
        Ok(Windows { inner, owners, pool: BatchPool::default() })
    }

    fn __len__(&self) -> usize {
        self.inner.count() as usize
    }

    /// The store, first row, place in the features and last bar's time of each window.
    fn locate<'py>(
        &self,
        py: Python<'py>,
        windows: PyReadonlyArray1<'py, i64>,
    ) -> PyResult<PlaceArrays<'py>> {
        let places = self.places(py, windows.as_slice()?)?;
        let times: Vec<i64> = places.iter().map(|place| self.inner.last_time(place)).collect();
        Ok((
            places.iter().map(|p| p.store).collect::<Vec<_>>().into_pyarray(py),
            places.iter().map(|p| p.row).collect::<Vec<_>>().into_pyarray(py),
            places.iter().map(|p| p.place).collect::<Vec<_>>().into_pyarray(py),
            times.into_pyarray(py),
        ))
    }

    /// The key of each window's mask.
    fn keys<'py>(
        &self,
        py: Python<'py>,
        windows: PyReadonlyArray1<'py, i64>,
        seed: u64,
        epoch: u64,
    ) -> PyResult<Bound<'py, PyArray1<u64>>> {
        let places = self.places(py, windows.as_slice()?)?;
        let keys: Vec<u64> = places.iter().map(|place| self.inner.key(place, seed, epoch)).collect();
        Ok(keys.into_pyarray(py))
    }

    /// Fills batches, each (x, mask, valid), with these windows in order. `patch` is the length of a run, 0 for single
    /// positions.
    #[expect(clippy::too_many_arguments, reason = "what a batch depends on, all of it")]
    fn fill(
        &self,
        py: Python<'_>,
        windows: PyReadonlyArray1<'_, i64>,
        batches: Vec<BatchTuple<'_>>,
        seed: u64,
        epoch: u64,
        ratio: f64,
        patch: usize,
    ) -> PyResult<()> {
        let numbers = self.numbers(py, &windows)?;
        let mut batches = batches;
        let (length, width) = (self.inner.length(), self.inner.row_width());
        for (x, mask, valid) in &batches {
            let size = mask.shape()[0];
            if x.shape() != [size, length, width]
                || mask.shape() != [size, length]
                || valid.shape() != [size, length]
            {
                return Err(PyValueError::new_err("a batch has the wrong shape"));
            }
        }
        let batches = batches
            .iter_mut()
            .map(|(x, mask, valid)| {
                Ok(Batch { x: x.as_slice_mut()?, mask: mask.as_slice_mut()?, valid: valid.as_slice_mut()? })
            })
            .collect::<PyResult<Vec<_>>>()?;
        let masking = masking(seed, epoch, ratio, patch);
        py.detach(|| self.inner.fill(&numbers, batches, &masking)).map_err(|e| to_py(py, e))
    }

    /// These windows in batches of this size, each as arrays (x, mask, valid); the last batch may be smaller.
    /// New memory costs a page fault for every 4 KiB, about as much time as filling it. So memory is reused
    /// once no array refers to it.
    #[expect(clippy::too_many_arguments, reason = "what a batch depends on, all of it")]
    fn batches<'py>(
        &self,
        py: Python<'py>,
        windows: PyReadonlyArray1<'_, i64>,
        batch_size: usize,
        seed: u64,
        epoch: u64,
        ratio: f64,
        patch: usize,
    ) -> PyResult<Vec<BatchArrays<'py>>> {
        let numbers = self.numbers(py, &windows)?;
        let shape = |size| [size, self.inner.length(), self.inner.row_width()];
        let sizes = numbers.chunks(batch_size.max(1)).map(<[u64]>::len);
        let mut memories = sizes.map(|size| self.pool.lend(shape(size))).collect::<PyResult<Vec<_>>>()?;
        let batches = memories.iter_mut().map(|memory| memory.as_batch()).collect();
        let masking = masking(seed, epoch, ratio, patch);
        py.detach(|| self.inner.fill(&numbers, batches, &masking)).map_err(|e| to_py(py, e))?;
        memories.into_iter().map(|memory| memory.into_arrays(py)).collect()
    }
}

fn masking(seed: u64, epoch: u64, ratio: f64, patch: usize) -> Masking {
    let strategy = if patch == 0 { Strategy::Random } else { Strategy::Patch(patch) };
    Masking { seed, epoch, ratio, strategy }
}

impl Windows {
    fn numbers(&self, py: Python<'_>, windows: &PyReadonlyArray1<'_, i64>) -> PyResult<Vec<u64>> {
        let number = |&window| u64::try_from(window).map_err(|_| self.none(py, window));
        windows.as_slice()?.iter().map(number).collect()
    }

    fn places(&self, py: Python<'_>, windows: &[i64]) -> PyResult<Vec<windows::Place>> {
        let place = |&window| {
            let place = u64::try_from(window).ok().and_then(|w| self.inner.place(w));
            place.ok_or_else(|| self.none(py, window))
        };
        windows.iter().map(place).collect()
    }

    fn none(&self, py: Python<'_>, window: i64) -> PyErr {
        match u64::try_from(window) {
            Ok(window) => to_py(py, moola_core::Error::NoWindow(window, self.inner.count())),
            Err(_) => pyo3::exceptions::PyIndexError::new_err(format!("there is no window {window}")),
        }
    }
}
