//! A flag that lets one thread ask another to stop.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Error;

/// Long work calls [`Cancel::check`] every few milliseconds. Another thread may call [`Cancel::cancel`] to stop it.
#[derive(Debug, Default)]
pub struct Cancel(AtomicBool);

impl Cancel {
    /// A flag that is not set.
    pub const fn new() -> Self {
        Cancel(AtomicBool::new(false))
    }

    /// A flag that is already set.
    pub const fn raised() -> Self {
        Cancel(AtomicBool::new(true))
    }

    /// Asks the work to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// [`Error::Cancelled`] once the work has been asked to stop.
    pub fn check(&self) -> Result<(), Error> {
        if self.0.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }
}
