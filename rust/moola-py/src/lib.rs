//! `moola._core`: the Python binding of the engine. It only converts values, releases the GIL and maps
//! errors.
//!
//! No module here relies on the GIL for its own state; each explains why. Callers have the same duty with and
//! without the GIL: while the engine reads or fills an array that they have passed, no other thread may write
//! to it. The wheel is built for the stable ABI of Python 3.11. Free-threaded Python does not load that ABI;
//! build from source there.

mod arrays;
mod batch_memory;
mod error;
mod features;
mod files;
mod permutation;
mod publish;
mod store;
mod synth;
mod time;
mod windows;
mod worker;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
mod _core {
    use super::*;

    #[pymodule_export]
    use super::arrays::load_numpy;
    #[pymodule_export]
    use super::features::{
        FeatureStream, check_nonpositive, compute_features, compute_swings, default_parameters,
        describe_features, feature_set_allows_nonpositive, feature_set_depends_on, feature_sets,
        parameter_names,
    };
    #[pymodule_export]
    use super::files::{hash_file, npy_header};
    #[pymodule_export]
    use super::permutation::{permutation_key, permute};
    #[pymodule_export]
    use super::publish::Staging;
    #[pymodule_export]
    use super::store::{
        Ingest, count_steps, first_outlier, verify_features, verify_streamed, write_features,
    };
    #[pymodule_export]
    use super::synth::SampleBars;
    #[pymodule_export]
    use super::time::{
        first_instant, fit_dates, is_time_zone, localize, parse_epochs, parse_times, time_format_has_offset,
        time_notation, time_zones,
    };
    #[pymodule_export]
    use super::windows::{Windows, symbol_hash};

    #[pymodule_init]
    fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
        m.add("TIME_NULL", moola_core::time::NULL)?;
        m.add("TIME_UNREADABLE", moola_core::time::UNREADABLE)?;
        m.add("TIME_AMBIGUOUS", moola_core::time::AMBIGUOUS)?;
        m.add("TIME_NONEXISTENT", moola_core::time::NONEXISTENT)?;
        m.add("TIME_LOCAL", moola_core::time::LOCAL)?;
        m.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
