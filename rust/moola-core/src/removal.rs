//! Removes a directory with large files in it, without making a cancelled caller wait.
//!
//! Freeing the pages and blocks of one gigabyte takes the kernel 0.05 to 0.33 s. The call that closes a file
//! last does this work, and no signal interrupts it. So all names are removed at once, while the large files
//! are held open, and a thread closes the files. A cancelled caller does not wait for that thread; only the
//! end of the process does. Files are not truncated in steps first, because a reader may have mapped the
//! store's files.
//!
//! Nothing is removed by its name only. The files are reached through an open handle of their directory. The
//! directory's own name is removed only while it still refers to that directory.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::cancel::Cancel;

/// Files of at least this many bytes are closed by another thread.
const LARGE: i64 = 32 << 20;

/// How often `cancel` is checked.
const LOOK: Duration = Duration::from_millis(5);

/// The flags for opening files and directories: they follow no symbolic link and do not wait for the writer
/// of a FIFO.
const OPEN: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

/// Whether `name` in `parent` refers to this file or directory.
///
/// # Errors
/// The system's error if this cannot be determined.
pub fn is_called(file: impl AsFd, parent: impl AsFd, name: &OsStr) -> Result<bool, Errno> {
    let ours = rustix::fs::fstat(file)?;
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(named) => Ok((named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino)),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Removes an open directory, called `name` in `parent`, with everything in it. It first removes all names,
/// then waits until the space is free or it is cancelled. The space becomes free in either case.
///
/// # Errors
/// `NotFound` if `name` refers to something else; nothing is removed then. Otherwise the system's error for a
/// name that cannot be removed.
pub fn remove(parent: impl AsFd, name: &OsStr, directory: impl AsFd, cancel: &Cancel) -> io::Result<()> {
    let elsewhere = || io::Error::new(io::ErrorKind::NotFound, "the name refers to another directory");
    let (parent, directory) = (parent.as_fd(), directory.as_fd());
    if !is_called(directory, parent, name)? {
        return Err(elsewhere());
    }
    let mut held = Vec::new();
    let emptied = empty(directory, &mut held);
    let outcome = emptied.and_then(|()| {
        if !is_called(directory, parent, name)? {
            return Err(elsewhere());
        }
        // If another process takes the name at this moment, this removes at most an empty directory.
        Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
    });
    if !held.is_empty() {
        close(held, cancel);
    }
    outcome
}

/// Removes everything in a directory. Large files are left open in `held`.
fn empty(directory: BorrowedFd<'_>, held: &mut Vec<File>) -> io::Result<()> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    for name in names {
        let name = OsStr::from_bytes(&name);
        let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            outcome => outcome?,
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let flags = if kind == FileType::Directory {
            let inner = rustix::fs::openat(directory, name, OPEN | OFlags::DIRECTORY, Mode::empty())?;
            empty(inner.as_fd(), held)?;
            AtFlags::REMOVEDIR
        } else {
            // A file that cannot be opened is freed in this call, which can take long.
            if kind == FileType::RegularFile
                && stat.st_size >= LARGE
                && let Ok(file) = rustix::fs::openat(directory, name, OPEN, Mode::empty())
            {
                held.push(file.into());
            }
            AtFlags::empty()
        };
        match rustix::fs::unlinkat(directory, name, flags) {
            Err(Errno::NOENT) => {}
            outcome => outcome?,
        }
    }
    Ok(())
}

/// Closes files on another thread, and waits for it until cancelled.
fn close(files: Vec<File>, cancel: &Cancel) {
    let (sender, closed) = mpsc::channel::<()>();
    let started = std::thread::Builder::new().name("moola-removal".into()).spawn(move || {
        drop(files);
        drop(sender);
    });
    // If no thread could be started, the files are closed already.
    while started.is_ok() && cancel.check().is_ok() {
        if closed.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout) {
            break;
        }
    }
}
