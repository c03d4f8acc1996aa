//! Removing large files for someone who is in a hurry.
//!
//! To give a file's pages and blocks back takes the kernel a third of a second for each gigabyte, and whoever lets go
//! of it last waits for that. Who has pressed Ctrl-C should not: the names go at once, and another process, which has
//! nothing else to do, is the last to let go.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Files of at least this many bytes are left to another process.
const LARGE: u64 = 32 << 20;

/// Removes a directory and the files in it. When this returns no name is left; the space of large files is free soon
/// after, even when this process has ended by then.
pub fn remove_at_once(directory: &Path) -> io::Result<()> {
    let mut large = Vec::new();
    for entry in fs::read_dir(directory)?.flatten() {
        let is_large = entry.metadata().is_ok_and(|meta| meta.is_file() && meta.len() >= LARGE);
        if is_large && let Ok(file) = File::open(entry.path()) {
            large.push(OwnedFd::from(file));
        }
    }
    let outcome = fs::remove_dir_all(directory);
    if !large.is_empty() {
        close_elsewhere(large);
    }
    outcome
}

/// Closes files in such a way that another process is the last to do so.
#[cfg(target_os = "linux")]
fn close_elsewhere(mut files: Vec<OwnedFd>) {
    use std::os::fd::AsRawFd;

    // The other process waits until this one, at whose end the pipe is closed in any case, has let go.
    let Ok((wait, go)) = io::pipe() else { return };
    files.push(wait.into());
    let mut kept: Vec<i32> = files.iter().map(AsRawFd::as_raw_fd).collect();
    kept.sort_unstable();
    let wait = files[files.len() - 1].as_raw_fd();
    // SAFETY: what follows `fork` in the child is system calls only, on memory that was ready before: all that is
    // allowed in the child of a process with threads. `_exit` runs nothing of ours.
    unsafe {
        match libc::fork() {
            0 => {
                // A child of a child is nobody's to wait for.
                if libc::fork() == 0 && close_all_but(&kept) {
                    libc::setsid();
                    let mut byte = 0_u8;
                    libc::read(wait, (&raw mut byte).cast(), 1);
                }
                libc::_exit(0)
            }
            // Then they are closed here, and take their time.
            -1 => {}
            child => {
                libc::waitpid(child, std::ptr::null_mut(), 0);
            }
        }
    }
    drop(files);
    drop(go);
}

/// Closes every descriptor but these, which ascend: somebody may be waiting for the end of a pipe, or for a lock.
#[cfg(target_os = "linux")]
fn close_all_but(kept: &[i32]) -> bool {
    let mut first = 0;
    let close = |first: i32, last: u32| {
        // SAFETY: the call takes numbers; the descriptors are this process's own, and nobody uses them any more.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) == 0 }
    };
    for &fd in kept {
        if first < fd && !close(first, fd as u32 - 1) {
            return false;
        }
        first = fd + 1;
    }
    close(first, u32::MAX)
}

/// Elsewhere it takes its time.
#[cfg(not(target_os = "linux"))]
fn close_elsewhere(_files: Vec<OwnedFd>) {}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn nothing_is_left_and_the_space_is_free_soon() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("directory");
        fs::create_dir_all(directory.join("deeper")).unwrap();
        fs::write(directory.join("deeper/small"), "small").unwrap();
        for name in ["one", "two"] {
            fs::write(directory.join(name), vec![1; LARGE as usize]).unwrap();
        }
        remove_at_once(&directory).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let patience = Instant::now();
        while is_open(&directory) {
            assert!(patience.elapsed() < Duration::from_secs(20), "some process never lets go");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether any process has a file that was in this directory open.
    fn is_open(directory: &Path) -> bool {
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let open = processes.filter_map(|process| fs::read_dir(process.path().join("fd")).ok()).flatten();
        open.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|path| path.starts_with(directory)))
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(remove_at_once(&folder.path().join("none")).is_err());
    }
}
