//! Windows for training: their numbers in a split, their masks, and batches of them.

mod batch;
mod masks;
mod split;

pub use batch::Batch;
pub use masks::{Masking, Strategy};
pub use split::{Piece, Place, Shape, Store, Windows};
