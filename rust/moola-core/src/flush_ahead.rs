//! Flushing data to disk while it is being written, so that the final `fsync` is short.
//!
//! This only saves time and makes the work cancellable up to the `fsync`. Only `fsync` makes the data safe.

use std::fs::File;
use std::io;
use std::ops::Range;

use crate::cancel::Cancel;
use crate::error::Error;

/// Bytes flushed at a time.
pub const CHUNK: u64 = 8 << 20;
/// At least the page size of every supported system.
pub const PAGE: u64 = 64 << 10;

/// Tells the kernel to start writing these bytes to disk. Does not wait.
#[cfg(target_os = "linux")]
pub fn start(file: &File, bytes: Range<u64>) -> io::Result<()> {
    sync_file_range(file, bytes, libc::SYNC_FILE_RANGE_WRITE)
}

/// Starts writing these bytes to disk if necessary, and waits until they are written.
#[cfg(target_os = "linux")]
pub fn finish(file: &File, bytes: Range<u64>) -> io::Result<()> {
    let all =
        libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    sync_file_range(file, bytes, all)
}

#[cfg(target_os = "linux")]
fn sync_file_range(file: &File, bytes: Range<u64>, flags: libc::c_uint) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: the call takes an open descriptor and numbers, and touches no memory of ours.
    let outcome = unsafe {
        libc::sync_file_range(file.as_raw_fd(), bytes.start as i64, (bytes.end - bytes.start) as i64, flags)
    };
    if outcome == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // The file system or a sandbox lacks the call. `fsync` does all of the work.
        Some(libc::ENOSYS | libc::EINVAL | libc::ESPIPE | libc::EPERM) => Ok(()),
        // Anything else is a failed write, which `fsync` might not report again.
        _ => Err(error),
    }
}

/// On other systems `fsync` does all of the work.
#[cfg(not(target_os = "linux"))]
pub fn start(_file: &File, _bytes: Range<u64>) -> io::Result<()> {
    Ok(())
}

/// On other systems `fsync` does all of the work.
#[cfg(not(target_os = "linux"))]
pub fn finish(_file: &File, _bytes: Range<u64>) -> io::Result<()> {
    Ok(())
}

/// Calls `each` for every [`CHUNK`] of a file of `size` bytes, and checks `cancel` before each.
pub fn in_chunks(
    size: u64,
    cancel: &Cancel,
    mut each: impl FnMut(Range<u64>) -> Result<(), Error>,
) -> Result<(), Error> {
    for begin in (0..size).step_by(CHUNK as usize) {
        cancel.check()?;
        each(begin..size.min(begin + CHUNK))?;
    }
    Ok(())
}
