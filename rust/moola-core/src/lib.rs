//! The engine of moola: causal features on one-minute bars, computed at the speed of memory.
//!
//! No Python here: `cargo test -p moola-core` needs none.

pub mod bars;
pub mod cancel;
pub mod error;
pub mod time;

pub use bars::{Bar, Bars};
pub use cancel::Cancel;
pub use error::Error;
