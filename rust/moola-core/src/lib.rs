//! The engine of moola: causal features on one-minute bars, computed at memory speed.
//!
//! The engine does not use Python: `cargo test -p moola-core` needs none.

pub mod bar;
pub mod bars;
pub mod cancel;
pub mod direct_io;
pub mod error;
pub mod features;
pub mod flush_ahead;
pub mod hash;
pub mod ingest;
pub mod interval;
pub mod keys;
pub mod npy;
pub mod permutation;
pub mod publish;
pub mod refusals;
pub mod removal;
pub mod simd;
pub mod steps;
pub mod store;
pub mod synth;
pub mod time;
pub mod windows;

pub use bar::{Bar, Prices};
pub use bars::Bars;
pub use cancel::Cancel;
pub use error::Error;
