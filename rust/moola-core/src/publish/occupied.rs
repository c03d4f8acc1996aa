//! Finds out what exists at a store's path. Only a moola store can be replaced.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::locked::OPEN;

/// The first keys of `metadata.json` must lie within this many bytes.
const RECOGNISED: usize = 4096;

/// What exists under a store's name.
pub(super) enum Found {
    Nothing,
    Store,
    /// Something else; the text says what.
    Other(String),
}

/// Finds out what exists under `name`.
pub(super) fn look(parent: &OwnedFd, name: &OsStr) -> Result<Found, Errno> {
    let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(Found::Nothing),
        outcome => outcome?,
    };
    let other = |what: &str| Ok(Found::Other(what.into()));
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {}
        FileType::RegularFile => return other("there is a file of this name"),
        FileType::Symlink => return other("there is a symbolic link of this name"),
        _ => return other("there is something of this name that is neither file nor directory"),
    }
    let directory = rustix::fs::openat(parent, name, OPEN, Mode::empty())?;
    let mut empty = true;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        empty = false;
        let stat = rustix::fs::statat(&directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
        if !(is_store_file(name) || is_dropping(name))
            || FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile
        {
            let name = String::from_utf8_lossy(name);
            return Ok(Found::Other(format!(
                "there is a directory of this name with {name:?} in it, which is not a file of a store"
            )));
        }
    }
    if empty {
        return other("there is an empty directory of this name");
    }
    if has_our_metadata(directory.as_fd())? {
        Ok(Found::Store)
    } else {
        other("there is a directory of this name that is not a moola store")
    }
}

/// Whether a store's file may have this name, in either layout.
fn is_store_file(name: &[u8]) -> bool {
    let per_window = |name: &[u8]| {
        name.strip_prefix(b"features_")
            .and_then(|rest| rest.strip_suffix(b"d.npy"))
            .is_some_and(|width| !width.is_empty() && width.iter().all(u8::is_ascii_digit))
    };
    matches!(
        name,
        b"metadata.json"
            | b"splits.json"
            | b"features.npy"
            | b"valid.npy"
            | b"timestamps.npy"
            | b"bars.npy"
            | b"extra.npy"
            | b"valid_mask.npy"
            | b"window_starts.npy"
            | b"checksums.b3"
    ) || per_window(name)
}

/// Whether an operating system left this file in the store. `python/moola/store/layout.py` has the same list.
fn is_dropping(name: &[u8]) -> bool {
    matches!(name, b".DS_Store" | b".directory" | b"Thumbs.db" | b"desktop.ini")
        || name.starts_with(b"._")
        || name.starts_with(b".nfs")
}

/// Whether the metadata begins like a store's. Nothing more is checked, because a damaged store may be
/// replaced by a good one.
fn has_our_metadata(directory: BorrowedFd<'_>) -> Result<bool, Errno> {
    use std::io::Read;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::openat(directory, "metadata.json", flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(false),
        outcome => File::from(outcome?),
    };
    let mut start = Vec::new();
    file.take(RECOGNISED as u64)
        .read_to_end(&mut start)
        .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    let start = String::from_utf8_lossy(&start);
    Ok(["\"format_version\"", "\"store_id\"", "\"moola_version\""].iter().all(|key| start.contains(key)))
}
