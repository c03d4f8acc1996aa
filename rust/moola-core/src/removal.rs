//! Removing a directory with large files in it, without making a cancelled caller wait.
//!
//! The kernel takes from a twentieth to a third of a second to free a gigabyte of a file's pages and blocks. Whoever
//! closes the file last waits for that, in a call that no signal ends. So every name is removed at once, while the
//! large files are held open, and a thread closes them. A caller who is cancelled leaves that thread behind; only
//! the end of the process still waits for it. Files are not emptied first, in pieces: a reader may have mapped
//! what was a store.
//!
//! Nothing is removed by name alone. The files are reached through an open handle of their directory, and the
//! directory's own name is removed only while it still means that directory.

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

/// How often `cancel` is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// How files and directories are opened: never through a symbolic link, and without waiting for the writer of a FIFO.
const OPEN: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

/// Whether `name` in `parent` means this very file or directory.
///
/// # Errors
/// What the system says when it cannot tell.
pub fn is_called(file: impl AsFd, parent: impl AsFd, name: &OsStr) -> Result<bool, Errno> {
    let ours = rustix::fs::fstat(file)?;
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(named) => Ok((named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino)),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Removes a directory, which is open and called `name` in `parent`, with everything in it. It removes every name at
/// once, then waits until the space is free or it is cancelled. The space becomes free in either case.
///
/// # Errors
/// `NotFound` when `name` means something else, and then nothing is removed. Otherwise what the system says when a
/// name cannot be removed.
pub fn remove(parent: impl AsFd, name: &OsStr, directory: impl AsFd, cancel: &Cancel) -> io::Result<()> {
    let elsewhere = || io::Error::new(io::ErrorKind::NotFound, "the name means another directory");
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
            // A file that cannot be opened is freed in this call, which may take long.
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
    // Where no thread can be started, the files have been closed already.
    while started.is_ok() && cancel.check().is_ok() {
        if closed.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout) {
            break;
        }
    }
}
