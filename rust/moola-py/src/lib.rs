//! `moola._core`: the engine as Python sees it. Thin by intent: convert, release the GIL, map errors.

mod error;
mod files;
mod publish;
mod worker;

use pyo3::prelude::*;

#[pymodule]
mod _core {
    use super::*;

    #[pymodule_export]
    use super::files::{hash_file, npy_header};
    #[pymodule_export]
    use super::publish::Staging;

    #[pymodule_init]
    fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
        m.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
