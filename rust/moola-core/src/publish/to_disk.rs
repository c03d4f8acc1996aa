//! Flushes a store's files to disk before the store gets its name.

use std::fs::{self, File};
use std::path::Path;

use crate::cancel::Cancel;
use crate::error::Error;
use crate::flush_ahead;

/// Flushes a directory and its files to disk.
pub(super) fn sync_directory(path: &Path, cancel: &Cancel) -> Result<(), Error> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(Error::io(path))? {
        let path = entry.map_err(Error::io(path))?.path();
        let file = File::open(&path).map_err(Error::io(&path))?;
        let size = file.metadata().map_err(Error::io(&path))?.len();
        files.push((path, file, size));
    }
    // Every write is started before the first wait. Each wait is short, so that Ctrl-C is noticed.
    for (path, file, size) in &files {
        flush_ahead::in_chunks(*size, cancel, |bytes| {
            flush_ahead::start(file, bytes).map_err(Error::io(path))
        })?;
    }
    for (path, file, size) in &files {
        flush_ahead::in_chunks(*size, cancel, |bytes| {
            flush_ahead::finish(file, bytes).map_err(Error::io(path))
        })?;
    }
    for (path, file, _) in &files {
        cancel.check()?;
        file.sync_all().map_err(Error::io(path))?;
    }
    cancel.check()?;
    File::open(path).and_then(|directory| directory.sync_all()).map_err(Error::io(path))?;
    cancel.check()
}
