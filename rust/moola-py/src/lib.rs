//! `moola._core`: the engine as Python sees it. Thin by intent: convert, release the GIL, map errors.

mod error;
mod features;
mod files;
mod publish;
mod store;
mod synth;
mod worker;

use pyo3::prelude::*;

#[pymodule]
mod _core {
    use super::*;

    #[pymodule_export]
    use crate::features::{
        FeatureStream, compute_features, compute_swings, default_parameters, describe_features, feature_sets,
    };
    #[pymodule_export]
    use super::files::{hash_file, npy_header};
    #[pymodule_export]
    use super::publish::Staging;

    #[pymodule_export]
    use super::store::{Ingest, stream_window, verify_features, write_features};
    #[pymodule_export]
    use super::synth::SampleBars;

    #[pymodule_init]
    fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
        m.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
