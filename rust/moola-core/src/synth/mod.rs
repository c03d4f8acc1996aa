//! The sample market: one-minute bars like those of an index future, for trying everything without a data
//! vendor.
//!
//! It has the properties that features depend on: prices on a tick grid, a session with a daily break and weekends,
//! volatility that clusters and follows the time of day, trends and consolidations, bars without a range, a few missing
//! minutes. It does not model any real market, and nothing learned from it can be traded.
//!
//! The same seed gives the same bytes on every machine. Randomness is ChaCha8, whose output is portable. `exp` and `ln`
//! come from a pure-Rust libm. Everything else is IEEE arithmetic, which no compiler may reorder. Each bar depends only on
//! earlier bars, so a shorter run is the beginning of a longer one, planted expansions included.

mod draws;
mod expansions;
mod market;
mod moods;
mod profile;
mod session;

pub use expansions::{Context, Expansion, LEAD, WINDOW};
pub use market::{MAX_BARS, SampleBar, SampleMarket, TICK};
pub use profile::SESSION;
