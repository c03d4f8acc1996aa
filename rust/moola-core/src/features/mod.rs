//! The feature sets. Each is defined once, by how one bar changes its state (`Features::push`). The batch
//! path (`Features::push_blocks`) does the same operations on vectors of bars and gives the same bits.
//!
//! The file of a set also holds its `Definition`: its name, width, columns and the parameters it depends on.
//! The Python binding, the command line and the metadata read them from here.

mod arithmetic;
pub mod atr;
mod block;
mod definition;
pub mod ema;
pub mod engine;
pub mod feed;
pub mod ohlc4;
mod parameters;
pub mod relative_transform;
pub mod relativity;
mod set;
mod state;
pub mod stream;
pub mod swings;
mod window;
pub mod zigzag;

pub use crate::simd::Level;
pub use definition::Feature;
pub use engine::{Engine, compute, compute_new};
pub use feed::{Feed, Given, Unit};
pub use parameters::{MAX_PERIOD, Parameters};
pub use set::FeatureSet;
pub use stream::Stream;
