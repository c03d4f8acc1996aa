//! Writes large files sequentially, past the page cache, and hashes them on the way.
//!
//! For the dense layout the copy into the page cache is the most expensive step: the kernel has to find
//! pages, evict other data from them and write them back. So whole blocks go to the disk directly
//! (`O_DIRECT`), and are hashed while they are in the processor's cache. Writes are plain if the file system
//! refuses direct writes, and for the bytes after the last whole block.

use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::{Scope, ScopedJoinHandle};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::cancel::Cancel;
use crate::error::Error;
use crate::flush_ahead;

/// Bytes written at a time: a multiple of every disk's block size, and of [`HASHED`].
const BLOCK: usize = 4 << 20;

/// The alignment of a block in memory: at least what any disk needs.
const ALIGNMENT: usize = 4096;

/// Bytes hashed at a time: they fit in the second-level cache and make a whole subtree of BLAKE3.
const HASHED: usize = 128 << 10;

/// The most blocks queued between the caller and the writing thread.
const UNDER_WAY: usize = 3;

#[cfg(target_os = "linux")]
const DIRECT: OFlags = OFlags::DIRECT;
/// On other systems all writes are plain.
#[cfg(not(target_os = "linux"))]
const DIRECT: OFlags = OFlags::empty();

/// Memory aligned for direct writes.
struct Block {
    memory: Vec<u8>,
    /// Where the aligned bytes begin.
    start: usize,
}

impl Block {
    fn new() -> Self {
        let memory = vec![0; BLOCK + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        Block { memory, start }
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.start..][..BLOCK]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..][..BLOCK]
    }
}

/// The file that the writing thread writes.
struct Output {
    path: PathBuf,
    file: File,
    direct: bool,
    written: u64,
}

impl Output {
    /// Creates the file, which must not exist.
    fn create(path: &Path) -> Result<Self, Error> {
        let create = |flags: OFlags| {
            File::options().write(true).create_new(true).custom_flags(flags.bits() as i32).open(path)
        };
        let (file, direct) = match create(DIRECT) {
            // Linux creates the file before it refuses the flag, so the file must be removed first.
            Err(error) if is_refusal(&error) => {
                let _ = std::fs::remove_file(path);
                (create(OFlags::empty()), false)
            }
            outcome => (outcome, !DIRECT.is_empty()),
        };
        Ok(Output { path: path.into(), file: file.map_err(Error::io(path))?, direct, written: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let outcome = match self.file.write_all_at(bytes, self.written) {
            // Bytes written before the refusal are written again.
            Err(error) if self.direct && is_refusal(&error) => {
                self.write_plainly()?;
                self.file.write_all_at(bytes, self.written)
            }
            outcome => outcome,
        };
        let range = self.written..self.written + bytes.len() as u64;
        self.written = range.end;
        outcome
            .and_then(|()| if self.direct { Ok(()) } else { flush_ahead::start(&self.file, range) })
            .map_err(Error::io(&self.path))
    }

    /// Switches to plain writes, which go through the page cache and need no alignment.
    fn write_plainly(&mut self) -> Result<(), Error> {
        if self.direct {
            rustix::fs::fcntl_getfl(&self.file)
                .and_then(|flags| rustix::fs::fcntl_setfl(&self.file, flags.difference(DIRECT)))
                .map_err(|errno| Error::io(&self.path)(errno.into()))?;
            self.direct = false;
        }
        Ok(())
    }
}

/// Whether the error means that the file system refuses direct writes, or only this write.
fn is_refusal(error: &std::io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::INVAL | Errno::OPNOTSUPP))
}

/// Appends to a file that a separate thread writes.
pub struct DirectWriter<'scope> {
    block: Block,
    /// Bytes in the block.
    filled: usize,
    /// How many of these bytes are hashed.
    hashed: usize,
    hasher: blake3::Hasher,
    full: mpsc::SyncSender<(Block, usize)>,
    used: mpsc::Receiver<Block>,
    writer: ScopedJoinHandle<'scope, Result<u64, Error>>,
}

impl<'scope> DirectWriter<'scope> {
    /// Creates the file, which must not exist.
    pub fn create<'env>(
        scope: &'scope Scope<'scope, 'env>,
        path: &Path,
        cancel: &'scope Cancel,
    ) -> Result<Self, Error> {
        let mut output = Output::create(path)?;
        let (full, filled) = mpsc::sync_channel::<(Block, usize)>(UNDER_WAY);
        let (give_back, used) = mpsc::channel();
        let writer = scope.spawn(move || {
            for (block, n) in filled {
                cancel.check()?;
                if n < BLOCK {
                    output.write_plainly()?;
                }
                output.write(&block.bytes()[..n])?;
                // The caller may have finished and need no more blocks.
                let _ = give_back.send(block);
            }
            Ok(output.written)
        });
        let hasher = blake3::Hasher::new();
        Ok(DirectWriter { block: Block::new(), filled: 0, hashed: 0, hasher, full, used, writer })
    }

    /// Appends bytes. Fails if the writing thread has failed; [`DirectWriter::finish`] then returns the
    /// cause.
    pub fn append(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(self.hashed + HASHED - self.filled));
            self.block.bytes_mut()[self.filled..][..now.len()].copy_from_slice(now);
            self.filled += now.len();
            bytes = later;
            if self.filled == self.hashed + HASHED {
                self.hash();
            }
            if self.filled == BLOCK {
                let next = self.used.try_recv().unwrap_or_else(|_| Block::new());
                self.send(next)?;
            }
        }
        Ok(())
    }

    fn hash(&mut self) {
        self.hasher.update(&self.block.bytes()[self.hashed..self.filled]);
        self.hashed = self.filled;
    }

    fn send(&mut self, next: Block) -> Result<(), Error> {
        let block = std::mem::replace(&mut self.block, next);
        let filled = std::mem::take(&mut self.filled);
        self.hashed = 0;
        self.full.send((block, filled)).map_err(|_| Error::Cancelled)
    }

    /// Waits until everything is written, and returns the file's size and hash. Publishing flushes it to disk.
    pub fn finish(mut self) -> Result<(u64, blake3::Hash), Error> {
        if self.filled > 0 {
            self.hash();
            // If the writing thread has failed, `join` returns the cause.
            let _ = self.send(Block { memory: Vec::new(), start: 0 });
        }
        drop(self.full);
        match self.writer.join() {
            Ok(outcome) => Ok((outcome?, self.hasher.finalize())),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(n: usize) -> Vec<u8> {
        (0..n).map(|i| (i % 251) as u8).collect()
    }

    /// Writes `size` bytes in pieces of these lengths, in turn.
    fn write(
        path: &Path,
        size: usize,
        pieces: &[usize],
        cancel: &Cancel,
    ) -> Result<(u64, blake3::Hash), Error> {
        let data = bytes(size);
        std::thread::scope(|scope| {
            let mut writer = DirectWriter::create(scope, path, cancel)?;
            let (mut rest, mut pieces) = (&data[..], pieces.iter().cycle());
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(*pieces.next().unwrap()));
                // `finish` reports the failure.
                if writer.append(now).is_err() {
                    break;
                }
                rest = later;
            }
            writer.finish()
        })
    }

    #[test]
    fn the_file_and_the_hash_match_the_appended_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let sizes =
            [0, 1, 4096, HASHED - 1, HASHED, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 7 * BLOCK + 4097];
        for (i, size) in sizes.into_iter().enumerate() {
            for (j, pieces) in [&[4200][..], &[1, 128, 105], &[BLOCK + 17]].into_iter().enumerate() {
                let path = folder.path().join(format!("{i}-{j}"));
                let (written, hash) = write(&path, size, pieces, &Cancel::new()).unwrap();
                assert_eq!(written, size as u64);
                assert!(std::fs::read(&path).unwrap() == bytes(size), "{size} in {pieces:?}");
                assert_eq!(hash, blake3::hash(&bytes(size)));
            }
        }
    }

    #[test]
    fn a_refused_write_is_repeated_as_a_plain_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let mut output = Output::create(&path).unwrap();
        let mut block = Block::new();
        block.bytes_mut().copy_from_slice(&bytes(BLOCK));
        output.write(block.bytes()).unwrap();
        // No disk accepts this address or this length.
        output.write(&block.bytes()[1..100]).unwrap();
        output.write(&block.bytes()[100..]).unwrap();
        let expected = [&bytes(BLOCK)[..], &bytes(BLOCK)[1..]].concat();
        assert!(std::fs::read(&path).unwrap() == expected);
    }

    #[test]
    fn an_existing_file_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, "mine").unwrap();
        let outcome = write(&path, 10, &[10], &Cancel::new());
        assert!(
            matches!(outcome, Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists)
        );
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }

    #[test]
    fn cancelled_writing_stops() {
        let folder = tempfile::tempdir().unwrap();
        let cancel = Cancel::raised();
        let outcome = write(&folder.path().join("x"), 9 * BLOCK, &[BLOCK], &cancel);
        assert!(matches!(outcome, Err(Error::Cancelled)));
    }
}
