//! The engine of moola: causal features on one-minute bars, computed at the speed of memory.
//!
//! No Python here: `cargo test -p moola-core` needs none.

pub mod bars;
pub mod cancel;
pub mod direct;
pub mod error;
pub mod features;
pub mod hash;
pub mod ingest;
pub mod npy;
pub mod permutation;
pub mod publish;
pub mod removal;
pub mod store;
pub mod synth;
pub mod time;
pub mod windows;
pub mod write_back;

pub use bars::{Bar, Bars};
pub use cancel::Cancel;
pub use error::Error;
