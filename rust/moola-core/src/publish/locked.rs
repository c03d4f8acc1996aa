//! Locked directories and their temporary names. A lock ends with its process.

use std::ffi::{OsStr, OsString};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::cancel::Cancel;
use crate::removal;

/// The end of a temporary directory's name.
pub(super) const SUFFIX: &str = ".moola-tmp";
/// Random characters in a temporary directory's name.
pub(super) const RANDOM: usize = 8;

/// The flags for opening directories.
pub(super) const OPEN: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK);

/// A directory whose lock this process holds.
#[derive(Debug)]
pub(super) struct Locked {
    pub(super) name: OsString,
    directory: Lock,
}

/// Unlocks when dropped, even if a forked child still has the descriptor. The child never unlocks.
#[derive(Debug)]
struct Lock {
    directory: OwnedFd,
    process: u32,
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.process == std::process::id() {
            let _ = rustix::fs::flock(&self.directory, FlockOperation::Unlock);
        }
    }
}

impl Locked {
    /// Makes a new temporary directory and locks it.
    pub(super) fn make(parent: &OwnedFd, store: &OsStr) -> Result<Locked, Errno> {
        loop {
            let name = temporary_name(store);
            match rustix::fs::mkdirat(parent, &name, Mode::from_raw_mode(0o777)) {
                Err(Errno::EXIST) => continue,
                outcome => outcome?,
            }
            match Locked::take(parent, &name) {
                Ok(Some(locked)) => return Ok(locked),
                // Another builder mistook it for a leftover and removed it before it was locked.
                Ok(None) => continue,
                Err(errno) => {
                    let _ = rustix::fs::unlinkat(parent, &name, AtFlags::REMOVEDIR);
                    return Err(errno);
                }
            }
        }
    }

    /// Locks the directory of this name. `None` if another process has locked it, or if it does not exist.
    pub(super) fn take(parent: &OwnedFd, name: &OsStr) -> Result<Option<Locked>, Errno> {
        let directory = match rustix::fs::openat(parent, name, OPEN, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            outcome => outcome?,
        };
        match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Ok(None),
            outcome => outcome?,
        }
        let locked = Locked { name: name.into(), directory: Lock { directory, process: std::process::id() } };
        Ok(locked.is_called(parent, name)?.then_some(locked))
    }

    /// Whether `name` still refers to this directory.
    pub(super) fn is_called(&self, parent: &OwnedFd, name: &OsStr) -> Result<bool, Errno> {
        removal::is_called(&self.directory.directory, parent, name)
    }

    pub(super) fn is_ours(&self) -> bool {
        self.directory.process == std::process::id()
    }

    pub(super) fn unlock(&self) {
        let _ = rustix::fs::flock(&self.directory.directory, FlockOperation::Unlock);
    }

    /// Removes the directory with its content, unless its name now refers to something else. The next build
    /// removes what could not be removed.
    pub(super) fn remove(&self, parent: &OwnedFd, cancel: &Cancel) {
        let _ = removal::remove(parent, &self.name, &self.directory.directory, cancel);
    }

    /// Tries the renames that publishing will need, on this empty directory. So an unsupported rename is
    /// refused before the work and not after it. The system checks the names first, so the test must be a
    /// rename that can succeed.
    pub(super) fn try_renames(
        &mut self,
        parent: &OwnedFd,
        store: &OsStr,
        exchange: bool,
    ) -> Result<(), Errno> {
        let name = loop {
            let name = temporary_name(store);
            match rustix::fs::renameat_with(parent, &self.name, parent, &name, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => continue,
                outcome => break outcome.map(|()| name)?,
            }
        };
        self.name = name;
        if exchange {
            let mut other = Locked::make(parent, store)?;
            let outcome =
                rustix::fs::renameat_with(parent, &self.name, parent, &other.name, RenameFlags::EXCHANGE);
            if outcome.is_ok() {
                std::mem::swap(&mut self.name, &mut other.name);
            }
            let removed = match other.is_called(parent, &other.name) {
                Ok(true) => rustix::fs::unlinkat(parent, &other.name, AtFlags::REMOVEDIR),
                outcome => outcome.map(drop),
            };
            outcome.and(removed)?;
        }
        Ok(())
    }
}

/// Random letters and digits.
pub(super) fn random() -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghijkmnpqrstuvwx";
    // The standard library's source of random keys. Names that are taken are skipped, so nothing depends on
    // it.
    let bits = RandomState::new().build_hasher().finish();
    (0..RANDOM).map(|i| DIGITS[(bits >> (5 * i)) as usize % DIGITS.len()] as char).collect()
}

/// A new name for an unfinished store.
pub(super) fn temporary_name(store: &OsStr) -> OsString {
    let mut name = OsString::from(".");
    name.push(store);
    name.push(format!(".{}{SUFFIX}", random()));
    name
}

/// Whether [`temporary_name`] can give this name.
fn is_temporary_name(name: &[u8], store: &OsStr) -> bool {
    name.strip_prefix(b".")
        .and_then(|rest| rest.strip_prefix(store.as_bytes()))
        .and_then(|rest| rest.strip_prefix(b"."))
        .and_then(|rest| rest.strip_suffix(SUFFIX.as_bytes()))
        .is_some_and(|random| random.len() == RANDOM && random.iter().all(u8::is_ascii_alphanumeric))
}

/// Removes the temporary directories of builders that have ended. Skips those that cannot be read or removed.
pub(super) fn clear_leftovers(parent: &OwnedFd, store: &OsStr, cancel: &Cancel) {
    let Ok(entries) = Dir::read_from(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_bytes();
        if is_temporary_name(name, store)
            && let Ok(Some(leftover)) = Locked::take(parent, OsStr::from_bytes(name))
        {
            leftover.remove(parent, cancel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_names_are_recognised() {
        let store = OsStr::new("a.b");
        for _ in 0..100 {
            let name = temporary_name(store);
            assert!(is_temporary_name(name.as_bytes(), store), "{name:?}");
            assert!(!is_temporary_name(name.as_bytes(), OsStr::new("a")));
        }
    }
}
