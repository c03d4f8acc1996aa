//! The size and the BLAKE3 hash of a file.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use crate::cancel::Cancel;
use crate::error::Error;

/// Bytes read at a time: enough for BLAKE3's widest instructions, and few enough to stay in the cache.
const BUFFER: usize = 256 << 10;

/// The size of a file in bytes. A relative path starts at `directory`, if one is given.
pub fn size(path: &Path, directory: Option<BorrowedFd<'_>>) -> Result<u64, Error> {
    let status = rustix::fs::statat(directory.unwrap_or(CWD), path, AtFlags::empty())
        .map_err(|errno| Error::io(path)(errno.into()))?;
    Ok(status.st_size as u64)
}

/// The hash of a file. A relative path starts at `directory`, if one is given.
pub fn hash_file(
    path: &Path,
    directory: Option<BorrowedFd<'_>>,
    cancel: &Cancel,
) -> Result<blake3::Hash, Error> {
    // Opening a FIFO would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let mut file = rustix::fs::openat(directory.unwrap_or(CWD), path, flags, Mode::empty())
        .map(File::from)
        .map_err(|errno| Error::io(path)(errno.into()))?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        cancel.check()?;
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finalize()),
            Ok(n) => hasher.update(&buffer[..n]),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::io(path)(error)),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_hash_is_blake3() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        for size in [0, 1, BUFFER, 3 * BUFFER + 17] {
            let bytes: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(hash_file(&path, None, &Cancel::new()).unwrap(), blake3::hash(&bytes));
            let directory = File::open(folder.path()).unwrap();
            assert_eq!(super::size(Path::new("x"), Some(directory.as_fd())).unwrap(), bytes.len() as u64);
            let hash = hash_file(Path::new("x"), Some(directory.as_fd()), &Cancel::new()).unwrap();
            assert_eq!(hash, blake3::hash(&bytes));
        }
        let cancel = Cancel::new();
        cancel.cancel();
        assert!(matches!(hash_file(&path, None, &cancel), Err(Error::Cancelled)));
    }
}
