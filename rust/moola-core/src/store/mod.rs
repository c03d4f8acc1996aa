//! The files of a store that are computed from its bars: features and masks, per bar or per window. They are
//! written and verified here.

mod dense;
mod pass;
mod plan;
mod ranges;
mod verify;
mod write;

pub use dense::windows;
pub use plan::{Plan, Written};
pub use ranges::first_outlier;
pub use verify::{Difference, Recomputed, Sample, verify_rows, verify_streamed, verify_windows};
pub use write::{write_rows, write_windows};
